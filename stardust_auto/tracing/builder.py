"""The aggregate of one operation in one period: counts, sums and a few samples (protocol.md §3.1, §5.4)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from stardust_auto.process.clock import SYSTEM_CLOCK

NS_PER_MS = 1_000_000
#: Nanoseconds of the longest span that is counted; the platform's own client discards longer ones (protocol.md §5.4, finish rule 1).
LONGEST_NS = 3_600_000 * NS_PER_MS
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Sample:
    """One kept span. Times are Unix milliseconds; ``duration_ns`` keeps the precision that the wire does not carry."""

    name: str
    id: str
    parent_id: str
    trace_id: str
    start_time: int
    end_time: int
    value: int = 0
    tag: str = ""
    flag: int = 0
    error: str = ""
    duration_ns: int = 0
    start_ns: int = 0

    def moved_to(self, parent_id: str) -> Sample:
        """The same sample under another parent."""
        return replace(self, parent_id=parent_id)


@dataclass(frozen=True, slots=True)
class TracePolicy:
    """How much to keep and how often to report. ``None``: not specified (protocol.md §3.1, the reply's members)."""

    period: int | None = None
    max_samples: int | None = None
    max_errors: int | None = None
    timeout: int | None = None
    max_tag_length: int | None = None
    request_tag_length: int | None = None
    enable_meter: bool | None = None
    excludes: tuple[str, ...] | None = None

    def over(self, other: TracePolicy) -> TracePolicy:
        """This policy, completed by ``other``. Numbers of ``other`` below 1 are ignored."""
        merged = {}
        for field in fields(self):
            own, foreign = getattr(self, field.name), getattr(other, field.name)
            usable = not isinstance(foreign, int) or foreign > 0
            merged[field.name] = own if own is not None else foreign if usable else None
        return TracePolicy(**merged)


@dataclass(frozen=True, slots=True)
class OperationTotal:
    """Everything counted for one name since the process began; times in nanoseconds."""

    name: str
    total: int
    errors: int
    cost_ns: int
    max_ns: int

    @property
    def mean_ns(self) -> float:
        """Mean duration of a call in nanoseconds."""
        return self.cost_ns / self.total if self.total else 0.0


class SpanBuilder:
    """The aggregate of one operation in one period.

    Durations are summed in nanoseconds and shown in whole milliseconds: a thousand calls of 0.4 ms cost 400 ms, and not 0.

    Args:
        name: name of the operation.
        max_samples: how many spans :meth:`add_span` keeps as samples.
        max_errors: how many failed ones.
        start_time: Unix milliseconds; default: now.
        excluded: the server does not want this operation.
    """

    __slots__ = (
        "cost_ns",
        "end_time",
        "error_samples",
        "errors",
        "excluded",
        "max_errors",
        "max_ns",
        "max_samples",
        "min_ns",
        "name",
        "samples",
        "start_time",
        "total",
        "value",
    )

    def __init__(
        self,
        name: str,
        max_samples: int = 1,
        max_errors: int = 10,
        *,
        start_time: int | None = None,
        excluded: bool = False,
    ) -> None:
        self.name = name
        self.max_samples = max_samples
        self.max_errors = max_errors
        #: Unix milliseconds: creation, and the moment it was taken for a report.
        self.start_time = SYSTEM_CLOCK.wall_ns() // NS_PER_MS if start_time is None else start_time
        self.end_time = self.start_time
        self.excluded = excluded
        self.total = 0
        self.errors = 0
        self.cost_ns = 0
        self.max_ns = -1
        self.min_ns = _NEVER
        self.value = 0
        self.samples: list[Sample] = []
        self.error_samples: list[Sample] = []

    @property
    def cost(self) -> int:
        """Sum of all durations in milliseconds."""
        return (self.cost_ns + NS_PER_MS // 2) // NS_PER_MS

    @property
    def max_cost(self) -> int:
        """Longest duration in milliseconds."""
        return max(self.max_ns, 0) // NS_PER_MS

    @property
    def min_cost(self) -> int:
        """Shortest duration in milliseconds; -1 while nothing is counted."""
        return self.min_ns // NS_PER_MS if self.min_ns < _NEVER else -1

    def add(self, duration: int, value: int) -> None:
        """Count one call of ``duration`` nanoseconds."""
        self.total += 1
        self.cost_ns += duration
        self.max_ns = max(self.max_ns, duration)
        self.min_ns = min(self.min_ns, duration)
        self.value += value

    def add_span(self, span: Any) -> None:
        """Count an ended span, as in the official Stardust SDK. Not for two threads at once.

        Args:
            span: an object with ``start_time`` and ``end_time`` (Unix milliseconds), ``error`` and the ids of a ``Span``.
        """
        error, value = str(span.error or ""), getattr(span, "value", 0)
        value = value if isinstance(value, int) else 0
        self.add(max(span.end_time - span.start_time, 0) * NS_PER_MS, value)
        kept, most = self.samples, self.max_samples
        if error:
            self.errors += 1
            kept, most = self.error_samples, self.max_errors
        if len(kept) < most:
            kept.append(
                Sample(
                    name=self.name,
                    id=str(span.id),
                    parent_id=str(span.parent_id),
                    trace_id=str(span.trace_id),
                    start_time=span.start_time,
                    end_time=span.end_time,
                    value=value,
                    tag=str(span.tag),
                    flag=1,
                    error=error,
                )
            )
        self.end_time = SYSTEM_CLOCK.wall_ns() // NS_PER_MS

    def to_dict(self) -> dict[str, Any]:
        """The builder as a report carries it (protocol.md §3.1)."""
        from stardust_auto.wire.messages import write_builder, write_sample  # not needed to count

        written = write_builder(self)
        written["Samples"] = [write_sample(sample) for sample in self.samples]
        written["ErrorSamples"] = [write_sample(sample) for sample in self.error_samples]
        return written

    def added_to(self, total: OperationTotal | None) -> OperationTotal:
        """``total`` and this period together."""
        if total is None:
            return OperationTotal(self.name, self.total, self.errors, self.cost_ns, max(self.max_ns, 0))
        return OperationTotal(
            self.name,
            total.total + self.total,
            total.errors + self.errors,
            total.cost_ns + self.cost_ns,
            max(total.max_ns, self.max_ns),
        )

    def __repr__(self) -> str:
        return f"SpanBuilder({self.name!r}, total={self.total}, errors={self.errors}, cost={self.cost})"
