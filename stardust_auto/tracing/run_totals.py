"""Totals and samples of a whole run, for ``--summary`` and tests: a report only covers its own period."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stardust_auto.tracing.builder import OperationTotal, Sample, SpanBuilder

#: Samples kept of a run; the oldest are dropped.
_MAX_SAMPLES = 5_000


class RunTotals:
    """Sums by name, and samples, of the periods that are over. Each question adds the builders of the running period."""

    def __init__(self) -> None:
        self._totals: dict[str, OperationTotal] = {}
        self._samples: deque[Sample] = deque(maxlen=_MAX_SAMPLES)

    def add(self, builder: SpanBuilder) -> None:
        """Add a builder whose period is over."""
        self._totals[builder.name] = builder.added_to(self._totals.get(builder.name))
        self._samples.extend(builder.samples)
        self._samples.extend(builder.error_samples)

    def totals(self, running: Iterable[SpanBuilder]) -> list[OperationTotal]:
        """By name, the most expensive first."""
        totals = dict(self._totals)
        for builder in running:
            if builder.total and not builder.excluded:
                totals[builder.name] = builder.added_to(totals.get(builder.name))
        return sorted(totals.values(), key=lambda one: (-one.cost_ns, one.name))

    def samples(self, running: Iterable[SpanBuilder]) -> list[Sample]:
        """Oldest first."""
        kept = [*self._samples]
        for builder in running:
            if not builder.excluded:
                kept += builder.samples
                kept += builder.error_samples
        return sorted(kept, key=lambda sample: sample.start_ns)
