"""`/App`: login, ping, logout, events (protocol.md §2)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError, ProblemError
from stardust_auto.server.reading import clean, loose_time, members, strict_json

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.reading import FieldKind

_LOGIN: dict[str, FieldKind] = {
    "AppId": "text",
    "Code": "text",
    "Secret": "text",
    "ClientId": "text",
    "Version": "text",
    "Compile": "int64",
    "IP": "text",
    "Macs": "text",
    "UUID": "text",
    "Time": "int64",
    "AppName": "text",
    "NodeCode": "text",
    "Project": "text",
}
INFO: dict[str, FieldKind] = {
    "Id": "int32",
    "Name": "text",
    "Version": "text",
    "AppName": "text",
    "CommandLine": "text",
    "UserName": "text",
    "MachineName": "text",
    "IP": "text",
    "StartTime": "date",
    "ProcessorTime": "int64",
    "CpuUsage": "double",
    "WorkingSet": "int64",
    "HeapSize": "int64",
    "Threads": "int32",
    "Handles": "int32",
    "Connections": "int32",
    "WorkerThreads": "int32",
    "IOThreads": "int32",
    "AvailableThreads": "int32",
    "PendingItems": "int64",
    "CompletedItems": "int64",
    "Listens": "text",
    "GCCount": "int32",
    "Time": "int64",
}
_EVENT_LIMIT = 10_000


def login(call: Call) -> dict[str, Any]:
    """POST /App/Login (protocol.md §2.2). A wrong secret is refused, where a real StarServer hands out the right one."""
    model = call.bind("model", _LOGIN)
    name = (model.get("appid") or model.get("code") or "").strip()
    if not name:
        raise CallError(500, "名称不能为空！ (Parameter 'Name')")
    store = call.services.store
    app, issued = store.apps.login(
        name, model.get("secret", ""), model.get("appname", "").strip(), model.get("version", "").strip(), call.address
    )
    client_id = clean(model.get("clientid"), 50).strip() or secrets.token_hex(4)
    if "#" in client_id:
        raise CallError(400, "ClientId must not contain '#'")
    columns = {"version": model.get("version", "")[:50], "local_ip": model.get("ip", "")[:200]}
    store.instances.seen(app.id, client_id, call.address, **columns)
    return {
        "code": app.name if issued else None,
        "secret": issued,
        "name": app.name,
        "token": call.services.tokens.issue(app.name, client_id),
        "expire": call.services.tokens.seconds,
        "time": 0,
        "serverTime": store.clock(),
    }


def ping(call: Call) -> dict[str, Any]:
    """POST /App/Ping: metrics in; period, a renewed token and open commands out (protocol.md §2.5)."""
    caller = call.caller()
    info = call.bind("inf", INFO)
    services = call.services
    services.store.instances.ping(caller.app.id, caller.client_id, call.address, info)
    commands = services.store.commands.pending(caller.app.id, caller.client_id)
    return {
        "time": info.get("time", 0),
        "serverTime": services.store.clock(),
        "period": caller.app.ping_period,
        "token": services.tokens.renewed(caller.identity),
        "newServer": None,
        "commands": [command.reply() for command in commands] or None,
    }


def logout(call: Call) -> dict[str, Any]:
    """GET or POST /App/Logout?reason=... (protocol.md §2.6)."""
    caller = call.caller()
    reason = call.query.get("reason", "")
    if not reason:
        raise ProblemError(400, {"reason": ["The reason field is required."]})
    store = call.services.store
    store.instances.leave(caller.app.id, caller.client_id)
    store.instances.add_events(caller.app.id, caller.client_id, [(store.clock(), "info", "logout", clean(reason, 500))])
    name = caller.app.name
    return {"code": None, "secret": None, "name": name, "token": None, "expire": 0, "time": 0, "serverTime": 0}


def register(call: Call) -> str:
    """POST /App/Register: legacy, needs a token."""
    caller = call.caller()
    call.bind("model", _LOGIN)
    return caller.app.display_name or caller.app.name


def post_events(call: Call) -> int:
    """POST /App/PostEvents: a bare array; the number stored (protocol.md §2.7)."""
    caller = call.caller()
    call.require_json()
    value = strict_json(call.body, "events")
    if not isinstance(value, list):
        text = "The JSON value could not be converted to EventModel[]. Path: $ | LineNumber: 0 | BytePositionInLine: 1."
        raise ProblemError(400, {"$": [text], "events": ["The events field is required."]})
    store = call.services.store
    events = []
    for item in value[:_EVENT_LIMIT]:
        event = members(item)
        events.append(
            (
                loose_time(event.get("time")) or store.clock(),
                clean(event.get("type"), 20) or "info",
                clean(event.get("name"), 200),
                clean(event.get("remark"), 2000),
            )
        )
    store.instances.add_events(caller.app.id, caller.client_id, events)
    return len(events)


def log_lines(call: Call) -> None:
    """POST /Log: plain text lines, kept as events. Unlike a real StarServer it wants a token."""
    caller = call.caller()
    store = call.services.store
    lines = [line for line in call.body.decode("utf-8", "replace").splitlines() if line.strip()]
    events = [(store.clock(), "log", "log", clean(line, 2000)) for line in lines[:_EVENT_LIMIT]]
    store.instances.add_events(caller.app.id, caller.client_id, events)
