"""One session per process, server list and application: one login, one heartbeat, one socket, one background thread."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stardust_auto.errors import StardustError
from stardust_auto.log import get_logger, package_logger
from stardust_auto.process.background import Task, Worker, process_worker
from stardust_auto.process.clock import monotonic
from stardust_auto.process.context import suppressed
from stardust_auto.process.fork import after_fork_in_child
from stardust_auto.session.account import Account
from stardust_auto.session.connection import CALL_TIMEOUT, Connection, State
from stardust_auto.session.duties import Desk, Heartbeat, Job, PushDuty
from stardust_auto.session.log_events import ErrorEvents
from stardust_auto.transport.servers import ServerList

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stardust_auto.environment.identity import Identity
    from stardust_auto.privacy import Secret
    from stardust_auto.session.services import ServiceRegistry
    from stardust_auto.wire.messages import Command

logger = get_logger(__name__)
# Lines of ours are for those who configured logging; without this, logging would print warnings on stderr by itself.


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


class Session:
    """Calls, background tasks, commands and push for one application. Get one with ``acquire``.

    ``worker`` is for tests that want a thread, or a clock, of their own.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[tuple[tuple[str, ...], str], Session]] = weakref.WeakValueDictionary()
    _shared_lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, identity: Identity, *, worker: Worker | None = None) -> None:
        self.worker = worker or process_worker()
        servers = ServerList(identity.servers)
        self.account = Account(servers.all[0], identity)
        self.connection = Connection(servers, self.account)
        self.connection.on_online = self._on_online
        self.connection.on_failed = self._on_failed
        self.connection.on_doubt = self.look_after_loss
        self.connection.on_commands = self.take_commands
        self._tasks: list[Task] = []
        self._key: tuple[tuple[str, ...], str] | None = None
        self._users = 0
        self._started = False
        self._greeted = False
        self._heartbeat = Heartbeat(self, self.connection, self.worker.clock)
        self._desk = Desk(self, self.connection, self.worker.clock)
        self._push = PushDuty(self, self.connection, self.worker) if identity.push else None
        self._registry: ServiceRegistry | None = None
        self._errors = ErrorEvents(self)
        after_fork_in_child(self._after_fork)

    def _after_fork(self) -> None:
        # Only fresh objects: the child logs in as another instance when it starts the session itself.
        self._started = False
        self._desk.fresh()
        self.connection.abandon()
        if self._push is not None:
            self._push.abandon()
        self._start_over()

    @classmethod
    def _fresh_lock(cls) -> None:
        cls._shared_lock = threading.RLock()

    def _start_over(self) -> None:
        self._greeted = False
        self.connection.fresh()
        self._heartbeat.fresh()
        if self._push is not None:
            self._push.fresh()

    @classmethod
    def acquire(cls, identity: Identity) -> Session:
        """The session of this process for these servers and this application; counted, give it back with ``release``.

        Raises:
            ValueError: a server address that cannot be used.
        """
        key = (tuple(server.url for server in ServerList(identity.servers).all), identity.app_id.lower())
        with cls._shared_lock:
            session = cls._shared.get(key)
            if session is None:
                session = cls(identity)
                session._key = key
                cls._shared[key] = session
            session._users += 1
            return session

    def release(self, timeout: float = 1.0) -> bool:
        """Give the session back; the last one who does stops it. True when everything was sent."""
        with type(self)._shared_lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return True
            if self._key is not None:
                self._shared.pop(self._key, None)
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
            app_id=connection.account.app_id,
            client_id=connection.account.client_id,
            push=self._push is not None and self._push.connected,
            clock_offset_ms=connection.clock_offset_ms,
            last_error=connection.last_error,
        )

    @property
    def app_id(self) -> str:
        """The application's name as the server spells it."""
        return self.connection.account.app_id

    @property
    def app_name(self) -> str:
        """The name for people."""
        return self.connection.account.app_name

    @property
    def version(self) -> str:
        """The application's version as dotted integers."""
        return self.connection.account.version

    @property
    def client_id(self) -> str:
        """This instance."""
        return self.connection.account.client_id

    @property
    def clock_offset_ms(self) -> int:
        """Server clock minus ours, in milliseconds."""
        return self.connection.clock_offset_ms

    @property
    def period(self) -> int:
        """Seconds between two heartbeats, as the server wants it."""
        return self.connection.period

    @property
    def server(self) -> str:
        """The address in use."""
        return self.connection.servers.active.url

    @property
    def secrets(self) -> tuple[Secret | None, ...]:
        """What must not show up in a text."""
        return (*self.connection.account.secrets, self.connection.token)

    @property
    def registry(self) -> ServiceRegistry:
        """The service registry of this session, made on first use."""
        if self._registry is None:
            from stardust_auto.session.services import ServiceRegistry

            with type(self)._shared_lock:
                self._registry = self._registry or ServiceRegistry(self)
        return self._registry

    def __repr__(self) -> str:
        return f"<Session {self.connection.account.app_id} at {self.server}: {self.state}>"

    def start(self) -> None:
        """Start the background work of this process. Never blocks; again and again does no harm."""
        if self._started and self.worker.running:
            return
        self._started = True
        if self.connection.state is State.STOPPED:
            self._start_over()
        package_logger.addHandler(self._errors)
        self.worker.add(self._heartbeat)
        self.worker.add(self._desk)
        if self._push is not None:
            self.worker.add(self._push)
        for task in self._tasks:
            self.worker.add(task)
        self.worker.start()

    def leave(self) -> None:
        """The process is about to end: no Ping and no socket any more, only what is needed to report."""
        self.connection.leaving = True

    def stop(self, timeout: float = 1.0, reason: str = "stop") -> bool:
        """Flush every task, say good-bye and stop, all within ``timeout`` seconds. True when all of it was done.

        Works without a thread too, and at interpreter shutdown.
        """
        deadline = monotonic() + timeout
        done = self.run(lambda: self._finish(deadline, reason), timeout) if self._started else True
        for task in (*self._tasks, self._heartbeat, self._desk, self._push):
            if task is not None:
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
        """Let the background thread run ``task``, first after ``delay`` seconds."""
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

    def run(self, function: Callable[[], object], timeout: float) -> bool:
        """Run ``function`` on the background thread and wait for it at most ``timeout`` seconds; True when it is done.

        Without a thread it runs at once in the caller's, and no call in it goes on for longer.
        """
        deadline = monotonic() + timeout
        if self.worker.running and not self.worker.is_current_thread:
            job = Job(self.worker, function, deadline)
            self.worker.add(job)
            return job.done.wait(max(0.0, timeout))
        before, self.connection.deadline = self.connection.deadline, deadline
        try:
            with suppressed():
                function()
        finally:
            self.connection.deadline = before
        return True

    def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str | None = None,
        timeout: float = CALL_TIMEOUT,
        repeatable: bool = True,
    ) -> Any:
        """The ``data`` member of the answer; logs in when needed.

        ``repeatable=False``: never sent a second time once a server may have got it.

        Raises:
            ApiError: the server answered with an error code, also after a new login.
            UnavailableError: no server answered in ``timeout`` seconds, or the next attempt is not due yet.
            BadReplyError: what answered does not speak the protocol.
        """
        return self.connection.call(
            path,
            body,
            method=method,
            params=params,
            data=data,
            content_type=content_type,
            timeout=timeout,
            repeatable=repeatable,
        )

    def register_command(self, name: str, handler: Callable[[Command], object]) -> None:
        """Run ``handler(command)`` whenever the platform sends the command ``name``; sync or async (``commands.py``)."""
        self._desk.commands.register(name, handler)

    def post_event(self, kind: str, name: str, remark: str = "") -> None:
        """Note an event (kind info, alert or error) for the application's history; sent with the next heartbeat."""
        self._desk.note(kind, name, remark)

    def take_commands(self, commands: tuple[Command, ...]) -> None:
        """Commands have arrived: each is run once and answered."""
        self._desk.take(commands)

    def wake_tasks(self) -> None:
        """Run every task soon: the server may have news that nobody told us."""
        for task in tuple(self._tasks):
            self.wake(task)

    def wake_push(self) -> None:
        """Let the push socket connect, if it is not connected."""
        if self._push is not None:
            self.wake(self._push)

    def look_after_loss(self, *, reset: bool = False) -> None:
        """The push socket or an answer was lost: find out why by a Ping. ``reset``: the socket ended without a word."""
        self._heartbeat.look(reset=reset)

    def _on_online(self, again: bool) -> None:
        if not self._greeted:
            self._greeted = True
            self.post_event("info", "start", f"pid={os.getpid()} client={self.client_id} version={self.version}")
        self.wake(self._desk)
        self.wake_push()
        if again:
            self.wake_tasks()

    def _on_failed(self, wait: float) -> None:
        # Whichever call found out: the heartbeat is what tries again.
        self.wake(self._heartbeat, wait)

    def _finish(self, deadline: float, reason: str) -> None:
        self.connection.deadline = deadline
        for task in tuple(self._tasks):
            try:
                task.finish(deadline)
            except Exception as error:  # noqa: BLE001 - one task at fault must not keep the others from finishing
                logger.warning("%s could not finish: %s", task.name, error)
        if self._push is not None:
            self._push.finish(deadline)
        try:
            if self.connection.online:
                self.post_event("info", "stop", reason)
                self._desk.run()
                self.connection.logout(reason)
        except StardustError as error:
            logger.debug("no good-bye: %s", error)


# Also where there is no session yet: another thread may be making the first one.
after_fork_in_child(Session._fresh_lock)
