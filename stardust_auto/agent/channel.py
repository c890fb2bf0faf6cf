"""What an application has on a platform in this process: a tracer that counts, a session that talks, a reporter between them.

The agent owns the channel of an activated process (:func:`default_channel`); SDK objects that name the same application on the same
servers share it instead of logging in a second time.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from importlib import import_module
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING

from stardust_auto.environment.identity import Identity
from stardust_auto.environment.settings import program_name
from stardust_auto.process import signals
from stardust_auto.process.clock import monotonic
from stardust_auto.process.end import EXIT_BUDGET
from stardust_auto.process.fork import after_fork_in_child, around_fork_in_parent, in_forking_master, until_gone
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.export.collector import Collector
    from stardust_auto.session.session import Session

#: Seconds that a fork waits at most for our thread that is starting. In vain only where the program forks in the middle of an import that
#: ours waits for.
_PATIENCE = 2.0
#: What talking to a server needs: a quarter of a second of imports, which the first recorded call shall not wait for.
_BACKGROUND = (
    "stardust_auto.session.session",
    "stardust_auto.export.stardust",
    "stardust_auto.session.metrics",
    "stardust_auto.transport.http",
)

#: Libraries, and our module that keeps what we use of them. It is loaded as soon as the program has the library: later a test of the
#: program may put something else there (responses, vcrpy, ``unittest.mock``), for everybody who looks.
ORIGINALS = {
    "threading": "stardust_auto.process.thread",
    "socket": "stardust_auto.process.sockets",
    "http.client": "stardust_auto.transport.response",
}


class Channel:
    """Tracer, session and reporter of one application. Nothing but the tracer exists until :meth:`start`."""

    def __init__(self, settings: AgentSettings, *, tracer: Tracer | None = None, keep_totals: bool = False) -> None:
        self.settings = settings
        self.tracer = tracer or Tracer.from_settings(settings, keep_totals=keep_totals)
        self._session: Session | None = None
        self._reporter: Collector | None = None
        self._start_over()
        for library in ORIGINALS:
            if library in sys.modules:
                take_originals(library)
        after_fork_in_child(self._start_over)
        around_fork_in_parent(self._before_fork, self._after_fork_in_parent)

    def _start_over(self) -> None:
        # Session and reporter mend themselves in a forked child; what runs there is started by its own first use.
        self._lock = allocate_lock()
        self._making = allocate_lock()
        self._used = False
        self._failures = 0
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._started = False
        #: The thread ended for a fork; the next recorded call starts it again.
        self._stalled = False
        self._cancelled = False
        self._leaving = False
        self._starter: Thread | None = None
        self._hurry = allocate_lock()
        self._hurry.acquire()
        self._connected = allocate_lock()
        self._connected.acquire()

    @property
    def app_id(self) -> str:
        """The application's name: what the operator set, else the name of the program."""
        return self.settings.app_id or program_name()

    @property
    def session(self) -> Session:
        """The session of this process; made on first use, without thread or socket."""
        if self._session is None:
            from stardust_auto.session.session import Session

            with self._making:
                if self._session is None:
                    self._session = Session.acquire(Identity.from_settings(self.settings, self.app_id))
        return self._session

    @property
    def reporter(self) -> Collector | None:
        """What sends the counts, and counts what it could not send; ``None`` before :meth:`start`."""
        return self._reporter

    @property
    def started(self) -> bool:
        """Whether :meth:`start` was called in this process."""
        return self._used

    def start(self, delay: float = 0.0) -> None:
        """Start this process's background thread. Idempotent; waits neither for the server nor for our own imports.

        Args:
            delay: seconds to leave the process alone first. A fork within them, as of a server that loads the application and then
                starts its workers, costs nothing: nothing has begun.
        """
        if (self._started and not self._stalled) or not self.settings.servers or not self._lock.acquire(False):
            return
        try:
            self._used = True
            if delay and in_forking_master():
                return  # nor does uWSGI let Python end there: what the master itself counts is not reported
            if self._stalled:
                self._stalled = False
                self.session.start()
                return
            self._started = True
            self._connected.acquire(False)
            if self._failures:
                delay = max(delay, 1.0) * 3**self._failures
            elif _BACKGROUND[-1] in sys.modules:
                self._connect(0.0)
                return
            self._starter = Thread(target=self._connect, args=(delay,), name="stardust-start", daemon=True)
            try:
                with signals.blocked():
                    self._starter.start()
            except RuntimeError:  # late in the interpreter's shutdown
                self._connect(0.0)
        finally:
            self._lock.release()

    def _connect(self, delay: float) -> None:
        if delay and self._hurry.acquire(timeout=delay) and self._cancelled:
            self._give_way()
            return
        try:
            _import_background()
            if self._cancelled:
                self._give_way()
                return
            self._start_session()
        except Exception as error:  # noqa: BLE001 - the program goes on untraced for a while; it may even be ending
            self._could_not_start(error)
        self._connected.release()

    def _give_way(self) -> None:
        """To a fork: the next call that is recorded starts again."""
        connected = self._connected
        self._stop_waiting()
        self.tracer.expect_first_record()
        connected.release()

    def _start_session(self) -> None:
        session = self.session
        if self._leaving:
            session.leave()
        if not self.settings.trace_enabled:
            session.start()
            return
        if self._reporter is None:
            from stardust_auto.export.collector import Collector
            from stardust_auto.export.stardust import StardustExporter
            from stardust_auto.process.background import process_worker

            self._reporter = Collector(self.tracer, process_worker())
            self._reporter.add(StardustExporter(session, self._reporter.apply))
        self._reporter.start()

    def _could_not_start(self, error: Exception) -> None:
        """Perhaps only for now, as where the program makes errors of all warnings: a later call tries again, less and less often."""
        self._failures += 1
        if self._failures == 1:
            from stardust_auto.log import get_logger

            get_logger(__name__).warning("cannot start: %s: %s", type(error).__name__, error)
        self._started = False
        self.tracer.expect_first_record()

    def _before_fork(self) -> None:
        starter = self._starter
        if starter is not None and starter.is_alive():
            self._cancelled = True
            self._push_on()
            starter.join(_PATIENCE)
            if not starter.is_alive():
                until_gone(starter)

    def _after_fork_in_parent(self) -> None:
        self._cancelled = False  # who was past the look at it goes on
        worker = sys.modules.get("stardust_auto.process.background")
        if self._started and worker is not None and not worker.process_worker().running:
            self._stalled = True
            self.tracer.expect_first_record()

    def _push_on(self) -> None:
        if self._hurry.locked():
            self._hurry.release()

    def _wait_connected(self, timeout: float) -> bool:
        self._push_on()
        if not self._connected.acquire(timeout=max(timeout, 0.0)):
            return False
        self._connected.release()
        return True

    def flush(self, timeout: float = EXIT_BUDGET) -> bool:
        """Report what is counted so far, within ``timeout`` seconds; whether all of it arrived."""
        deadline = monotonic() + timeout
        if self._used:
            self.start()
        if not self._started or not self._wait_connected(timeout) or self._reporter is None:
            return False
        return self._reporter.flush(max(deadline - monotonic(), 0.0))

    def end(self, timeout: float = EXIT_BUDGET) -> bool:
        """The process ends: report, log out and stop the session, whoever else uses it, within ``timeout`` seconds."""
        deadline = monotonic() + timeout
        if not self._used:
            return True
        self._leaving = True
        if self._session is not None:
            self._session.leave()
        self.start()
        self._started = False
        arrived = self._wait_connected(timeout) and self._session is not None
        if arrived and self._reporter is not None:
            arrived = self._reporter.stop(max(deadline - monotonic(), 0.0))
        arrived = (self._session is None or self.session.stop(max(deadline - monotonic(), 0.0))) and arrived
        self._tell_loss(arrived)
        return arrived

    def _tell_loss(self, arrived: bool) -> None:
        """Say once what the end of this process takes with it. To those who log: nobody else is told anything."""
        reporter = self._reporter
        lost = reporter.unsent if reporter is not None else 0
        if not arrived:
            lost += sum(builder.total for builder in self.tracer.take())
        if lost and "logging" in sys.modules:
            from stardust_auto.log import get_logger

            get_logger(__name__).warning("the process ends with %d calls that are not reported", lost)

    def stop(self, timeout: float = EXIT_BUDGET) -> bool:
        """Report, and log out unless others use the session, within ``timeout`` seconds."""
        deadline = monotonic() + timeout
        arrived = self.flush(timeout)
        if self._started and self._wait_connected(deadline - monotonic()):
            self._start_over()
            session, reporter = self._session, self._reporter
            self._session = self._reporter = None
            if session is not None:
                if reporter is not None:
                    reporter.stop(0.0)
                session.release(max(deadline - monotonic(), 0.1))
        return arrived


def _import_background() -> None:
    """Import what talking to a server needs."""
    # requests looks for PySocks by an import that warns where it is missing, which may be an error in this program.
    socks = "urllib3.contrib.socks"
    pretend = not {"requests", "socks", socks} & sys.modules.keys() and find_spec("socks") is None
    if pretend:
        sys.modules[socks] = None  # type: ignore[assignment] # Python's own way to say that there is no such module
    try:
        for name in _BACKGROUND:
            import_module(name)
    finally:
        if pretend and sys.modules.get(socks, socks) is None:
            del sys.modules[socks]


def take_originals(library: str) -> None:
    """The program has imported ``library``. Never raises: whatever is wrong with it is said when we connect."""
    try:
        import_module(ORIGINALS[library])
    except Exception as error:  # noqa: BLE001 - a library that is broken, or a stand-in of the program's own
        from stardust_auto.log import get_logger

        get_logger(__name__).debug("%s cannot be used: %s", library, error)


_default: Channel | None = None


def default_channel() -> Channel | None:
    """The channel of this activated process; ``None`` where the agent is not active."""
    return _default


def set_default_channel(channel: Channel | None) -> Channel | None:
    """Make ``channel`` the process's own; returns the one before. For the agent and the test kit."""
    global _default
    before, _default = _default, channel
    return before
