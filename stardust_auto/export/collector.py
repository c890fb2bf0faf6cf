"""Takes what the tracer counted, once a period, and hands the same builders to every exporter.

The tracer forgets what it hands over, so there is one collector for each tracer. Each exporter has its own queue, back-off and counts.
An exporter that fails costs the others nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from stardust_auto.log import get_logger
from stardust_auto.process import fork
from stardust_auto.process.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stardust_auto.process.background import Worker
    from stardust_auto.process.clock import Clock
    from stardust_auto.tracing.builder import SpanBuilder, TracePolicy

logger = get_logger(__name__)

#: From the first span of a process to its first report.
FIRST_REPORT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """What one exporter did, in spans.

    Attributes:
        reported: spans that the destination accepted.
        queued: spans that wait, or that are being sent at this moment.
        dropped: spans that were given up, by reason.
        batches: accepted requests.
        samples_trimmed: samples that did not fit into a request.
    """

    reported: int
    queued: int
    dropped: Mapping[str, int]
    batches: int
    samples_trimmed: int


class Exporter(Protocol):
    """One destination of what is counted.

    All methods are called on the background thread, or in the caller's where there is no thread; never two at a time.
    """

    @property
    def name(self) -> str: ...

    @property
    def counts(self) -> ExportCounts: ...

    def start(self) -> None:
        """Begin to send in the background."""

    def take(self, builders: Sequence[SpanBuilder]) -> None:
        """Keep one period of builders, and send them soon. No I/O here. Other exporters get the same objects: change nothing."""

    def flush(self, deadline: float) -> None:
        """Send what there is, now, and return by ``deadline`` (seconds of the clock's ``monotonic``)."""

    def stop(self) -> None:
        """Send nothing in the background any more."""


class Source(Protocol):
    """What the collector takes from: a ``Tracer``."""

    @property
    def period(self) -> int: ...

    def take(self) -> Sequence[SpanBuilder]: ...

    def apply(self, policy: TracePolicy) -> None: ...


class Collector:
    """A task of the worker. Make it, :meth:`add` the exporters, :meth:`start` it with the first span of a process."""

    name = "collector"

    def __init__(self, source: Source, worker: Worker, clock: Clock = SYSTEM_CLOCK) -> None:
        self._source = source
        self._worker = worker
        self._clock = clock
        self._exporters: tuple[Exporter, ...] = ()
        self._faulty: set[str] = set()
        self.reset_after_fork()
        fork.register(self)

    def reset_after_fork(self) -> None:
        """A forked child starts its own first period."""
        self._begun: float | None = None
        self._first = True

    def add(self, exporter: Exporter) -> None:
        """Hand each period to ``exporter`` as well."""
        self._exporters = (*self._exporters, exporter)

    @property
    def counts(self) -> dict[str, ExportCounts]:
        """The counts of each exporter, by its name."""
        return {exporter.name: exporter.counts for exporter in self._exporters}

    @property
    def unsent(self) -> int:
        """Spans that wait, at the exporter with the most of them."""
        return max((exporter.counts.queued for exporter in self._exporters), default=0)

    def start(self) -> None:
        """Begin: the first report follows :data:`FIRST_REPORT_SECONDS` later. Never blocks; idempotent."""
        if self._begun is None:
            self._begun = self._clock.monotonic()
        for exporter in self._exporters:
            exporter.start()
        self._worker.add(self)
        self._worker.start()

    def run(self) -> float | None:
        """Hand over what was counted, if the period is over."""
        if self._begun is None:
            self._begun = self._clock.monotonic()
        if self._due_in() <= 0:
            self._begun, self._first = self._clock.monotonic(), False
            self._hand_over()
        return max(0.05, self._due_in())

    def finish(self, deadline: float) -> None:
        """Nothing: :meth:`stop` flushes."""

    def apply(self, policy: TracePolicy) -> None:
        """A server answered with ``policy``. A period that it changes counts at once, for the one under way too."""
        self._source.apply(policy)
        self._worker.schedule(self, 0.0, sooner=True)

    def flush(self, timeout: float) -> bool:
        """Report everything that is counted so far, within ``timeout`` seconds.

        Returns:
            Whether no exporter has anything left.
        """
        deadline = self._clock.monotonic() + timeout
        faults: list[str] = []
        return (
            self._worker.run(lambda: faults.extend(self._flush(deadline)), timeout) and not faults and not self.unsent
        )

    def stop(self, timeout: float) -> bool:
        """Flush, and hand over nothing any more; :meth:`start` begins again."""
        done = self.flush(timeout)
        self._worker.remove(self)
        for exporter in self._exporters:
            exporter.stop()
        self.reset_after_fork()
        return done

    def _due_in(self) -> float:
        period = FIRST_REPORT_SECONDS if self._first else max(1.0, float(self._source.period))
        return (self._begun or 0.0) + period - self._clock.monotonic()

    def _flush(self, deadline: float) -> list[str]:
        return self._hand_over() + self._each(lambda exporter: exporter.flush(deadline))

    def _hand_over(self) -> list[str]:
        builders = tuple(self._source.take())
        return self._each(lambda exporter: exporter.take(builders)) if builders else []

    def _each(self, act: Callable[[Exporter], None]) -> list[str]:
        """Let each exporter act. One at fault must not keep the others from their period; returns the names of those."""
        faulty = []
        for exporter in self._exporters:
            try:
                act(exporter)
            except Exception as error:  # noqa: BLE001 - third parties write exporters
                faulty.append(exporter.name)
                if exporter.name not in self._faulty:
                    self._faulty.add(exporter.name)
                    logger.warning("exporter %s failed: %s: %s", exporter.name, type(error).__name__, error)
        return faulty
