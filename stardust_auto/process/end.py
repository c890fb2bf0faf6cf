"""The end of a process, for what is used without the agent: atexit, and the children of multiprocessing, which end past it."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any

from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

#: multiprocessing and Celery's copy of it: their children end by ``os._exit``.
_POOLS = ("multiprocessing", "billiard")
#: Late among the finalizers of such a child: the application's own may still make calls.
_LAST = -1000


#: Wall-clock seconds that ending may take, whatever the server does and however many of us have something to bring to an end.
EXIT_BUDGET = 1.0
_deadline = 0.0


def time_left() -> float:
    """Seconds left of the one budget of this process, which begins with the first call."""
    global _deadline
    now = monotonic()
    _deadline = _deadline or now + EXIT_BUDGET
    return max(_deadline - now, 0.05)


def at_end(function: Callable[[], object]) -> None:
    """Call ``function`` when this process ends. It may be called more than once, and must not raise."""
    atexit.unregister(function)
    atexit.register(function)
    at_end_of_child(function)


def not_at_end(function: Callable[[], object]) -> None:
    """Undo :func:`at_end`, but for a child of multiprocessing."""
    atexit.unregister(function)


def at_end_of_child(function: Callable[[], object]) -> None:
    """Call ``function`` when this process ends, if it is a child of multiprocessing; elsewhere nothing happens."""
    for name in _POOLS:
        util: Any = sys.modules.get(f"{name}.util")
        process: Any = sys.modules.get(f"{name}.process")
        if util is not None and process is not None and type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, function, exitpriority=_LAST)
