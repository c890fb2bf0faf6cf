"""Commands of the platform: each executed once, each answered (protocol.md §2.8, §12.4)."""

from __future__ import annotations

import contextvars
import heapq
import inspect
import itertools
import json
import sys
from typing import TYPE_CHECKING, Final

from stardust_auto.errors import ApiError
from stardust_auto.log import get_logger
from stardust_auto.process.signals import as_in_program
from stardust_auto.wire.messages import Command, CommandReply, CommandStatus

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

logger = get_logger(__name__)

#: How long the id of a command is remembered, in seconds: the server repeats it with each Ping until it is answered.
REMEMBER: Final = 3600.0
#: Commands that wait for their start; a hostile server cannot queue more.
_MAX_WAITING: Final = 1000
_MAX_REMEMBERED: Final = 20_000


class CommandRunner:
    """Decides what happens to each command. ``reply`` sends an answer; it may be called from a loop's thread.

    Handlers run on the background thread and must be short; coroutine functions, and whatever else a handler returns that
    can be awaited, run on the event loop that was running when they were registered, else on a loop of their own. They see
    no current span, so what they do can be traced.
    """

    def __init__(
        self, reply: Callable[[CommandReply], None], now_ms: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._reply = reply
        self._now_ms = now_ms
        self._clock = clock
        self._handlers: dict[str, tuple[Callable[[Command], object], asyncio.AbstractEventLoop | None]] = {
            "app/freememory": (_free_memory, None)
        }
        self._seen: dict[int, float] = {}
        self._waiting: list[tuple[int, int, Command]] = []
        self._order = itertools.count()

    def register(self, name: str, handler: Callable[[Command], object]) -> None:
        """Run ``handler(command)`` for commands called ``name``; its result is the answer (text, or JSON)."""
        asyncio = sys.modules.get("asyncio")
        loop = asyncio._get_running_loop() if asyncio is not None else None
        self._handlers[name.lower()] = (handler, loop)

    def forget(self) -> None:
        """A forked child is another instance: it has run nothing yet."""
        self._seen = {}
        self._waiting = []

    def accept(self, command: Command) -> None:
        """Take one command, from the socket or from a Ping."""
        if command.id > 0 and not self._is_new(command.id):
            return
        now = self._now_ms()
        if command.expire and command.expire < now:
            self._answer(command, CommandStatus.CANCELLED, "expired")
        elif (command.command or "").lower() not in self._handlers:
            self._answer(command, CommandStatus.ERROR, f"no handler for [{command.command or ''}]")
        elif command.start_time > now:
            if len(self._waiting) >= _MAX_WAITING:
                self._answer(command, CommandStatus.ERROR, "too many commands wait already")
                return
            heapq.heappush(self._waiting, (command.start_time, next(self._order), command))
            self._answer(command, CommandStatus.PROCESSING, "scheduled")
        else:
            self._execute(command)

    def run_waiting(self) -> float | None:
        """Run the commands whose time has come; seconds to the next one, None when none waits."""
        while self._waiting:
            left = (self._waiting[0][0] - self._now_ms()) / 1000
            if left > 0:
                return left
            command = heapq.heappop(self._waiting)[2]
            if command.expire and command.expire < self._now_ms():
                self._answer(command, CommandStatus.CANCELLED, "expired")
            else:
                self._execute(command)
        return None

    def _is_new(self, command_id: int) -> bool:
        now = self._clock()
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] > now and len(self._seen) < _MAX_REMEMBERED:
                break
            del self._seen[oldest]
        if command_id in self._seen:
            return False
        self._seen[command_id] = now + REMEMBER
        return True

    def _execute(self, command: Command) -> None:
        handler, loop = self._handlers[(command.command or "").lower()]
        with as_in_program():
            try:
                result = contextvars.Context().run(handler, command)
            except Exception as error:  # noqa: BLE001 - a handler of the application may raise anything
                self._failed(command, error)
                return
            if inspect.isawaitable(result):
                self._execute_async(result, command, loop)
            else:
                self._finish(command, lambda: result)

    def _execute_async(
        self, result: Awaitable[object], command: Command, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        import asyncio

        if loop is not None and loop.is_running():
            future = contextvars.Context().run(asyncio.run_coroutine_threadsafe, _await(result), loop)
            future.add_done_callback(lambda done: self._finish(command, done.result))
        else:
            self._finish(command, lambda: contextvars.Context().run(asyncio.run, _await(result)))

    def _finish(self, command: Command, run: Callable[[], object]) -> None:
        try:
            result = run()
            text = result if isinstance(result, str) else "" if result is None else json.dumps(result, default=str)
        except Exception as error:  # noqa: BLE001 - a handler of the application may raise anything
            self._failed(command, error)
        else:
            self._answer(command, CommandStatus.DONE, text)

    def _failed(self, command: Command, error: Exception) -> None:
        if isinstance(error, ApiError):
            self._answer(command, CommandStatus.CANCELLED if error.code == 400 else CommandStatus.ERROR, error.message)
            return
        logger.warning("command %s failed: %s: %s", command.command, type(error).__name__, error)
        self._answer(command, CommandStatus.ERROR, f"{type(error).__name__}: {error}")

    def _answer(self, command: Command, status: CommandStatus, data: str) -> None:
        if command.id > 0:
            self._reply(CommandReply(command.id, int(status), data))


async def _await(result: Awaitable[object]) -> object:
    return await result


def _free_memory(_command: Command) -> str:
    import gc

    return f"{gc.collect()} objects freed"
