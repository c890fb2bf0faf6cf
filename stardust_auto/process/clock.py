"""The clocks, taken once and early.

A test of the program may put its own in the place of ``time.time`` or ``time.monotonic`` for a while, and counts or scripts the calls:
ours would be among them, and our thread would live by that clock. freezegun looks for the originals in every module and replaces them
there, too; so they are kept where it does not look.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

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
