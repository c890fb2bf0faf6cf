"""``ConfigClient``: the raw map of the center, kept current. Untyped; typed settings are built on top of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stardust_auto.config.remote import hints
from stardust_auto.config.remote.cache import DiskCache
from stardust_auto.config.remote.keys import normalise
from stardust_auto.config.remote.pull import Pull, UsedKeys
from stardust_auto.config.remote.schedule import Schedule
from stardust_auto.config.remote.snapshot import WORKER_ID, RawSnapshot, make_snapshot
from stardust_auto.config.remote.verdicts import Verdict, Verdicts, changed_keys
from stardust_auto.environment.variable import parse_bool, parse_servers
from stardust_auto.errors import ApiError, StardustError, UnavailableError
from stardust_auto.log import get_logger
from stardust_auto.process.background import process_worker
from stardust_auto.process.clock import monotonic, perf_counter_ns, wall_time
from stardust_auto.process.dispatch import Dispatcher
from stardust_auto.process.end import EXIT_BUDGET, at_end, not_at_end, time_left
from stardust_auto.process.fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stardust_auto.config.remote.provider import Listener, ProviderState
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.session.session import Session

logger = get_logger(__name__)

FULL_INTERVAL = 300.0
_INTERRUPTED_AFTER = 3


class ConfigClient:
    """The configuration of one application, pulled in the background by the process's session.

    ``get``, ``get_int`` and ``get_bool`` never do I/O. ``refresh_interval`` is in seconds. Values keep their last good state whatever the
    server does; an empty answer of the server is a state too. Without ``server`` and ``app_id`` the ``STARDUST_*`` variables count.
    """

    name = "config"

    def __init__(
        self,
        server: str | Iterable[str] | None = None,
        app_id: str | None = None,
        secret: str | None = None,
        scope: str | None = None,
        *,
        session: Session | None = None,
        refresh_interval: float = 60.0,
        cache_dir: str | None = None,
        use_cache: bool = True,
        report_keys: bool = True,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        from stardust_auto.environment.settings import AgentSettings, program_name

        given = parse_servers(server if isinstance(server, str) else ",".join(server)) if server is not None else None
        self._settings = settings = AgentSettings.from_environ(
            servers=given, app_id=app_id, secret=secret, scope=scope, cache_dir=cache_dir
        )
        self._session = session
        self._owns_session = session is None
        self.app_id: str = session.app_id if session is not None else settings.app_id or program_name()
        self.requested_scope = settings.scope
        self.full_interval = FULL_INTERVAL
        # A session that was made with other servers than the environment's has a copy of its own.
        servers = (session.server,) if session is not None and given is None else settings.servers
        self._cache = DiskCache(servers, self.app_id, settings.scope, settings.cache_dir) if use_cache else None
        self._server_label = ",".join(servers)
        self._keys = UsedKeys() if report_keys else None
        self._clock = clock
        self._schedule = Schedule(refresh_interval, clock)
        self._threadless = False
        self._due = 0.0
        self._snapshot = self._empty()
        self._cached: RawSnapshot | None = None
        self.verdicts = Verdicts()
        self._listeners: list[Listener] = []
        self._callbacks: list[Callable[[dict[str, str]], object]] = []
        self._dispatcher = Dispatcher("stardust-config-callbacks")
        self._running = self._pushed = self._refused_secret = False
        self.last_error = ""
        self._reset()
        after_fork_in_child(self._reset_in_child)

    @classmethod
    def from_settings(cls, settings: AgentSettings) -> ConfigClient:
        """The client for these settings; they are complete, the environment adds nothing."""
        return cls(
            settings.servers or None,
            settings.app_id,
            settings.secret,
            settings.scope or None,
            cache_dir=settings.cache_dir,
        )

    def _empty(self) -> RawSnapshot:
        return make_snapshot({}, app_id=self.app_id, scope=self.requested_scope, server=self._server_label)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._loaded = threading.Event()
        self._sequence = 0
        self._applied = 0

    def _reset_in_child(self) -> None:
        """The child keeps the values and asks anew on first use: its session is another one."""
        self._reset()
        self._running = False

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to pull in the background. Never blocks; twice is once; after a fork it starts the child's own.

        Raises:
            ValueError: no server is known, neither here nor from ``STARDUST_SERVER``.
        """
        with self._lock:
            if self._running:
                return
            session = self._acquire()
            self._running = True
            self._loaded.clear()  # what was loaded before a stop may be old by now
            if self._cache is not None and self._snapshot.origin == "none":
                self._cached = self._cache.load()
                if self._cached is not None:
                    self._snapshot = self._cached
            hints.listen(session, self)
            session.add_task(self)
        session.start()
        session.wake(self)
        at_end(self._at_end)  # a program that uses nothing but its settings logs out, too
        self._threadless = not process_worker().running

    def poll(self) -> bool:
        """In a process without threads: pull now, in the caller's thread, if it is time. False where a thread does it."""
        if not self._threadless:
            return False
        if self._clock() >= self._due:
            delay = self.run()
            self._due = self._clock() + (delay if delay is not None else self.refresh_interval)
        return True

    def _acquire(self) -> Session:
        if self._session is None:
            from stardust_auto.environment.identity import Identity
            from stardust_auto.session.session import Session

            settings = self._settings
            if not settings.servers:
                raise ValueError("no server: pass one, or set STARDUST_SERVER")
            self._session = Session.acquire(Identity.from_settings(settings, self.app_id))
        return self._session

    def _at_end(self) -> None:
        self.stop(time_left())

    def stop(self, timeout: float = EXIT_BUDGET) -> None:
        """Stop pulling, and log out within ``timeout`` seconds if nobody else uses the session. The values stay readable."""
        not_at_end(self._at_end)
        with self._lock:
            session, self._running = self._session, False
            if session is None:
                return
            session.remove_task(self)
            self.verdicts.forget(self)
            if self._owns_session:
                self._session = None
        if self._owns_session:
            session.release(timeout)

    def wait_loaded(self, timeout: float) -> bool:
        """Wait for the first answer of the center, at most ``timeout`` seconds."""
        if self.poll() or process_worker().is_current_thread:  # who fetches cannot wait for itself
            return self._loaded.is_set()
        return self._loaded.wait(timeout)

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> RawSnapshot:
        return self._snapshot

    @property
    def refresh_interval(self) -> float:
        """Seconds between two pulls, give or take 10 %; a new value counts at once."""
        return self._schedule.interval

    @refresh_interval.setter
    def refresh_interval(self, seconds: float) -> None:
        self._schedule.interval = seconds
        self._due = 0.0
        session = self._session
        if session is not None:
            session.wake(self)

    @property
    def version(self) -> int:
        """Published version; 0 before the first load. It may go down, after a restore of the server."""
        return self._snapshot.version

    @property
    def next_version(self) -> int:
        """Above :attr:`version` while the center holds edits that are not published."""
        return self._snapshot.next_version

    @property
    def scope(self) -> str:
        """The scope in use: the server's rules choose one when none was asked for."""
        return self._snapshot.scope

    @property
    def worker_id(self) -> str | None:
        """``NewLife.WorkerId``: a number of this instance, when the application has them switched on."""
        return self._snapshot.worker_id

    @property
    def state(self) -> ProviderState:
        if not self._running:
            return "OFF"
        if self._refused_secret:
            return "INTERRUPTED"
        failures = self._schedule.failures
        if not self._loaded.is_set():
            if failures >= _INTERRUPTED_AFTER:
                return "INTERRUPTED"
            return "STALE" if self._snapshot.origin == "disk" else "INITIALIZING"
        return "VALID" if failures == 0 else "STALE" if failures < _INTERRUPTED_AFTER else "INTERRUPTED"

    def get(self, key: str, default: str | None = None) -> str | None:
        """The value of ``key`` in any spelling (``Db:Host``, ``db.host``), else ``default``."""
        view = self._snapshot.view()
        value = view.variables.get(key.lower())
        value = view.variables.get(normalise(key)) if value is None else value
        if self._keys is not None:
            self._keys.use(key)
        if value is None and key.lower() == WORKER_ID:
            value = self._snapshot.worker_id
        return default if value is None else value

    def get_int(self, key: str, default: int = 0) -> int:
        """The value as an integer; ``default`` when it is absent or is none."""
        try:
            return int((self.get(key) or "").strip())
        except ValueError:
            return default

    def get_bool(self, key: str, default: bool = False) -> bool:
        """``1 true yes on`` or ``0 false no off`` in any case; ``default`` for anything else."""
        try:
            return parse_bool(self.get(key) or "")
        except ValueError:
            return default

    def get_all(self) -> dict[str, str]:
        """A copy of the whole map."""
        return dict(self._snapshot.values)

    def on_change(self, callback: Callable[[dict[str, str]], object]) -> Callable[[dict[str, str]], object]:
        """Call ``callback`` with the new map after each change, on a thread of its own. Usable as a decorator."""
        self._callbacks.append(callback)
        return callback

    # -- the feed of typed settings ---------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [*self._listeners, listener]
        self.verdicts.forget(self)  # from now on the version counts that a class has accepted

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [entry for entry in self._listeners if entry != listener]

    def last_good(self) -> RawSnapshot | None:
        cached = self._cached
        return cached if cached is not None and cached.content_hash != self._snapshot.content_hash else None

    def report(self, owner: object, verdict: Verdict) -> None:
        self.verdicts.report(owner, verdict)

    def forget(self, owner: object) -> None:
        self.verdicts.forget(owner)

    def declare(self, used: Iterable[str]) -> None:
        if self._keys is not None:
            for key in used:
                self._keys.use(key)

    # -- pulling ----------------------------------------------------------------------------------------------------

    def refresh(self, timeout: float = 15.0) -> bool:
        """Ask for everything now, in the calling thread. True when the center answered.

        Raises:
            StardustError: it did not, or refused.
        """
        self._pull(full=True, timeout=timeout)
        return True

    def run(self) -> float | None:
        """One turn of the session's thread: pull, then say when to come again (seconds)."""
        if self._pushed:
            self._pushed = False
            self._schedule.chase()
        full = self._schedule.begin(self.full_interval)
        retry_after = None
        try:
            self._pull(full=full)
        except UnavailableError as error:
            retry_after = error.retry_after
        except StardustError:
            pass  # noted by _pull; the last good values stay
        return self._schedule.delay(self._loaded.is_set(), retry_after)

    def finish(self, deadline: float) -> None:
        """Nothing to flush."""

    def hint(self) -> None:
        """A publish was announced (protocol.md §12.4: it may be old, or missed). Many in a row cost one pull."""
        self._pushed = True
        session = self._session
        if session is not None:
            session.wake(self)

    def begin_request(self) -> int:
        """The number of a request: answers are applied in this order, whatever order they arrive in."""
        with self._lock:
            self._sequence += 1
            return self._sequence

    def _pull(self, *, full: bool, timeout: float = 15.0) -> None:
        session = self._acquire()
        sequence, have = self.begin_request(), self._snapshot
        try:
            fetched = Pull(session, self.requested_scope, self._keys, timeout).fetch(have, full)
        except StardustError as error:
            self._note_failure(error)
            raise
        self.apply(fetched, sequence)

    def _note_failure(self, error: StardustError) -> None:
        self._schedule.failed()
        self._refused_secret = isinstance(error, ApiError) and error.code in (401, 403)
        text = str(error)
        if text != self.last_error:
            self.last_error = text
            kept = f"keeping {self._snapshot.label}" if self._snapshot.origin != "none" else "nothing loaded yet"
            logger.warning("configuration of %s not refreshed: %s; %s", self.app_id, text, kept)

    def apply(self, fetched: RawSnapshot, sequence: int) -> None:
        """Make ``fetched`` the state, tell everybody and keep it on disk, unless a newer request was answered before."""
        start = perf_counter_ns()
        with self._lock:
            if sequence <= self._applied:
                return
            self._applied = sequence
            before = self._snapshot
            self._snapshot = fetched
        self._schedule.succeeded()
        self._refused_secret = False
        if self.last_error:
            self.last_error = ""
            logger.warning("configuration of %s is refreshed again: %s", self.app_id, fetched.label)
        changed = fetched.content_hash != before.content_hash and before.origin != "none"
        moved = fetched.content_hash != before.content_hash or fetched.version != before.version
        if moved and before.origin != "none":
            self._schedule.settle()
        if fetched.version < before.version and before.origin != "disk":
            logger.warning(
                "configuration of %s went back from v%d to v%d", self.app_id, before.version, fetched.version
            )
        if fetched.next_publish != before.next_publish or fetched.version != before.version:
            offset = float(getattr(self._session, "clock_offset_ms", 0) or 0) / 1000
            self._schedule.plan_publish(fetched.next_publish, wall_time(), offset)
        if not self._listeners:
            paths = changed_keys(before.values, fetched.values) if changed else ()
            self.report(self, Verdict.used("", fetched, paths=paths, started_ns=start if changed else 0))
        for listener in self._listeners:
            listener(fetched)
        accepted = self.verdicts.accept(fetched)
        first = not self._loaded.is_set()
        self._loaded.set()
        if self._cache is not None and accepted and (moved or first) and self._changed_on_disk(fetched):
            self._cache.store(fetched)
            self._cached = fetched
        if changed:
            self._notify(fetched.values)

    def _changed_on_disk(self, fetched: RawSnapshot) -> bool:
        cached = self._cached
        return cached is None or (cached.content_hash, cached.version) != (fetched.content_hash, fetched.version)

    def _notify(self, values: Mapping[str, str]) -> None:
        for callback in tuple(self._callbacks):
            self._dispatcher.submit(callback, dict(values))
