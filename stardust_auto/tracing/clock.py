"""The clocks, taken once and early.

A test of the program may put its own in the place of ``time.time`` or ``time.monotonic`` for a while, and counts or scripts the calls:
ours would be among them, and our thread would live by that clock.
"""

from time import monotonic, perf_counter_ns
from time import time as wall_time

__all__ = ["monotonic", "perf_counter_ns", "wall_time"]
