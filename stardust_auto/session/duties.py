"""What a session does in the background: heartbeat, commands with their answers, the push socket, one-off jobs."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from stardust_auto.errors import StardustError, UnavailableError
from stardust_auto.log import get_logger
from stardust_auto.process.clock import monotonic
from stardust_auto.session.commands import CommandRunner
from stardust_auto.wire.messages import Event

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from stardust_auto.privacy import Secret
    from stardust_auto.process.background import Worker
    from stardust_auto.session.connection import Connection
    from stardust_auto.session.push import Push
    from stardust_auto.session.session import Session
    from stardust_auto.wire.messages import Command, CommandReply

logger = get_logger(__name__)

_MAX_WAITING: Final = 1000
_MAX_REPLIES: Final = 100
#: The server takes as many in one call.
_MAX_EVENTS: Final = 100
#: A new identity is taken at most this often, in seconds.
_IDENTITY_INTERVAL: Final = 300.0


class Heartbeat:
    """Logs in, pings each period, and comes back with jitter when that fails."""

    name = "heartbeat"

    def __init__(self, session: Session, connection: Connection, clock: Callable[[], float]) -> None:
        self._session = session
        self._connection = connection
        self._clock = clock
        self.fresh()

    def fresh(self) -> None:
        """As new, also in a forked child."""
        self._suspicious = False
        self._reset = False
        self._identity_taken = float("-inf")

    def look(self, *, reset: bool) -> None:
        """The socket was lost: ping now, whatever the period. ``reset``: it was open and ended without a word."""
        self._suspicious = True
        self._reset = reset
        self._session.wake(self)

    def run(self) -> float | None:
        """Ping when due."""
        connection = self._connection
        if connection.online and not self._suspicious and connection.ping_due_in > 0:
            return connection.ping_due_in
        suspicious, reset = self._suspicious, self._reset
        self._suspicious = self._reset = False
        try:
            connection.beat()
            if reset and self._take_other_identity():
                connection.beat()
        except StardustError as error:
            logger.debug("heartbeat: %s", error)
            return max(0.1, connection.wait)
        if suspicious:
            self._session.wake_push()
        return connection.ping_due_in

    def finish(self, deadline: float) -> None:
        """Nothing to do: logging out is the session's."""

    def _take_other_identity(self) -> bool:
        # The server answers, but dropped our open socket without a close frame: another one connected as us (§12.4).
        now = self._clock()
        if now - self._identity_taken < _IDENTITY_INTERVAL:
            return False
        self._identity_taken = now
        before = self._connection.account.client_id
        self._connection.use_other_identity()
        after = self._connection.account.client_id
        logger.warning("another instance uses the identity %s; this one is %s now", before, after)
        return True


class Desk:
    """Takes commands in, has each run once, and sends their answers and the events."""

    name = "commands"

    def __init__(self, session: Session, connection: Connection, clock: Callable[[], float]) -> None:
        self._session = session
        self._connection = connection
        self.commands = CommandRunner(self._queue_reply, connection.now_ms, clock)
        self.fresh()

    def fresh(self) -> None:
        """As new, also in a forked child: it answers nothing that its parent was asked."""
        self.commands.forget()
        self._inbox: deque[Command] = deque(maxlen=_MAX_WAITING)
        self._replies: deque[CommandReply] = deque(maxlen=_MAX_REPLIES)
        self._events: deque[Event] = deque(maxlen=_MAX_EVENTS)

    def take(self, commands: tuple[Command, ...]) -> None:
        """Commands have arrived, by the socket or with a Ping."""
        self._inbox.extend(commands)
        self._session.wake(self)

    def note(self, kind: str, name: str, remark: str) -> None:
        """Send an event when there is a connection."""
        self._events.append(Event(self._connection.now_ms(), kind, name, remark))
        self._session.wake(self)

    def run(self) -> float | None:
        """Run what has arrived or is due, and send what there is to say."""
        while self._inbox:
            self.commands.accept(self._inbox.popleft())
        delay = self.commands.run_waiting()
        try:
            self._send()
        except UnavailableError as error:
            logger.debug("answers wait: %s", error)  # the session wakes this task when it is back
        return delay

    def finish(self, deadline: float) -> None:
        """Nothing to do: the session runs it once more itself."""

    def _send(self) -> None:
        while self._replies:
            try:
                self._session.call("App/CommandReply", self._replies[0].to_wire())
            except UnavailableError:
                raise
            except StardustError as error:
                logger.debug("the answer to a command was refused: %s", error)
            self._replies.popleft()
        if self._events and self._connection.online:
            events = [self._events.popleft() for _ in range(len(self._events))]
            try:
                self._session.call("App/PostEvents", [event.to_wire() for event in events], repeatable=False)
            except UnavailableError as error:
                if not error.may_have_arrived:
                    self._events.extendleft(reversed(events))
                raise
            except StardustError as error:
                logger.debug("events were refused: %s", error)

    def _queue_reply(self, reply: CommandReply) -> None:
        self._replies.append(reply)
        self._session.wake(self)


class PushDuty:
    """The push socket, made in the background thread: websockets is imported nowhere else."""

    name = "push"

    def __init__(self, session: Session, connection: Connection, worker: Worker) -> None:
        self._session = session
        self._connection = connection
        self._worker = worker
        self._push: Push | None = None

    def abandon(self) -> None:
        """In a forked child: the parent's socket is not ours to close with a frame."""
        if self._push is not None:
            self._push.abandon()

    def fresh(self) -> None:
        """As new."""
        self._push = None

    @property
    def connected(self) -> bool:
        """Whether commands can arrive at this moment."""
        return self._push is not None and self._push.connected

    def run(self) -> float | None:
        """Connect when the session is online, read, keep alive."""
        if self._push is None:
            if not self._connection.online or self._connection.leaving:
                return None  # woken when it is
            from stardust_auto.session.push import Push

            self._push = Push(self, clock=self._worker.clock)
        return self._push.run()

    def finish(self, deadline: float) -> None:  # noqa: ARG002 - nothing is waited for
        """Close the socket."""
        if self._push is not None:
            self._push.close()

    def push_url(self) -> str:
        """The address of the socket on the active server."""
        return self._connection.servers.active.websocket_url

    def push_token(self) -> Secret | None:
        """The token, or None while the session is not online."""
        return self._connection.token if self._connection.online else None

    def push_period(self) -> int:
        """Seconds between two text pings."""
        return self._connection.period

    def user_agent(self) -> str:
        """What we call ourselves."""
        from stardust_auto.transport.http import own_user_agent

        return own_user_agent()

    def watch_push(self, sock: socket.socket | None) -> None:
        """Run this task when ``sock`` can be read."""
        self._worker.watch(self, sock)

    def push_command(self, command: Command) -> None:
        """A command came through the socket."""
        self._session.take_commands((command,))

    def push_opened(self) -> None:
        """The socket is open: what was pushed before is lost, so every task looks for itself."""
        self._session.wake_tasks()

    def push_lost(self, *, reset: bool) -> None:
        """The socket is gone: ask the server by Ping what is the matter."""
        self._session.look_after_loss(reset=reset)


class Job:
    """One function, run once on the background thread."""

    name = "job"

    def __init__(self, worker: Worker, function: Callable[[], object], deadline: float) -> None:
        self.done = threading.Event()
        self._worker = worker
        self._function = function
        self._deadline = deadline

    def run(self) -> float | None:
        """Run it, unless nobody waits for it any more."""
        self._worker.remove(self)
        if monotonic() < self._deadline:
            try:
                self._function()
            finally:
                self.done.set()
        return None

    def finish(self, deadline: float) -> None:
        """Nothing to do."""
