"""`/App/SendCommand` and `/App/CommandReply` (protocol.md §2.7, §12.4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from stardust_auto.server.errors import CallError, ProblemError
from stardust_auto.server.reports import matches

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.reading import FieldKind
    from stardust_auto.server.store.commands import Command

_SEND: dict[str, FieldKind] = {
    "Code": "text",
    "Command": "text",
    "Argument": "text",
    "StartTime": "int32",
    "Expire": "int32",
    "Timeout": "int32",
}
_REPLY: dict[str, FieldKind] = {"Id": "int64", "Status": "int32", "Data": "text"}


def reply(call: Call) -> int:
    """POST /App/CommandReply: 1, or 0 for an unknown id; another application's command is `code` 403."""
    caller = call.caller()
    model = call.bind("model", _REPLY)
    store = call.services.store
    command = store.commands.find(model.get("id", 0))
    if command is None:
        return 0
    if command.app_id != caller.app.id:
        raise CallError(403, f"[{caller.app.name}]越权访问其它应用的命令")
    status, data = model.get("status", 0), model.get("data")
    store.commands.answer(command.id, status, data)
    call.services.hub.answered(command.id, status, data)
    return 1


def _queue(call: Call) -> tuple[list[Command], int]:
    caller = call.caller()
    model = call.bind("model", _SEND)
    for name in ("Code", "Command"):
        if not model.get(name.lower()):
            raise ProblemError(400, {name: [f"The {name} field is required."]})
    name, _, client_id = model["code"].partition("@")
    store = call.services.store
    target = store.apps.find(name)
    if target is None:
        raise CallError(500, "无效应用 (Parameter 'Code')")
    if not any(matches(pattern, target.name) for pattern in caller.app.allow_control):
        raise CallError(401, "无权操作！")
    clients: list[str | None] = [client_id] if client_id else []
    if not clients:
        clients.extend(dict.fromkeys([*call.services.hub.connected(target.id), *store.instances.online_ids(target.id)]))
    delay = max(model.get("starttime", 0), 0)
    commands = store.commands.add(
        target.id,
        clients or [None],
        model["command"],
        model.get("argument"),
        start_time=store.clock() + delay * 1000 if delay else 0,
        expire_seconds=model.get("expire", 0),
    )
    return commands, min(max(model.get("timeout", 0), 0), 60)


async def send(call: Call) -> dict[str, Any]:
    """POST /App/SendCommand: queue, push, and wait up to `Timeout` seconds for the first answer.

    Without an answer the status is 0 (a real StarServer answers `code` 500 though it queued the command).
    """
    commands, timeout = await run_in_threadpool(_queue, call)
    first = commands[0]
    if not timeout:
        await run_in_threadpool(call.services.push, commands)
        return {"id": first.id, "status": first.status, "data": None}
    waiting = asyncio.create_task(call.services.hub.first_answer([command.id for command in commands], timeout))
    await asyncio.sleep(0)  # the waiter is in place before the first frame leaves
    await run_in_threadpool(call.services.push, commands)
    answer = await waiting
    if answer is None:
        return {"id": first.id, "status": first.status, "data": None}
    return {"id": answer[0], "status": answer[1], "data": answer[2]}
