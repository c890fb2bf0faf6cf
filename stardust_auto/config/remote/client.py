"""``ConfigClient``: the raw map of the center, kept current. Typed settings are built on top of it.

Over 400 lines: it is the official SDK's class and the provider of typed settings at once, so that a program with both pulls once.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, overload

from stardust_auto.config.remote.cache import Copy, DiskCache
from stardust_auto.config.remote.consistency import Pending, decide
from stardust_auto.config.remote.feedback import Feedback
from stardust_auto.config.remote.first_read import FirstRead
from stardust_auto.config.remote.keys import normalise
from stardust_auto.config.remote.pull import UsedKeys, pull
from stardust_auto.config.remote.schedule import Schedule
from stardust_auto.config.remote.snapshot import WORKER_ID, RawSnapshot, make_snapshot
from stardust_auto.config.remote.verdicts import Verdict, Verdicts, changed_keys
from stardust_auto.environment.variable import parse_bool, parse_servers
from stardust_auto.errors import ApiError, StardustError, UnavailableError
from stardust_auto.log import get_logger, tell
from stardust_auto.process import end, fork
from stardust_auto.process.background import process_worker
from stardust_auto.process.clock import SYSTEM_CLOCK, Clock
from stardust_auto.process.dispatch import Dispatcher
from stardust_auto.process.end import EXIT_BUDGET_SECONDS, Phase
from stardust_auto.process.loops import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from stardust_auto.config.remote.provider import Listener, ProviderState
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.session.session import Session
    from stardust_auto.wire.messages import Command

    D = TypeVar("D")
    F = TypeVar("F", bound=Callable[[dict[str, str]], object])

logger = get_logger(__name__)

#: The command that announces a publish (protocol.md §12.4).
_PUBLISH: Final = "config/publish"
_INTERVAL_SECONDS: Final = 60.0
_FULL_INTERVAL_SECONDS: Final = 300.0
_REQUEST_TIMEOUT_SECONDS: Final = 15.0
#: So many failed requests in a row make the state INTERRUPTED.
_INTERRUPTED_AFTER: Final = 3
#: ``<ip>@<pid>``, as a platform names an instance.
_INSTANCE: Final = re.compile(r"[\w.:-]+@\d+")


@lru_cache(maxsize=64)
def warn_of_instance(scope: str) -> None:
    """Log once that ``scope`` looks like the name of an instance, which the official SDK takes in that place."""
    if _INSTANCE.fullmatch(scope):
        tell(
            logger,
            logging.WARNING,
            "the scope %r looks like an instance: the fourth argument is the scope, pass client_id by its name",
            scope,
        )


class ConfigClient:
    """The configuration of one application, pulled in the background by the process's session.

    The first read after :meth:`start` waits for the center, once and at most 3 s; on an event loop no read waits.
    Values keep their last good state whatever the server does; an empty answer of the server is a state too.
    ``consistency.py`` decides what an answer means, ``schedule.py`` when to ask.

    Args:
        server: address or addresses of the center. Without it, and without the other names, the ``STARDUST_*`` variables count.
        app_id: the application.
        secret: the application's secret.
        scope: the scope to ask for; without one the server's rules choose. The official SDK has ``client_id`` in this place.
        client_id: name of this instance; default ``<ip>@<pid>``.
        session: the session to use, instead of the process's.
        refresh_interval: seconds between two polls, give or take 10 %; default: ``STARDUST_CONFIG_PERIOD``, else 60.
        cache_dir: folder of the copy on disk; None for the user's cache folder.
        use_cache: whether to keep a copy on disk.
        report_keys: whether to tell the center which keys the program reads.
        clock: the time, for tests.
    """

    name = "config"

    def __init__(
        self,
        server: str | Iterable[str] | None = None,
        app_id: str | None = None,
        secret: str | None = None,
        scope: str | None = None,
        *,
        client_id: str | None = None,
        session: Session | None = None,
        refresh_interval: float | None = None,
        cache_dir: str | None = None,
        use_cache: bool = True,
        report_keys: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        from stardust_auto.environment.settings import AgentSettings, program_name

        given = parse_servers(server if isinstance(server, str) else ",".join(server)) if server is not None else None
        self._settings = settings = AgentSettings.from_environ(
            servers=given, app_id=app_id, secret=secret, scope=scope, client_id=client_id, cache_dir=cache_dir
        )
        warn_of_instance(settings.scope)
        self._session = session
        self._owns_session = session is None
        self.app_id: str = session.account.app_id if session is not None else settings.app_id or program_name()
        self.requested_scope = settings.scope
        #: What became of the snapshots: the source of pings, status and request notes.
        self.verdicts = Verdicts()
        self.last_error = ""
        # A session that was made with other servers than the environment's has a copy of its own.
        servers = (
            (session.connection.servers.active.url,) if session is not None and given is None else settings.servers
        )
        self._clock = clock
        self._cache = DiskCache(servers, self.app_id, settings.scope, settings.cache_dir, clock) if use_cache else None
        self._used_keys = UsedKeys() if report_keys else None
        if refresh_interval is None:
            refresh_interval = settings.config_period or _INTERVAL_SECONDS
        self._schedule = Schedule(refresh_interval, _FULL_INTERVAL_SECONDS, clock)
        self._held = make_snapshot({}, app_id=self.app_id, scope=settings.scope, server=",".join(servers))
        self._pending: Pending | None = None
        self._accepted: RawSnapshot | None = None
        self._stored: Copy | None = None
        self._listeners: tuple[Listener, ...] = ()
        self._callbacks: tuple[Callable[[dict[str, str]], object], ...] = ()
        #: Callbacks registered before the first answer; they receive it. None after it.
        self._expecting: tuple[Callable[[dict[str, str]], object], ...] | None = ()
        self._first_read = FirstRead(self.app_id, self.wait_loaded)
        self._dispatcher = Dispatcher("stardust-config-callbacks")
        #: A fork interrupted it: the child starts with its first read.
        self._resumes = False
        self._running = self._announced = self._secret_refused = self._threadless = False
        self._feedback = Feedback()
        self._judging = False
        self._due = -math.inf
        self._retry_delay = 0.0
        self._new_locks()
        fork.register(self)

    @classmethod
    def from_settings(cls, settings: AgentSettings) -> ConfigClient:
        """The client for these settings; they are complete, the environment adds nothing."""
        return cls(
            settings.servers or None,
            settings.app_id,
            settings.secret,
            settings.scope or None,
            client_id=settings.client_id,
            cache_dir=settings.cache_dir,
        )

    def _new_locks(self) -> None:
        self._lock = threading.RLock()
        #: Held while an answer is applied and the listeners judge it: answers reach everybody in one order.
        self._applying = threading.RLock()
        self._loaded = threading.Event()
        self._requests = self._answered = 0

    def reset_after_fork(self) -> None:
        """In a forked child: keep the values, and ask again on first use, since the child's session is another one."""
        self._new_locks()
        self._resumes = self._resumes or self._running
        self._running = self._judging = False
        self._feedback.reset_after_fork()
        if self._used_keys is not None:
            self._used_keys.reset_after_fork()

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to pull in the background, and return at once. A second call does nothing; in a forked child it starts the child's work.

        Raises:
            ValueError: no server is known, neither here nor from ``STARDUST_SERVER``.
        """
        with self._lock:
            self._resumes = False
            if self._running:
                return
            session = self._acquire()
            self._running = True
            self._loaded.clear()  # what was loaded before a stop may be old by now
            self._load_copy()
            session.commands.listen(_PUBLISH, self._on_publish)
            session.add_task(self)
            self._feedback.attach(session)
        session.start()
        session.wake(self)
        end.register(Phase.LOG_OUT, self.stop)  # a program that uses nothing but its settings logs out, too
        self._threadless = not process_worker().running

    def _acquire(self) -> Session:
        if self._session is None:
            from stardust_auto.environment.identity import Identity
            from stardust_auto.session.session import Session

            settings = self._settings
            if not settings.servers:
                raise ValueError("no server: pass one, or set STARDUST_SERVER")
            self._session = Session.acquire(Identity.from_settings(settings, self.app_id))
        return self._session

    def stop(self, timeout: float = EXIT_BUDGET_SECONDS) -> None:
        """Stop pulling, and log out within ``timeout`` seconds unless the session has other users. The values stay readable."""
        end.unregister(self.stop)
        with self._lock:
            self._resumes = False
            session, self._running = self._session, False
            if session is None:
                return
            session.remove_task(self)
            session.commands.unlisten(_PUBLISH, self._on_publish)
            self._feedback.detach(session)
            self.verdicts.forget(self)
            self._store_copy()
            if self._owns_session:
                self._session = None
        if self._owns_session:
            session.release(timeout)

    async def astart(self) -> None:
        """:meth:`start` for coroutines. When it returns the values are loaded, unless the server took over 3 s."""
        await in_thread(self.start)
        await in_thread(self.wait_first)

    async def astop(self, timeout: float = EXIT_BUDGET_SECONDS) -> None:
        """:meth:`stop` for coroutines."""
        await in_thread(self.stop, timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.astart()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    def wait_first(self) -> None:
        """Wait for the first answer of the center, once for this client and at most 3 s."""
        self._first_read.wait()

    def wait_loaded(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the first answer of the center. Return whether there is one."""
        if self.poll() or process_worker().is_current_thread:  # the thread that fetches cannot wait for itself
            return self._loaded.is_set()
        return self._loaded.wait(timeout)

    def poll(self) -> bool:
        """In a process without threads: pull now, in the caller's thread, if it is time. Return False where a thread does it."""
        if not self._threadless:
            return False
        if self._clock.monotonic() >= self._due:
            self._due = self._clock.monotonic() + self.run()
        return True

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def server(self) -> str:
        """Address of the center; several are joined by commas."""
        return self._held.server

    @property
    def secret(self) -> str:
        """The application's secret as it was configured, else ``""``."""
        return self._settings.secret or ""

    @property
    def client_id(self) -> str:
        """Name of this instance: as it was configured, else that of the session, else ``""``."""
        return self._session.account.client_id if self._session is not None else self._settings.client_id or ""

    @property
    def source_ip(self) -> str:
        """Address of this instance as the center sees it; ``""`` before the first load."""
        return self._held.source_ip

    def __repr__(self) -> str:
        return f"ConfigClient(server={self.server!r}, app_id={self.app_id!r}, {self.state}, {self._held.label})"

    @property
    def snapshot(self) -> RawSnapshot:
        """The newest whole state of the center; origin ``none`` before the first one."""
        return self._held

    @property
    def refresh_interval(self) -> float:
        """Seconds between two polls, give or take 10 %. A new value takes effect at once."""
        return self._schedule.interval

    @refresh_interval.setter
    def refresh_interval(self, seconds: float) -> None:
        self._schedule.interval = seconds
        self._due = -math.inf
        self._wake()

    @property
    def version(self) -> int:
        """Published version; 0 before the first load. It goes down when the server was restored."""
        return self._current().version

    @property
    def next_version(self) -> int:
        """Above :attr:`version` while the center holds edits that are not published."""
        return self._held.next_version

    @property
    def scope(self) -> str:
        """The scope in use: the server's rules choose one when none was asked for."""
        return self._held.scope

    @property
    def worker_id(self) -> str | None:
        """``NewLife.WorkerId``: a number of this instance, if the application has them switched on."""
        return self._held.worker_id

    @property
    def state(self) -> ProviderState:
        """How current the values are."""
        if not self._running:
            return "OFF"
        failures = self._schedule.failures
        if self._secret_refused or failures >= _INTERRUPTED_AFTER:
            return "INTERRUPTED"
        if not self._loaded.is_set():
            return "STALE" if self._held.origin == "disk" else "INITIALIZING"
        return "STALE" if failures else "VALID"

    def _current(self) -> RawSnapshot:
        """The state to read from. The first read after :meth:`start` waits for the center, at most 3 s."""
        if self._resumes:
            self.start()
        if self._running and not self._loaded.is_set():
            self._first_read.wait_unless_on_loop()
        return self._held

    @overload
    def get(self, key: str) -> str: ...

    @overload
    def get(self, key: str, default: D) -> str | D: ...

    def get(self, key: str, default: Any = "") -> Any:
        """The value of ``key`` in any spelling (``Db:Host``, ``db.host``), else ``default``."""
        held = self._current()
        variables = held.view().variables
        value = variables.get(key.lower())
        value = variables.get(normalise(key)) if value is None else value
        if self._used_keys is not None:
            self._used_keys.add(key)
        if value is None and key.lower() == WORKER_ID:
            value = held.worker_id
        return default if value is None else value

    def get_int(self, key: str, default: int = 0) -> int:
        """The value as an integer; ``default`` if the key is missing or is not an integer."""
        try:
            return int(self.get(key).strip())
        except ValueError:
            return default

    def get_bool(self, key: str, default: bool = False) -> bool:
        """``1 true yes on`` or ``0 false no off`` in any case; ``default`` for anything else."""
        try:
            return parse_bool(self.get(key))
        except ValueError:
            return default

    def get_all(self) -> dict[str, str]:
        """A copy of the whole map."""
        return dict(self._current().values)

    def on_change(self, callback: F, *, tell_current: bool = False) -> F:
        """Call ``callback`` with the new map after each change, on a thread of its own. Usable as a decorator.

        A callback that is registered before the first answer is called once with it.

        Args:
            tell_current: whether to call ``callback`` at once if there was an answer already.
        """
        with self._lock:
            self._callbacks = (*self._callbacks, callback)
            answered = self._expecting is None
            if self._expecting is not None:
                self._expecting = (*self._expecting, callback)
        if answered and tell_current:
            self._dispatcher.submit(callback, dict(self._held.values))
        return callback

    # -- the provider of typed settings -----------------------------------------------------------------------------

    def last_good(self) -> RawSnapshot | None:
        """The last set that every class accepted, if it differs from :attr:`snapshot`."""
        accepted = self._accepted
        return accepted if accepted is not None and accepted.content_hash != self._held.content_hash else None

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` with each new snapshot."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        self.verdicts.forget(self)  # from now on the verdicts of the classes count

    def unsubscribe(self, listener: Listener) -> None:
        """Call ``listener`` no more."""
        with self._lock:
            self._listeners = tuple(entry for entry in self._listeners if entry != listener)

    def declare(self, used: Iterable[str]) -> None:
        """Add keys that the program reads to the center's list of used keys."""
        if self._used_keys is not None:
            for key in used:
                self._used_keys.add(key)

    def report(self, owner: object, verdict: Verdict) -> None:
        """Note what ``owner`` made of a snapshot."""
        if self.verdicts.report(owner, verdict) and not self._judging:
            self._tell_center()

    def _tell_center(self) -> None:
        # An answer that may be torn is nothing to tell of.
        summary, session = self.verdicts.summary(), self._session
        if summary is not None and session is not None and self._pending is None:
            self._feedback.tell(session, summary)

    def forget(self, owner: object) -> None:
        """Drop what ``owner`` reported."""
        self.verdicts.forget(owner)

    # -- pulling ----------------------------------------------------------------------------------------------------

    def refresh(self, timeout: float = _REQUEST_TIMEOUT_SECONDS) -> bool:
        """Ask for everything now, in the calling thread. Return True when the center answered.

        Raises:
            StardustError: it did not answer, or refused.
        """
        self._pull(full=True, timeout=timeout)
        return True

    def _on_publish(self, _command: Command) -> None:
        self.hint()

    def hint(self) -> None:
        """A publish was announced. The hint may be old, or have been missed (protocol.md §12.4); many in a row cost one request."""
        self._announced = True
        self._wake()

    def run(self) -> float:
        """One turn of the session's thread: pull, and return the seconds until the next turn."""
        if self._schedule.publish_due() or self._announced:
            self._announced = False
            self._schedule.announced()
            with self._applying:
                self._pending = decide(self._held, self._pending, None, self._clock.monotonic()).pending
        try:
            self._pull(full=self._pending is not None or self._schedule.full_due())
        except StardustError:  # logged by _pull
            return self._retry_delay
        return self._schedule.delay(self._pending.due if self._pending is not None else math.inf)

    def finish(self, deadline: float) -> None:
        """Do nothing: a client has nothing to flush."""

    def _wake(self) -> None:
        session = self._session
        if session is not None:
            session.wake(self)

    def _pull(self, *, full: bool, timeout: float = _REQUEST_TIMEOUT_SECONDS) -> None:
        session, number, held = self._acquire(), self._next_number(), self._held
        try:
            answer = pull(
                session,
                self.requested_scope,
                held,
                full=full,
                used=self._used_keys,
                timeout=timeout,
                now=self._clock.wall(),
            )
        except StardustError as error:
            self._secret_refused = isinstance(error, ApiError) and error.code in (401, 403)
            self._retry_delay = self._schedule.failed(
                loaded=self._loaded.is_set(),
                chasing=self._pending is not None and self._pending.left > 0,
                at_least=error.retry_after if isinstance(error, UnavailableError) else None,
            )
            if str(error) != self.last_error:
                self.last_error = str(error)
                kept = f"keeping {held.label}" if held.origin != "none" else "nothing loaded yet"
                logger.warning("configuration of %s not refreshed: %s; %s", self.app_id, error, kept)
            raise
        self._schedule.succeeded(full=full)
        self._apply(answer, number)

    def _next_number(self) -> int:
        with self._lock:
            self._requests += 1
            return self._requests

    def _apply(self, answer: RawSnapshot, number: int) -> None:
        """Make of ``answer`` what ``decide`` says, unless a request with a higher ``number`` was answered before."""
        with self._applying:
            if number <= self._answered:
                return
            self._answered = number
            self._secret_refused = False
            if self.last_error:
                self.last_error = ""
                logger.warning("configuration of %s is refreshed again: %s", self.app_id, answer.label)
            before = self._held
            decision = decide(before, self._pending, answer, self._clock.monotonic())
            self._pending, self._held = decision.pending, decision.held
            held = decision.held
            if held.version < before.version and before.origin == "server":
                logger.warning(
                    "configuration of %s went back from v%d to v%d", self.app_id, before.version, held.version
                )
            if held.next_publish != before.next_publish or held.version != before.version:
                offset = (self._session.connection.clock_offset_ms if self._session is not None else 0) / 1000
                self._schedule.plan_publish(held.next_publish, offset)
            self._judging = True
            try:
                self._tell(before, held)
            finally:
                self._judging = False
                self._loaded.set()
            self._store_copy()
            self._tell_center()

    def _tell(self, before: RawSnapshot, held: RawSnapshot) -> None:
        """Let the listeners judge ``held``; call back where the content changed."""
        changed = held.content_hash != before.content_hash and before.origin != "none"
        for listener in self._listeners:
            listener(held)
        if not self._listeners:
            paths = changed_keys(before.values, held.values) if changed else ()
            started = self._clock.monotonic_ns() if changed else 0
            self.report(self, Verdict.used("", held, paths=paths, started_ns=started))
        with self._lock:
            expecting, self._expecting = self._expecting or (), None
        for callback in self._callbacks if changed else expecting:
            self._dispatcher.submit(callback, dict(held.values))

    # -- the copy on disk -------------------------------------------------------------------------------------------

    def _load_copy(self) -> None:
        if self._cache is None or self._held.origin != "none":
            return
        self._stored = copy = self._cache.load()
        if copy is not None:
            self._held, self._pending = copy.held, copy.pending
            self._accepted = copy.accepted or copy.held

    def _store_copy(self) -> None:
        """Write the copy if it would say something else. Only a whole answer of the center is ever held."""
        held = self._held
        if self._cache is None or held.origin != "server":
            return
        if self.verdicts.accept(held):
            self._accepted = held
        pending = self._pending if self._pending is not None and self._pending.missing else None
        copy = Copy(held, self.last_good(), pending)
        if self._stored is None or _content(copy) != _content(self._stored):
            self._cache.store(copy)
            self._stored = copy


def _content(copy: Copy) -> tuple[object, ...]:
    held, accepted, pending = copy
    return (
        held.content_hash,
        held.version,
        accepted and accepted.content_hash,
        pending and (pending.seen, pending.missing),
    )
