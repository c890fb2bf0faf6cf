"""Commands of the platform, each executed once and answered, and the events of this instance (protocol.md §2.7, §2.8, §12.4)."""

from __future__ import annotations

import contextvars
import heapq
import inspect
import itertools
import json
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from stardust_auto.errors import ApiError, StardustError, UnavailableError
from stardust_auto.log import get_logger
from stardust_auto.process.signals import as_in_program
from stardust_auto.transport.http import json_request
from stardust_auto.wire.messages import Command, CommandReply, CommandStatus, Event

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from stardust_auto.process.background import Worker
    from stardust_auto.process.clock import Clock
    from stardust_auto.session.connection import Connection

    Handler = Callable[[Command], object]

logger = get_logger(__name__)

#: How long the id of a command is remembered: the server repeats it with each Ping until it is answered.
REMEMBERED_SECONDS: Final = 3600.0
_MAX_REMEMBERED: Final = 20_000
#: Commands that have arrived; more are left to the next Ping.
_MAX_INBOX: Final = 1000
#: Commands that wait for their start time; a hostile server cannot queue more.
_MAX_SCHEDULED: Final = 1000
#: Commands that run or whose answer is not sent yet. No other is begun before, so that no answer is lost.
_MAX_UNANSWERED: Final = 100
#: The server takes as many in one call.
_MAX_EVENTS: Final = 100


class Commands:
    """A task of the worker: takes commands in, runs each once, sends the answers and the events.

    Handlers run on the background thread and must be short.
    An awaitable that a handler returns runs on the event loop that was running at the registration, else on a loop of its own.
    A handler sees no current span, so what it does can be traced.
    """

    name = "commands"

    def __init__(self, connection: Connection, worker: Worker, clock: Clock) -> None:
        self._connection = connection
        self._worker = worker
        self._clock = clock
        self._handlers: dict[str, tuple[Handler, asyncio.AbstractEventLoop | None]] = {
            "app/freememory": (_free_memory, None)
        }
        self._listeners: dict[str, tuple[Handler, ...]] = {}
        self.reset()

    def reset(self) -> None:
        """As new. A forked child is another instance: it answers nothing that its parent was asked."""
        self._inbox: deque[Command] = deque()
        self._scheduled: list[tuple[int, int, Command]] = []
        self._order = itertools.count()
        self._seen: dict[int, float] = {}
        #: Commands that run on a loop of the program, by a number of our own.
        self._running: dict[int, asyncio.AbstractEventLoop] = {}
        self._replies: deque[CommandReply] = deque()
        self._events: deque[Event] = deque(maxlen=_MAX_EVENTS)

    def register(self, name: str, handler: Handler) -> None:
        """Run ``handler(command)`` for commands called ``name``; its result is the answer (text, or JSON). It replaces an earlier one."""
        asyncio = sys.modules.get("asyncio")
        loop = asyncio._get_running_loop() if asyncio is not None else None
        self._handlers[name.lower()] = (handler, loop)

    def listen(self, name: str, listener: Handler) -> None:
        """Tell ``listener(command)`` of commands called ``name`` as well. Any number may listen; they do not answer."""
        others = self._listeners.get(name.lower(), ())
        if listener not in others:
            self._listeners[name.lower()] = (*others, listener)

    def unlisten(self, name: str, listener: Handler) -> None:
        """Undo :meth:`listen`."""
        self._listeners[name.lower()] = tuple(one for one in self._listeners.get(name.lower(), ()) if one != listener)

    def accept(self, *commands: Command) -> None:
        """Commands have arrived, by the socket or with a Ping. What there is no room for comes again with the next Ping."""
        self._inbox.extend(commands[: max(0, _MAX_INBOX - len(self._inbox))])
        self.wake()

    def post_event(self, kind: str, name: str, remark: str = "") -> None:
        """Note an event (kind info, alert or error) for the application's history; it is sent when there is a connection."""
        self._events.append(Event(self._connection.now_ms(), kind, name, remark))
        self.wake()

    def wake(self) -> None:
        """Run soon."""
        self._worker.schedule(self, sooner=True)

    def run(self) -> float | None:
        """Run what has arrived or is due, and send what there is to say."""
        while self._inbox and self._has_room():
            self._begin(self._inbox.popleft())
        delay = self._run_scheduled()
        try:
            self._send()
        except UnavailableError as error:
            logger.debug("answers wait: %s", error)  # the session wakes this task when the server is back
            return delay
        return 0.0 if self._inbox and self._has_room() else delay

    def finish(self, deadline: float) -> None:
        """Nothing: the session runs this once more before it logs out."""

    # -- running -----------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether another command may begin. A loop that has stopped will never finish what runs on it."""
        running = sum(loop.is_running() for loop in tuple(self._running.values()))
        return len(self._replies) + running < _MAX_UNANSWERED

    def _begin(self, command: Command) -> None:
        if command.id > 0 and not self._is_new(command.id):
            return
        now = self._connection.now_ms()
        name = (command.command or "").lower()
        if command.expire and command.expire < now:
            self._answer(command, CommandStatus.CANCELLED, "expired")
        elif name not in self._handlers and not self._listeners.get(name):
            self._answer(command, CommandStatus.ERROR, f"no handler for [{command.command or ''}]")
        elif command.start_time > now:
            if len(self._scheduled) >= _MAX_SCHEDULED:
                self._answer(command, CommandStatus.ERROR, "too many commands wait already")
                return
            heapq.heappush(self._scheduled, (command.start_time, next(self._order), command))
            self._answer(command, CommandStatus.PROCESSING, "scheduled")
        else:
            self._execute(command)

    def _run_scheduled(self) -> float | None:
        """Run the commands whose time has come; seconds to the next one, ``None`` when none waits."""
        while self._scheduled:
            left = (self._scheduled[0][0] - self._connection.now_ms()) / 1000
            if left > 0:
                return left
            command = heapq.heappop(self._scheduled)[2]
            if command.expire and command.expire < self._connection.now_ms():
                self._answer(command, CommandStatus.CANCELLED, "expired")
            else:
                self._execute(command)
        return None

    def _is_new(self, command_id: int) -> bool:
        now = self._clock.monotonic()
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] > now and len(self._seen) < _MAX_REMEMBERED:
                break
            del self._seen[oldest]
        if command_id in self._seen:
            return False
        self._seen[command_id] = now + REMEMBERED_SECONDS
        return True

    def _execute(self, command: Command) -> None:
        name = (command.command or "").lower()
        for listener in self._listeners.get(name, ()):
            try:
                contextvars.Context().run(listener, command)
            except Exception as error:  # noqa: BLE001 - one listener must not keep the others from hearing
                logger.warning("a listener of command %s failed: %s", name, describe(error))
        handler, loop = self._handlers.get(name, (_heard, None))
        with as_in_program():
            try:
                result = contextvars.Context().run(handler, command)
                if inspect.isawaitable(result):
                    self._await(result, command, loop)
                else:
                    self._answer(command, CommandStatus.DONE, _text(result))
            except BaseException as error:
                # A handler called "restart" may call sys.exit(), and CancelledError is no Exception: neither may end our thread.
                self._failed(command, error)
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    raise

    def _await(self, result: Awaitable[object], command: Command, loop: asyncio.AbstractEventLoop | None) -> None:
        import asyncio

        if loop is None or not loop.is_running():
            self._answer(command, CommandStatus.DONE, _text(contextvars.Context().run(asyncio.run, _awaited(result))))
            return

        number = next(self._order)

        def done(future: object) -> None:
            self._running.pop(number, None)
            try:
                self._answer(command, CommandStatus.DONE, _text(future.result()))  # type: ignore[attr-defined]  # a future of either kind
            except BaseException as error:  # noqa: BLE001 - as above; this runs in the program's loop
                self._failed(command, error)

        self._running[number] = loop
        contextvars.Context().run(asyncio.run_coroutine_threadsafe, _awaited(result), loop).add_done_callback(done)

    def _failed(self, command: Command, error: BaseException) -> None:
        if isinstance(error, ApiError):
            self._answer(command, CommandStatus.CANCELLED if error.code == 400 else CommandStatus.ERROR, error.message)
            return
        logger.warning("command %s failed: %s", command.command, describe(error))
        self._answer(command, CommandStatus.ERROR, describe(error))

    def _answer(self, command: Command, status: CommandStatus, data: str) -> None:
        if command.id > 0:
            self._replies.append(CommandReply(command.id, int(status), data))
            self.wake()

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        while self._replies:
            self._call("App/CommandReply", self._replies[0].to_wire(), "the answer to a command was refused")
            self._replies.popleft()
        if self._events and self._connection.online:
            events = [self._events.popleft() for _ in range(len(self._events))]
            try:
                self._call("App/PostEvents", [event.to_wire() for event in events], "events were refused", once=True)
            except UnavailableError as error:
                if not error.may_have_arrived:
                    self._put_back(events)
                raise

    def _call(self, path: str, body: object, complaint: str, *, once: bool = False) -> None:
        try:
            self._connection.call(json_request(path, body, repeatable=not once))
        except UnavailableError:
            raise
        except StardustError as error:
            logger.debug("%s: %s", complaint, error)

    def _put_back(self, events: Iterable[Event]) -> None:
        newer = list(self._events)
        self._events.clear()
        self._events.extend([*events, *newer])


def describe(error: BaseException) -> str:
    """Type and text of an error of the program, whose text may raise as well."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - __str__ of the program
        return type(error).__name__


async def _awaited(result: Awaitable[object]) -> object:
    return await result


def _text(result: object) -> str:
    return result if isinstance(result, str) else "" if result is None else json.dumps(result, default=str)


def _heard(_command: Command) -> str:
    return "OK"


def _free_memory(_command: Command) -> str:
    import gc

    return f"{gc.collect()} objects freed"
