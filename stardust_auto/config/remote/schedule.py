"""When to poll the center: every interval with jitter, at the time of a planned publish, later and later while it fails.

The clock is monotonic, so a jump of the wall clock moves nothing. What a push or a change costs is decided in ``consistency.py``.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from stardust_auto.process.backoff import Backoff, generator

if TYPE_CHECKING:
    from stardust_auto.process.clock import Clock

_JITTER: Final = 0.1
_LONGEST_BACKOFF_SECONDS: Final = 300.0
#: First wait after a failure: before the first answer, while a publish is expected. Otherwise it is the interval.
_START_BACKOFF_SECONDS: Final = 1.0
_CHASE_BACKOFF_SECONDS: Final = 2.0
_FURTHEST_PUBLISH_SECONDS: Final = 86_400.0


class Schedule:
    """The times of one client's polls. ``interval`` and ``full_interval`` are seconds; the latter is between two polls for everything."""

    def __init__(self, interval: float, full_interval: float, clock: Clock) -> None:
        self.interval = interval
        self.full_interval = full_interval
        #: Failed requests since the last answer.
        self.failures = 0
        self._clock = clock
        self._backoff: Backoff | None = None
        self._planned: list[float] = []
        self._next_full = -math.inf

    def plan_publish(self, text: str, offset: float = 0.0) -> None:
        """Remember ``nextPublish``. A time that is past, unreadable or more than a day ahead is ignored.

        Args:
            text: ``yyyy-MM-dd HH:mm:ss`` in the server's local time.
            offset: seconds by which the server's clock is ahead.
        """
        self._planned = []
        try:
            moment = datetime.fromisoformat(text.strip())
            # The server does not name its zone. Both our own and UTC are planned: a needless request costs little.
            utc = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
            times = {moment.timestamp(), utc.timestamp()}
        except (ValueError, OverflowError, OSError):
            return
        for time in times:
            delay = time - (self._clock.wall() + offset)
            if 0 < delay < _FURTHEST_PUBLISH_SECONDS:
                self._planned.append(self._clock.monotonic() + delay)

    def publish_due(self) -> bool:
        """Whether the time of a planned publish has come; true once for each."""
        now = self._clock.monotonic()
        due = any(time <= now for time in self._planned)
        self._planned = [time for time in self._planned if time > now]
        return due

    def full_due(self) -> bool:
        """Whether it is time to ask for everything: changes of shared applications never move our version (protocol.md §6.3)."""
        return self._clock.monotonic() >= self._next_full

    def announced(self) -> None:
        """A publish is expected: back off from the beginning, if at all."""
        self._backoff = None

    def succeeded(self, *, full: bool) -> None:
        """The center answered."""
        self.failures = 0
        self._backoff = None
        if full:
            self._next_full = self._clock.monotonic() + self.full_interval

    def failed(self, *, loaded: bool, chasing: bool, at_least: float | None = None) -> float:
        """The center did not answer; return the seconds to wait. ``at_least`` is its ``Retry-After``."""
        self.failures += 1
        if self._backoff is None:
            first = _CHASE_BACKOFF_SECONDS if chasing else self.interval if loaded else _START_BACKOFF_SECONDS
            self._backoff = Backoff(first, max(_LONGEST_BACKOFF_SECONDS, self.interval), jitter=_JITTER)
        return self._backoff.failed(at_least=at_least)

    def delay(self, ask_at: float) -> float:
        """Seconds until the next request after an answer. ``ask_at`` is when ``consistency`` wants the next one."""
        now = self._clock.monotonic()
        poll = self.interval * generator.uniform(1 - _JITTER, 1 + _JITTER)
        return max(0.0, min(now + poll, ask_at, *self._planned) - now)
