"""A clock that moves only when a test moves it."""

from __future__ import annotations

import time

from stardust_auto.process.clock import Clock


class HandClock(Clock):
    """``now`` is its monotonic time in seconds; its wall clock begins at this moment."""

    def __init__(self, now: float = 100.0, *, wall: float | None = None) -> None:
        self.now = now
        self.offset = (time.time() if wall is None else wall) - now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.offset

    def monotonic_ns(self) -> int:
        return int(self.monotonic() * 1e9)

    def wall_ns(self) -> int:
        return int(self.wall() * 1e9)
