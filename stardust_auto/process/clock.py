"""The clocks, taken once and early.

A test of the program may put its own in the place of ``time.time`` or ``time.monotonic`` for a while, and counts or scripts the calls:
ours would be among them, and our thread would live by that clock. freezegun looks for the originals in every module and replaces them
there, too; so they are kept where it does not look.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def monotonic(*, _clock: Callable[[], float] = time.monotonic) -> float:
    """``time.monotonic()``."""
    return _clock()


def perf_counter_ns(*, _clock: Callable[[], int] = time.perf_counter_ns) -> int:
    """``time.perf_counter_ns()``."""
    return _clock()


def wall_time(*, _clock: Callable[[], float] = time.time) -> float:
    """``time.time()``."""
    return _clock()


class Clock:
    """The time of the system. Everything below the agent is handed a clock and asks nothing else for the time.

    A test hands over a clock that moves only when told (``stardust_auto.testing``).
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def monotonic_ns(self) -> int:
            """Nanoseconds of a clock that never goes back; its zero means nothing."""
            raise NotImplementedError

        def wall_ns(self) -> int:
            """Nanoseconds since 1970-01-01 UTC."""
            raise NotImplementedError

    else:
        # Budget: the built-in functions themselves. Methods would cost each traced call 0.15 us more (CPython 3.11, 2026-11).
        monotonic_ns = time.perf_counter_ns
        wall_ns = time.time_ns

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; its zero means nothing."""
        return monotonic()

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return wall_time()


#: The clock of a program that is not under test.
SYSTEM_CLOCK: Final = Clock()
