"""``/App``: login, ping, logout, events (protocol.md §2)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError, ProblemError
from stardust_auto.wire.features import CONFIG_VERDICTS, MICROSECONDS, OWN_SECRET
from stardust_auto.wire.messages import AppInfo, Event, LoginReply, LoginRequest, PingReply
from stardust_auto.wire.reading import bind_json, members, not_convertible
from stardust_auto.wire.text import ID_LIMIT, TAG_LIMIT, clean_text

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call

_EVENT_LIMIT = 10_000
#: What this server can do beyond a StarServer.
_FEATURES = (CONFIG_VERDICTS, MICROSECONDS, OWN_SECRET)


def login(call: Call) -> LoginReply:
    """POST /App/Login (protocol.md §2.2). A wrong secret is refused; a StarServer answers it with the right one."""
    request = call.bind(LoginRequest)
    if not request.application:
        raise CallError(500, "名称不能为空！ (Parameter 'Name')")
    store = call.services.store
    version = (request.version or "").strip()
    app, issued = store.apps.login(
        request.application, request.secret or "", (request.app_name or "").strip(), version, call.address
    )
    client_id = clean_text(request.client_id, ID_LIMIT).strip() or secrets.token_hex(4)
    if "#" in client_id:
        raise CallError(400, "ClientId must not contain '#'")
    store.instances.seen(app.id, client_id, call.address, version=version[:50], local_ip=request.ip or "")
    return LoginReply(
        code=app.name if issued else None,
        secret=issued,
        name=app.name,
        token=call.services.tokens.issue(app.name, client_id),
        expire=call.services.tokens.seconds,
        server_time=store.clock(),
        features=_FEATURES,
    )


def keep_secret(call: Call) -> str:
    """POST /App/Secret: with the token of a login that was issued a secret, the secret that the application shall have instead.

    An extra of this server. A salted login does not tell the secret, so the server cannot take it from there. It works once, before
    anybody uses what was issued.
    """
    given = members(bind_json(call.body, "model")).get("secret")
    app = call.services.store.apps.find(call.services.tokens.read(call.token()).app)
    if app is None or not isinstance(given, str) or not call.services.store.apps.keep_secret(app, given, call.address):
        raise CallError(403, "the application has a secret that is in use")
    return app.name


def check(call: Call) -> dict[str, Any]:
    """POST /App/Check: what a login would be answered, without one. An extra of this server, for ``stardustctl doctor``.

    Nothing is written. ``secret`` is right, wrong, missing, new (a login would register it), unknown or disabled.
    """
    body = members(bind_json(call.body, "model"))
    request = LoginRequest.from_wire(body)
    services = call.services
    app, state = services.store.apps.examine(request.application, request.secret or "")
    if app is None or state != "right":
        return {"secret": state}
    version = services.releases.state(app).version
    try:
        keys, problem = len(services.releases.effective(app, clean_text(body.get("scope"), ID_LIMIT))), ""
    except CallError as error:
        keys, problem = 0, error.message
    return {
        "secret": state,
        "version": version,
        "keys": keys,
        "problem": problem,
        "online": len(services.store.instances.online_ids(app.id)),
        "sockets": len(services.hub.connected(app.id)),
        "excludes": list(app.policy.excludes),
        "max_samples": app.policy.max_samples,
        "dropped": app.dropped,
        "dropped_reason": app.dropped_reason,
    }


def ping(call: Call) -> PingReply:
    """POST /App/Ping: metrics in; period, a renewed token and open commands out (protocol.md §2.5)."""
    caller = call.caller()
    info = call.bind(AppInfo, "inf")
    services = call.services
    services.store.instances.ping(caller.app.id, caller.client_id, call.address, info)
    if info.config is not None:
        services.feedback.note(caller.app.id, caller.client_id, call.address, info.config)
    commands = services.store.commands.pending(caller.app.id, caller.client_id)
    return PingReply(
        time=info.time,
        server_time=services.store.clock(),
        period=caller.app.policy.ping_period,
        token=services.tokens.renewed(caller.identity),
        commands=tuple(command.message for command in commands) or None,
        features=_FEATURES,
    )


def logout(call: Call) -> LoginReply:
    """GET or POST /App/Logout?reason=... (protocol.md §2.6)."""
    caller = call.caller()
    reason = call.query.get("reason", "")
    if not reason:
        raise ProblemError(400, {"reason": ["The reason field is required."]})
    instances = call.services.store.instances
    instances.leave(caller.app.id, caller.client_id)
    event = (call.services.store.clock(), "info", "logout", clean_text(reason, 500))
    instances.add_events(caller.app.id, caller.client_id, [event])
    return LoginReply(name=caller.app.name)


def register(call: Call) -> str:
    """POST /App/Register: legacy, needs a token."""
    caller = call.caller()
    call.bind(LoginRequest)
    return caller.app.display_name or caller.app.name


def post_events(call: Call) -> int:
    """POST /App/PostEvents: a bare array; the number stored (protocol.md §2.7)."""
    caller = call.caller()
    call.require_json()
    value = bind_json(call.body, "events")
    if not isinstance(value, list):
        raise not_convertible("events", "EventModel[]")
    store = call.services.store
    events = [
        (event.time or store.clock(), event.type or "info", event.name or "", event.remark or "")
        for event in Event.list_from_wire(value[:_EVENT_LIMIT])
    ]
    store.instances.add_events(caller.app.id, caller.client_id, events)
    return len(events)


def log_lines(call: Call) -> None:
    """POST /Log: lines of plain text, kept as events. Unlike a StarServer it needs a token."""
    caller = call.caller()
    store = call.services.store
    lines = [line for line in call.body.decode("utf-8", "replace").splitlines() if line.strip()]
    events = [(store.clock(), "log", "log", clean_text(line, TAG_LIMIT)) for line in lines[:_EVENT_LIMIT]]
    store.instances.add_events(caller.app.id, caller.client_id, events)
