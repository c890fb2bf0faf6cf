"""``/Config``: the map of an application (protocol.md §6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError
from stardust_auto.wire.envelope import parse_json
from stardust_auto.wire.fields import local_text
from stardust_auto.wire.messages import ConfigReply, ConfigRequest
from stardust_auto.wire.reading import members, read_text
from stardust_auto.wire.text import ID_LIMIT, NAME_LIMIT, clean_text

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.releases.releases import ConfigApp
    from stardust_auto.server.store.apps import App

_VALUE_LIMIT = 1_000_000


def get_all(call: Call) -> ConfigReply:
    """GET or POST /Config/GetAll. ``configs`` is null when the caller has this version already (protocol.md §6.1)."""
    posted = call.method == "POST"
    request = ConfigRequest.from_wire(json_body(call) if posted else call.query)
    if not posted:
        request = replace(request, used_keys=None, missed_keys=None)  # not parameters of the GET action
    app, client_id = _authorise(call, request)
    store = call.services.store
    releases = call.services.releases
    state = releases.state(app)
    if not state.enabled:
        raise CallError(500, f"应用[{app.name}]已禁用！ (Parameter 'appId')")
    scope = _scope(request)
    unchanged = _note(call, app, client_id, request, state)
    if unchanged and not posted:
        return ConfigReply(version=state.version, update_time=local_text(state.updated))
    configs: dict[str, str | None] | None = None
    if not unchanged:
        configs = dict(releases.effective(app, scope))
        if state.enable_worker_id:
            configs["NewLife.WorkerId"] = str(store.instances.worker_id(app.id, client_id))
    return ConfigReply(
        version=state.version,
        scope=scope or None,
        source_ip=call.address,
        next_version=state.next_version,
        next_publish=local_text(state.next_publish) if state.next_publish else "",
        update_time=local_text(state.updated),
        configs=configs,
        # The official clients use GET; their answers stay as a StarServer gives them.
        coherent=True if posted else None,
    )


def _scope(request: ConfigRequest) -> str:
    return clean_text(request.scope, ID_LIMIT).strip()


def _note(call: Call, app: App, client_id: str, request: ConfigRequest, state: ConfigApp) -> bool:
    """Note what the instance uses; return whether it has this version in this scope already.

    A version above the application's comes from another life of the server: the whole map is sent. A StarServer
    answers null for ever (protocol.md §6.3).
    """
    store = call.services.store
    scope = _scope(request)
    known = store.instances.scope(app.id, client_id)
    columns: dict[str, Any] = {"scope": scope, "served_version": state.version}
    if request.used_keys is not None:
        columns["used_keys"] = request.used_keys
    if request.missed_keys is not None:
        columns["missed_keys"] = request.missed_keys
    store.instances.seen(app.id, client_id, call.address, **columns)
    return (known or "") == scope and request.version > 0 and request.version == state.version


def json_body(call: Call) -> dict[str, Any]:
    """The members of the body by lower-case name, read as the platform's own parser does.

    Raises:
        CallError: 500, the body is not a JSON object.
    """
    call.require_json(empty=True)
    try:
        value = parse_json(call.body)
    except ValueError as error:
        raise CallError(500, f"the body is {error}") from error
    if not isinstance(value, dict):
        raise CallError(500, "the body is not a JSON object")
    return members(value)


def _authorise(call: Call, request: ConfigRequest) -> tuple[App, str]:
    """The application and the instance: by token, else by application and plain secret (protocol.md §6.2)."""
    name = (request.app_id or "").strip()
    if call.token():
        caller = call.caller(traced=False)
        if name and name.lower() != caller.app.name.lower():
            raise CallError(403, f"the token is for {caller.app.name}, not for {name}")
        return caller.app, caller.client_id
    if not name:
        raise CallError(500, "Value cannot be null. (Parameter 'AppId')")
    app = password_login(call, name, request.secret or "")
    return app, clean_text(request.client_id, ID_LIMIT).strip() or call.address


def password_login(call: Call, name: str, secret: str) -> App:
    """The application for a plain secret; an unknown one is created with it when that is allowed (protocol.md §2.9).

    Raises:
        CallError: 403.
    """
    apps = call.services.store.apps
    app = apps.find(name)
    if app is None:
        if not secret or secret.startswith("$") or not call.services.settings.auto_register:
            raise CallError(403, f"非法访问应用[{name}]！")
        app = apps.create(name, secret)
    if not app.enabled:
        raise CallError(403, f"应用[{app.name}]已禁用！")
    apps.check(app, secret)
    return app


def set_all(call: Call) -> int:
    """POST /Config/SetAll: stages missing keys; the number of keys in the request (protocol.md §6.7)."""
    body = json_body(call)
    app, client_id = _authorise(call, ConfigRequest.from_wire(body))
    raw = body.get("configs")
    if not isinstance(raw, dict):
        return 0
    configs = {}
    for key, value in raw.items():
        text, comment = value, ""
        if isinstance(value, dict):
            text, comment = value.get("Value"), clean_text(value.get("Comment"), NAME_LIMIT)
        configs[clean_text(key, NAME_LIMIT).strip()] = (read_text(text, _VALUE_LIMIT) or "", comment)
    store = call.services.store
    call.services.releases.add_missing(app, configs)
    store.instances.seen(app.id, client_id, call.address)
    return len(raw)
