"""One session per process, server list and application: one login, one heartbeat, one socket, one background thread."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.errors import StardustError
from stardust_auto.log import get_logger, package_logger
from stardust_auto.process import fork
from stardust_auto.process.background import Task, Worker, process_worker
from stardust_auto.process.clock import SYSTEM_CLOCK, Clock
from stardust_auto.session.account import Account
from stardust_auto.session.commands import Commands
from stardust_auto.session.connection import CALL_SECONDS, Connection, State
from stardust_auto.session.heartbeat import Heartbeat
from stardust_auto.session.log_events import ErrorEvents
from stardust_auto.session.push import Push
from stardust_auto.session.services import Services
from stardust_auto.transport.http import Request, json_request
from stardust_auto.transport.servers import ServerList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.environment.identity import Identity
    from stardust_auto.wire.messages import Command

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What the session knows of itself. ``state``: new, online, lost, refused or stopped."""

    state: str
    server: str
    app_id: str
    client_id: str
    push: bool
    clock_offset_ms: int
    last_error: str | None


class _Reactions:
    """What the parts of a session do when the connection changes."""

    commands: Commands
    heartbeat: Heartbeat
    push: Push | None

    def __init__(self, worker: Worker, account: Account) -> None:
        self._worker = worker
        self._account = account
        self.tasks: list[Task] = []
        self.reset()

    def reset(self) -> None:
        """As new: the next login is announced again."""
        self._announced = False

    def on_online(self, *, again: bool) -> None:
        if not self._announced:
            self._announced = True
            account = self._account
            self.commands.post_event(
                "info", "start", f"pid={os.getpid()} client={account.client_id} version={account.version}"
            )
        self.commands.wake()
        self.on_checked()
        if again:
            self.wake_tasks()

    def on_failed(self, wait: float) -> None:
        # Whichever call found out: the heartbeat is what tries again.
        self.heartbeat.wake(wait)

    def on_doubt(self) -> None:
        self.heartbeat.check()

    def on_commands(self, commands: tuple[Command, ...]) -> None:
        self.commands.accept(*commands)

    def on_checked(self) -> None:
        """The server answers: the socket may be opened."""
        if self.push is not None:
            self.push.wake()

    def wake_tasks(self) -> None:
        """Run every task soon: the server may have news that nobody told us."""
        for task in tuple(self.tasks):
            self._worker.schedule(task, sooner=True)


class _SharedSessions:
    """The sessions of this process by servers and application, and the lock under which they are made and given back."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[tuple[str, ...], str], Session] = {}
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Another thread of the parent may have been making a session."""
        self.lock = threading.RLock()


_shared = _SharedSessions()
fork.register(_shared)


class Session:
    """Calls, background tasks, commands, services and push for one application. Get one with :meth:`acquire`.

    Attributes:
        account: who logs in.
        connection: the login, its state and its clock.
        heartbeat: the Pings; ``check()`` pings at once.
        commands: handlers of commands, and events.
        services: the service registry.
        worker: runs the tasks; a test may have one of its own.
    """

    def __init__(self, identity: Identity, *, worker: Worker | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.worker = worker or process_worker()
        self._clock = clock
        servers = ServerList(identity.servers, clock)
        self.account = Account(servers.all[0], identity)
        self._reactions = reactions = _Reactions(self.worker, self.account)
        self.connection = Connection(servers, self.account, reactions, clock)
        self.commands = reactions.commands = Commands(self.connection, self.worker, clock)
        self.heartbeat = reactions.heartbeat = Heartbeat(
            self.connection, self.worker, clock, on_checked=reactions.on_checked
        )
        self._push = reactions.push = (
            Push(
                self.connection,
                self.worker,
                clock,
                on_command=self.commands.accept,
                on_open=reactions.wake_tasks,
                on_lost=lambda reset: self.heartbeat.check(reset=reset),
            )
            if identity.push
            else None
        )
        self.services = Services(self.connection, self.commands, self.worker, self._begin)
        self._tasks = reactions.tasks
        self._errors = ErrorEvents(
            self.commands.post_event, lambda: (*self.account.secrets, self.connection.token), clock
        )
        self._key: tuple[tuple[str, ...], str] | None = None
        self._users = 0
        self._started = False
        fork.register(self)

    def reset_after_fork(self) -> None:
        """The child logs in as another instance when it starts the session itself."""
        self._started = False
        self.commands.reset()
        self.services.reset()
        self._reset()

    def _reset(self) -> None:
        self._reactions.reset()
        self.connection.reset()
        self.heartbeat.reset()
        if self._push is not None:
            self._push.reset()

    @classmethod
    def acquire(cls, identity: Identity) -> Session:
        """The session of this process for these servers and this application; counted, give it back with :meth:`release`."""
        key = (tuple(server.url for server in ServerList(identity.servers).all), identity.app_id.lower())
        with _shared.lock:
            session = _shared.sessions.get(key)
            if session is None:
                session = cls(identity)
                session._key = key
                _shared.sessions[key] = session
            session._users += 1
            return session

    def release(self, timeout: float = 1.0) -> bool:
        """Give the session back; the last one who does stops it. True when everything was sent."""
        with _shared.lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return True
            if self._key is not None:
                _shared.sessions.pop(self._key, None)
        return self.stop(timeout)

    @property
    def state(self) -> str:
        """new, online, lost, refused or stopped."""
        return self.connection.state.value

    @property
    def status(self) -> SessionStatus:
        """A snapshot for people and tools."""
        connection = self.connection
        return SessionStatus(
            state=connection.state.value,
            server=connection.servers.active.url,
            app_id=self.account.app_id,
            client_id=self.account.client_id,
            push=self._push is not None and self._push.connected,
            clock_offset_ms=connection.clock_offset_ms,
            last_error=connection.last_error,
        )

    def __repr__(self) -> str:
        return f"<Session {self.account.app_id} at {self.connection.servers.active.url}: {self.state}>"

    def start(self) -> None:
        """Start the background work of this process. Never blocks; idempotent."""
        if self._started and self.worker.running:
            return
        self._started = True
        if self.connection.state is State.STOPPED:
            self._reset()
        package_logger.addHandler(self._errors)
        for task in self._all_tasks():
            self.worker.add(task)
        self.worker.start()

    def leave(self) -> None:
        """The process is about to end: no Ping and no socket any more, only what is needed to report."""
        self.connection.leaving = True

    def stop(self, timeout: float = 1.0, reason: str = "stop") -> bool:
        """Flush every task, log out and stop, all within ``timeout`` seconds. True when all of it was done.

        Works without a thread too, and at interpreter shutdown.
        """
        deadline = self._clock.monotonic() + timeout
        done = self._started is False or self.worker.run(lambda: self._finish(deadline, reason), timeout)
        for task in self._all_tasks():
            self.worker.remove(task)
        if done:
            self.connection.close()
        else:  # the thread hangs in a call: it closes the rest itself when the call's deadline has passed
            self.connection.deadline = deadline
            self.connection.state = State.STOPPED
        package_logger.removeHandler(self._errors)
        self._started = False
        return done

    def add_task(self, task: Task, delay: float = 0.0) -> None:
        """Let the background thread run ``task``, first after ``delay`` seconds, and each time the server is back."""
        if task not in self._tasks:
            self._tasks.append(task)
        if self._started:
            self.worker.add(task, delay)

    def remove_task(self, task: Task) -> None:
        """Run ``task`` no more."""
        if task in self._tasks:
            self._tasks.remove(task)
        self.worker.remove(task)

    def wake(self, task: Task, delay: float = 0.0) -> None:
        """Run ``task`` in ``delay`` seconds, if that is sooner than planned."""
        self.worker.schedule(task, delay, sooner=True)

    def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str | None = None,
        timeout: float = CALL_SECONDS,
        repeatable: bool = True,
    ) -> Any:
        """Call ``path`` with ``body`` as JSON, or with ``data``; log in when needed. Returns the ``data`` member of the answer.

        Args:
            repeatable: whether it may be sent a second time once a server may have got it.

        Raises:
            ApiError: the server answered with an error code, also after a new login.
            UnavailableError: no server answered in ``timeout`` seconds, or the next attempt is not due yet.
            BadReplyError: what answered does not speak the protocol.
        """
        if body is not None:
            request = json_request(path, body, repeatable=repeatable)
        else:
            request = Request(method, path, data, content_type, params, repeatable)
        return self.connection.call(request, timeout)

    def _all_tasks(self) -> list[Task]:
        own: list[Task] = [self.heartbeat, self.commands]
        if self._push is not None:
            own.append(self._push)
        return [*own, *self._tasks]

    def _begin(self, task: Task) -> None:
        self.add_task(task)
        self.start()
        self.wake(task)

    def _finish(self, deadline: float, reason: str) -> None:
        self.connection.deadline = deadline
        for task in (*self._tasks, *((self._push,) if self._push is not None else ())):
            try:
                task.finish(deadline)
            except Exception as error:  # noqa: BLE001 - one task at fault must not keep the others from finishing
                logger.warning("%s could not finish: %s", task.name, error)
        try:
            if self.connection.online:
                self.commands.post_event("info", "stop", reason)
                self.commands.run()
                self.connection.logout(reason)
        except StardustError as error:
            logger.debug("logout failed: %s", error)
