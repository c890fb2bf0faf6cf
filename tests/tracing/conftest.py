"""A clock that only moves when told, and ids that repeat: every test of this room is exact."""

from __future__ import annotations

import pytest

from stardust_auto.process.clock import Clock
from stardust_auto.tracing.ids import IdGenerator
from stardust_auto.tracing.tracer import Tracer

MS = 1_000_000


class ManualClock(Clock):
    """Nanoseconds since an arbitrary start; the wall clock runs along from 2026-11-24."""

    START = 1000 * MS
    WALL = 1_795_478_400_000 * MS

    def __init__(self) -> None:
        self.ns = self.START

    def monotonic_ns(self) -> int:
        return self.ns

    def wall_ns(self) -> int:
        return self.WALL + self.ns

    def advance(self, ms: float) -> None:
        self.ns += int(ms * MS)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tracer(clock: ManualClock) -> Tracer:
    return Tracer(ids=IdGenerator(1), clock=clock)
