"""`/Config`: the map of an application (protocol.md §6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError
from stardust_auto.server.reading import INT32, clean, loose_int, members, parse_json
from stardust_auto.server.store.registry import local_time

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.configs import ConfigApp


@dataclass(frozen=True, slots=True)
class _Request:
    app_id: str
    secret: str
    client_id: str
    scope: str
    version: int
    used_keys: str | None
    missed_keys: str | None


def get_all(call: Call) -> dict[str, Any]:
    """GET or POST /Config/GetAll. `configs` is always there: null when the caller has it already (protocol.md §6.1)."""
    if call.method == "POST":
        model = _body(call)
        request = _request(model, used=model.get("usedkeys"), missed=model.get("missedkeys"))
    else:
        request = _request(call.query, used=None, missed=None)
    app, client_id = _authorise(call, request)
    store = call.services.store
    state = store.configs.state(app)
    if not state.enabled:
        raise CallError(500, f"应用[{app.name}]已禁用！ (Parameter 'appId')")
    unchanged = _note(call, app, client_id, request, state)
    if unchanged and call.method != "POST":
        blank = {"version": state.version, "scope": None, "sourceIP": None, "nextVersion": 0, "nextPublish": None}
        return {**blank, "updateTime": local_time(state.updated), "configs": None}
    reply: dict[str, Any] = {
        "version": state.version,
        "scope": request.scope or None,
        "sourceIP": call.address,
        "nextVersion": state.next_version,
        "nextPublish": local_time(state.next_publish) if state.next_publish else "",
        "updateTime": local_time(state.updated),
        "configs": None,
    }
    if not unchanged:
        configs = store.configs.effective(app, request.scope)
        if state.enable_worker_id:
            online = store.instances.online_ids(app.id)
            configs["NewLife.WorkerId"] = str(store.configs.worker_id(app.id, client_id, online))
        reply["configs"] = configs
    return reply


def _note(call: Call, app: App, client_id: str, request: _Request, state: ConfigApp) -> bool:
    """Note what the instance uses; whether it has this version in this scope already.

    A version above ours comes from another life of the server: the whole map is sent, where a real StarServer
    answers null for ever (protocol.md §6.3).
    """
    store = call.services.store
    known = store.instances.scope(app.id, client_id)
    columns: dict[str, Any] = {"scope": request.scope, "config_version": state.version}
    if request.used_keys is not None:
        columns["used_keys"] = clean(request.used_keys, 4000)
    if request.missed_keys is not None:
        columns["missed_keys"] = clean(request.missed_keys, 4000)
    store.instances.seen(app.id, client_id, call.address, **columns)
    return (known or "") == request.scope and request.version > 0 and request.version == state.version


def _body(call: Call) -> dict[str, Any]:
    call.require_json(empty=True)
    try:
        value = parse_json(call.body)
    except ValueError as exc:
        raise CallError(500, f"the body is no JSON: {clean(exc, 100)}") from exc
    if not isinstance(value, dict):
        raise CallError(500, "the body is no JSON object")
    return members(value)


def _request(model: Any, *, used: object, missed: object) -> _Request:
    return _Request(
        app_id=clean(model.get("appid"), 50).strip(),
        secret=clean(model.get("secret"), 200),
        client_id=clean(model.get("clientid"), 50).strip(),
        scope=clean(model.get("scope"), 50).strip(),
        version=loose_int(model.get("version"), INT32),
        used_keys=None if used is None else str(used),
        missed_keys=None if missed is None else str(missed),
    )


def _authorise(call: Call, request: _Request) -> tuple[App, str]:
    """The application and the instance: by token, else by application and plain secret (protocol.md §6.2)."""
    if call.token():
        caller = call.caller(traced=False)
        if request.app_id and request.app_id.lower() != caller.app.name.lower():
            raise CallError(
                403, f"[{caller.app.name}]越权访问应用[{request.app_id}] (the token is for another application)"
            )
        return caller.app, caller.client_id
    if not request.app_id:
        raise CallError(500, "Value cannot be null. (Parameter 'AppId')")
    app = password_login(call, request.app_id, request.secret)
    return app, request.client_id or call.address


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
    model = _body(call)
    app, client_id = _authorise(call, _request(model, used=None, missed=None))
    raw = model.get("configs")
    if not isinstance(raw, dict):
        return 0
    configs = {}
    for key, value in raw.items():
        text, comment = value, ""
        if isinstance(value, dict):
            text, comment = value.get("Value"), clean(value.get("Comment"), 200)
        configs[clean(key, 200).strip()] = (_text(text), comment)
    store = call.services.store
    store.configs.add_missing(app, configs)
    store.instances.seen(app.id, client_id, call.address)
    return len(raw)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(value, 1_000_000)
