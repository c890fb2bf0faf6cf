"""The agent: what an application has on a platform in this process.

A tracer that counts, a session that talks, a collector between them, and the end of the process. An activated process has one
(``stardust_auto.agent.current()``); an SDK object for the same application on the same servers shares it, any other has its own.
Nothing but the tracer exists before the first recorded call.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from importlib import import_module
from typing import TYPE_CHECKING, Final

from stardust_auto.agent import uwsgi
from stardust_auto.environment.identity import Identity
from stardust_auto.environment.settings import program_name
from stardust_auto.process import end, fork
from stardust_auto.process.background import process_worker
from stardust_auto.process.backoff import Backoff
from stardust_auto.process.clock import monotonic
from stardust_auto.process.end import EXIT_BUDGET_SECONDS, Phase
from stardust_auto.process.originals import ORIGINALS, take_originals
from stardust_auto.process.sigterm import SigtermHandler
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.export.collector import Collector
    from stardust_auto.session.session import Session

#: What talking to a server needs: a quarter of a second of imports.
_MODULES: Final = (
    "stardust_auto.session.session",
    "stardust_auto.export.collector",
    "stardust_auto.export.stardust",
    "stardust_auto.session.metrics",
    "stardust_auto.transport.http",
)


class Agent:
    """Options, tracer, session and collector of one application, from the first recorded call to the last flush.

    It is also the first task of the background thread, which imports and connects.

    Args:
        options: what the operator set.
        tracer: a tracer made elsewhere, by the test kit.
        summary: whether to print the table of ``--summary`` when this very process ends.
        owns_process: whether SIGTERM ends the process in order, if nobody else handles it.
    """

    name = "agent"

    def __init__(
        self,
        options: AgentSettings,
        *,
        tracer: Tracer | None = None,
        summary: bool = False,
        owns_process: bool = False,
    ) -> None:
        self.settings = options
        self.tracer = tracer or Tracer.from_settings(options, keep_totals=summary)
        if tracer is not None:
            tracer.enabled = options.trace_enabled
        self._worker = process_worker()
        self._session: Session | None = None
        self._collector: Collector | None = None
        #: What handles SIGTERM, if this agent owns the process.
        self.sigterm = SigtermHandler(self.flush) if owns_process else None
        self.reset_after_fork()
        self._summary = summary
        for library in ORIGINALS:
            if library in sys.modules:
                take_originals(library)
        fork.register(self)
        if owns_process:
            end.process_end.hook()

    def reset_after_fork(self) -> None:
        """A child begins with its own first call. Session and collector reset themselves."""
        self._making = allocate_lock()
        self._summary = False  # the parent prints it
        self._started = False
        self._ends = False
        self._leaving = False
        self._modules = list(_MODULES)
        self._starts = Backoff(3.0, 600.0, factor=3.0)

    # -- start -------------------------------------------------------------------------------------------------------

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
    def collector(self) -> Collector | None:
        """What hands the counts to the exporters; ``None`` before the first connection."""
        return self._collector

    @property
    def started(self) -> bool:
        """Whether :meth:`start` was called in this process."""
        return self._started

    def arm(self, delay: float = 0.0) -> None:
        """Start with the first call that each process records; ``delay`` as for :meth:`start`."""
        self.tracer.on_first_record = lambda: self.start(delay)
        if self.sigterm is not None:
            self.sigterm.prepare()
            uwsgi.follow_forks()
        if self._summary:  # it is printed even if nothing is recorded
            self._register_end()

    def start(self, delay: float = 0.0) -> None:
        """Start the background work of this process, after ``delay`` seconds. Idempotent; waits for neither server nor imports."""
        if not self._started:
            self._started = True
            self._register_end()
            if self.sigterm is not None:
                uwsgi.follow_forks()
            if self.settings.servers:
                self._worker.add(self, delay)
                if self.sigterm is not None:
                    self.sigterm.watch()
        if self.settings.servers and not self._worker.start():
            self.tracer.expect_first_record()  # a limit of the system, or uWSGI before it forks: the next call asks again

    def _register_end(self) -> None:
        if self._ends:
            return
        self._ends = True
        end.register(Phase.STOP_TAKING, self._stop_taking)
        end.register(Phase.FLUSH, self._flush_at_end)
        end.register(Phase.LOG_OUT, self._log_out)
        end.register(Phase.CLOSE, self._close)
        if self.sigterm is not None:
            self.sigterm.chain()

    def run(self) -> float | None:
        """On the background thread: import what is needed, one module at a time since a fork waits for it, then connect."""
        try:
            if self._modules:
                import_module(self._modules[0])
                del self._modules[0]
                return 0.0
            self._connect()
        except Exception as error:  # noqa: BLE001 - perhaps only for now, as where the program makes errors of all warnings
            seconds = self._starts.failed()
            if self._starts.failures == 1:
                from stardust_auto.log import get_logger

                get_logger(__name__).warning("cannot start: %s: %s", type(error).__name__, error)
            return seconds
        self._worker.remove(self)
        return None

    def finish(self, deadline: float) -> None:
        """Nothing to do: :meth:`flush` connects by itself."""

    def _connect(self) -> None:
        session = self.session
        if self._leaving:
            session.leave()
        if not self.settings.trace_enabled:
            session.start()
            return
        if self._collector is None:
            from stardust_auto.export.collector import Collector
            from stardust_auto.export.stardust import StardustExporter

            self._collector = Collector(self.tracer, self._worker)
            exporter = StardustExporter(session, self._collector.apply, max_queue=self.settings.max_queue)
            self._collector.add(exporter)
        self._collector.start()

    # -- end ---------------------------------------------------------------------------------------------------------

    def flush(self, timeout: float = EXIT_BUDGET_SECONDS) -> bool:
        """Report what is counted so far, within ``timeout`` seconds; whether all of it arrived."""
        if not self._started or not self.settings.servers:
            return False
        deadline = monotonic() + timeout
        arrived = []

        def connect_and_flush() -> None:
            for name in self._modules:
                import_module(name)
            self._connect()
            self._worker.remove(self)
            arrived.append(self._collector is None or self._collector.flush(max(deadline - monotonic(), 0.0)))

        self._worker.start()
        return self._worker.run(connect_and_flush, timeout) and arrived == [True]

    def stop(self, timeout: float = EXIT_BUDGET_SECONDS) -> bool:
        """Report, and log out unless others use the session, within ``timeout`` seconds. It may be started again."""
        deadline = monotonic() + timeout
        self.tracer.on_first_record = None
        if not self._started:
            return False
        arrived = self.flush(timeout)
        self._forget_end()
        self._worker.remove(self)
        session, collector = self._session, self._collector
        self._session = self._collector = None
        if collector is not None:
            collector.stop(0.0)
        if session is not None:
            session.release(max(deadline - monotonic(), 0.1))
        return arrived

    def _forget_end(self) -> None:
        self._started = self._ends = False
        for function in (self._stop_taking, self._flush_at_end, self._log_out, self._close):
            end.unregister(function)

    def _stop_taking(self, _seconds: float) -> None:
        self._leaving = True
        if self._session is not None:
            self._session.leave()

    def _flush_at_end(self, seconds: float) -> None:
        if self._summary:
            from stardust_auto.agent import summary

            summary.write(self, monotonic() + seconds)
        else:
            self.flush(seconds)

    def _log_out(self, seconds: float) -> None:
        arrived = self._session is not None and self._session.stop(seconds)
        self._started = self._ends = False
        self._log_loss(arrived)

    def _close(self, _seconds: float) -> None:
        self._worker.end()

    def _log_loss(self, arrived: bool) -> None:
        """Log how many calls are lost with this process, only if the program has configured logging."""
        lost = self._collector.unsent if self._collector is not None else 0
        if not arrived:
            lost += sum(builder.total for builder in self.tracer.take())
        if lost and "logging" in sys.modules:
            from stardust_auto.log import get_logger

            get_logger(__name__).warning("the process ends with %d calls that are not reported", lost)
