"""When to ask the center again. Monotonic throughout: a jump of the wall clock moves nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from stardust_auto.process import jitter

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

#: Seconds after a push at which to look. A StarServer answers from a cache of 10 s, and once more from it after that: that answer
#: is fetched as soon as it can be, and the next one is right. So a publish is live 10.6 s after its push whatever the cache's age.
CHASE = (0.0, 2.0, 4.0, 6.0, 8.0, 10.1, 10.6, 12.5, 14.5, 17.0, 20.0)
_CHASE_STEP = 2.0
_TOLERANCE = 0.05
_JITTER = 0.1
_LONGEST_BACKOFF = 300.0
_FIRST_RETRY = 1.0
_FURTHEST_PUBLISH = 86_400.0


class Schedule:
    """The times of one client's pulls, in seconds of ``clock``.

    Normal: every ``interval`` with jitter. After a push, and at the time of a planned publish: at once and then at the times of ``CHASE``
    until something moved or 20 s are over (protocol.md §12.3). After an error: back-off.
    """

    def __init__(self, interval: float, clock: Callable[[], float], rng: random.Random | None = None) -> None:
        self.interval = interval
        self.clock = clock
        self.failures = 0
        self._random = rng or jitter.generator
        self._chase: list[float] = []
        self._planned: list[float] = []
        self._next_full = 0.0

    @property
    def chasing(self) -> bool:
        return bool(self._chase)

    def chase(self) -> None:
        now = self.clock()
        self._chase = [now + seconds for seconds in CHASE]

    def settle(self) -> None:
        """What was announced has arrived."""
        self._chase = []

    def plan_publish(self, text: str, now: float, offset: float = 0.0) -> None:
        """Remember ``nextPublish`` (``yyyy-MM-dd HH:mm:ss``, the server's local time; ``now`` in Unix seconds, ``offset`` of its clock).

        The zone is not said: both our own and UTC count, a needless pull costs little. The past and the unreadable are ignored.
        """
        self._planned = []
        try:
            moment = datetime.fromisoformat(text.strip())
            utc = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
            times = {moment.timestamp(), utc.timestamp()}
        except (ValueError, OverflowError, OSError):
            return
        for time in times:
            delay = time - (now + offset)
            if 0 < delay < _FURTHEST_PUBLISH:
                self._planned.append(self.clock() + delay)

    def begin(self, full_every: float) -> bool:
        """Start a pull; returns whether it must ask for everything (version 0)."""
        now = self.clock()
        if any(time <= now for time in self._planned):
            self._planned = [time for time in self._planned if time > now]
            self.chase()
        full = self.chasing or now >= self._next_full
        if full:
            self._next_full = now + full_every
        return full

    def failed(self) -> None:
        self.failures += 1

    def succeeded(self) -> None:
        self.failures = 0

    def delay(self, loaded: bool, retry_after: float | None = None) -> float:
        """Seconds until the next pull."""
        now = self.clock()
        self._chase = [time for time in self._chase if time > now + _TOLERANCE]
        if self.failures:
            base = self.interval if loaded else _FIRST_RETRY
            delay = min(base * 2.0 ** min(self.failures - 1, 16), max(_LONGEST_BACKOFF, self.interval))
            if self._chase:
                delay = min(delay, _CHASE_STEP * 2.0 ** min(self.failures - 1, 16))
            return max(self._spread(delay), retry_after or 0.0)
        if self._chase:
            return self._chase[0] - now
        delay = self._spread(self.interval)
        return min([delay, *(max(time - now, 0.0) for time in self._planned)])

    def _spread(self, delay: float) -> float:
        return delay * self._random.uniform(1 - _JITTER, 1 + _JITTER)
