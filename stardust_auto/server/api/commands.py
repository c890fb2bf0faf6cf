"""``/App/SendCommand`` and ``/App/CommandReply`` (protocol.md §2.7, §12.4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from stardust_auto.server.errors import CallError, ProblemError
from stardust_auto.wire.messages import CommandReply, CommandRequest
from stardust_auto.wire.wildcards import matches

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.store.commands import Command

_LONGEST_WAIT_SECONDS = 60


def reply(call: Call) -> int:
    """POST /App/CommandReply: 1, or 0 for an unknown id; another application's command is ``code`` 403."""
    caller = call.caller()
    answer = call.bind(CommandReply)
    store = call.services.store
    command = store.commands.find(answer.id)
    if command is None:
        return 0
    if command.app_id != caller.app.id:
        raise CallError(403, f"[{caller.app.name}]越权访问其它应用的命令")
    store.commands.answer(command.id, answer.status, answer.data)
    call.services.hub.answered(command.id, answer.status, answer.data)
    return 1


def _queue(call: Call) -> tuple[list[Command], int]:
    caller = call.caller()
    request = call.bind(CommandRequest)
    if not request.code or not request.command:
        missing = "Command" if request.code else "Code"
        raise ProblemError(400, {missing: [f"The {missing} field is required."]})
    name, _, client_id = request.code.partition("@")
    store = call.services.store
    target = store.apps.find(name)
    if target is None:
        raise CallError(500, "无效应用 (Parameter 'Code')")
    if not matches(caller.app.allow_control, target.name):
        raise CallError(401, "无权操作！")
    clients: list[str | None] = [client_id] if client_id else []
    if not clients:
        clients.extend(dict.fromkeys([*call.services.hub.connected(target.id), *store.instances.online_ids(target.id)]))
    commands = store.commands.add(
        target.id,
        clients or [None],
        request.command,
        request.argument,
        start_time=store.clock() + request.start_time * 1000 if request.start_time > 0 else 0,
        expire_seconds=request.expire,
    )
    return commands, min(max(request.timeout, 0), _LONGEST_WAIT_SECONDS)


async def send(call: Call) -> CommandReply:
    """POST /App/SendCommand: queue, push, and wait up to ``Timeout`` seconds for the first answer.

    Without an answer the status is 0. A StarServer answers ``code`` 500 then, though it has queued the command.
    """
    commands, timeout = await run_in_threadpool(_queue, call)
    first = commands[0]
    if not timeout:
        await run_in_threadpool(call.services.push, commands)
        return CommandReply(first.id, first.status)
    waiting = asyncio.create_task(call.services.hub.first_answer([command.id for command in commands], timeout))
    await asyncio.sleep(0)  # the waiter is in place before the first frame leaves
    await run_in_threadpool(call.services.push, commands)
    answer = await waiting
    return CommandReply(*answer) if answer is not None else CommandReply(first.id, first.status)
