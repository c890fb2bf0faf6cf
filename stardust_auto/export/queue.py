"""Periods that wait for a server, merged when memory runs short.

The counts of an operation stay exact; their resolution in time becomes coarser, up to an hour.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Builders kept while no server answers, about 400 bytes each, and the periods that they come in.
MAX_QUEUED_BUILDERS: Final = 20_000
MAX_QUEUED_PERIODS: Final = 2880
#: Merged periods cover this much at most: the server keeps statistics by the hour.
MAX_MERGED_MS: Final = 3_600_000


class Total(NamedTuple):
    """One builder without its samples, as it is written. Times in Unix milliseconds, costs in milliseconds."""

    name: str
    start: int
    end: int
    total: int
    errors: int
    cost: int
    max_cost: int
    min_cost: int
    value: int

    def plus(self, other: Total) -> Total:
        """Both together: the calls of two periods of one operation."""
        shortest = [cost for cost in (self.min_cost, other.min_cost) if cost >= 0]
        return Total(
            self.name,
            min(self.start, other.start),
            max(self.end, other.end),
            min(self.total + other.total, 2**31 - 1),
            min(self.errors + other.errors, 2**31 - 1),
            min(self.cost + other.cost, 2**63 - 1),
            max(self.max_cost, other.max_cost),
            min(shortest, default=-1),
            max(-(2**63), min(self.value + other.value, 2**63 - 1)),
        )

    def to_wire(self) -> dict[str, Any]:
        return dict(zip(MEMBERS, self, strict=True))


MEMBERS: Final = ("Name", "StartTime", "EndTime", "Total", "Errors", "Cost", "MaxCost", "MinCost", "Value")


class Period:
    """What was counted in one period, or in several that were merged."""

    __slots__ = ("end", "samples", "start", "totals", "was_refused")

    def __init__(self) -> None:
        self.totals: dict[str, Total] = {}
        #: JSON members by name, for the first attempt only.
        self.samples: dict[str, str] = {}
        self.start = 2**63
        self.end = 0
        #: The server answered that it stored nothing of this.
        self.was_refused = False

    def add(self, totals: Iterable[Total]) -> None:
        for total in totals:
            known = self.totals.get(total.name)
            self.totals[total.name] = total if known is None else known.plus(total)
            self.start = min(self.start, total.start)
            self.end = max(self.end, total.end)


class PeriodQueue:
    """Oldest first. Only the newest period has samples.

    Args:
        limit: builders in all periods.
    """

    def __init__(self, limit: int = MAX_QUEUED_BUILDERS) -> None:
        self._limit = limit
        self._periods: deque[Period] = deque()
        #: Builders in all periods.
        self.builders = 0

    def __len__(self) -> int:
        return len(self._periods)

    @property
    def oldest(self) -> Period | None:
        """The period to send first."""
        return self._periods[0] if self._periods else None

    @property
    def newest(self) -> Period | None:
        """The period that was added last."""
        return self._periods[-1] if self._periods else None

    def add(self, period: Period) -> list[Total]:
        """Append ``period``. Returns what had to go to make room for it: the oldest, where nothing is left to merge."""
        self._periods.append(period)
        self.builders += len(period.totals)
        dropped: list[Total] = []
        while self.builders > self._limit or len(self._periods) > MAX_QUEUED_PERIODS:
            if not self._merge_two():
                oldest = self._periods.popleft()
                self.builders -= len(oldest.totals)
                dropped += oldest.totals.values()
        return dropped

    def remove(self, totals: Iterable[Total], period: Period) -> None:
        """``totals`` of ``period`` do not wait any more."""
        for total in totals:
            del period.totals[total.name]
            period.samples.pop(total.name, None)
            self.builders -= 1
        if not period.totals and period in self._periods:
            self._periods.remove(period)

    def forget_samples(self) -> None:
        """Traces of an outage are not kept."""
        for period in self._periods:
            period.samples = {}

    def _merge_two(self) -> bool:
        """Merge the two neighbours that cover the least time together, the oldest of several."""
        periods = list(self._periods)
        best, best_index = MAX_MERGED_MS + 1, -1
        for index in range(len(periods) - 2):  # not the newest: it has samples
            first, second = periods[index], periods[index + 1]
            covered = second.end - first.start
            if covered < best and not first.totals.keys().isdisjoint(second.totals):
                best, best_index = covered, index
        if best_index < 0:
            return False
        first, second = periods[best_index], periods[best_index + 1]
        before = len(first.totals) + len(second.totals)
        first.add(second.totals.values())
        self.builders -= before - len(first.totals)
        del self._periods[best_index + 1]
        return True
