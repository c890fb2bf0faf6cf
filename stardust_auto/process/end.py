"""Runs the registered shutdown functions, in phases, within one time budget.

Ways to end: ``atexit``; a child of multiprocessing, which ends through ``os._exit`` after its finalizers; SIGTERM (``sigterm.py``); and any
library that ends processes by itself, whose integration calls :func:`run`.
"""

from __future__ import annotations

import atexit
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.process import fork, signals
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

#: How long the end of a process may be delayed, shared by all who registered.
EXIT_BUDGET_SECONDS: Final = 1.0
#: What is left for one function when the budget is used up.
_LEAST_SECONDS: Final = 0.05
#: multiprocessing and Celery's copy of it: their children exit through ``os._exit``, so ``atexit`` does not run.
_POOLS: Final = ("multiprocessing", "billiard")
#: Late among the finalizers of such a child: those of the program may still make calls.
_LAST_PRIORITY: Final = -1000


class Phase(IntEnum):
    """The order of ending."""

    STOP_TAKING = 1
    FLUSH = 2
    LOG_OUT = 3
    CLOSE = 4


class ProcessEnd:
    """What runs when this process ends, each function once. A forked child starts with nothing."""

    def __init__(self) -> None:
        self._at_exit = False
        self.reset_after_fork()
        fork.register(self)

    def reset_after_fork(self) -> None:
        """Forget the functions of the parent, and its budget."""
        self._functions: dict[Callable[[float], object], Phase] = {}
        self._deadline = 0.0
        #: Whether :meth:`run` is at work.
        self.running = False
        #: A signal that came meanwhile; it ends the process when :meth:`run` is done.
        self.postponed_signal = 0

    def register(self, phase: Phase, function: Callable[[float], object]) -> None:
        """Call ``function(seconds)`` in ``phase`` of the end of this process; it must return within the seconds."""
        self.hook()
        at_end_of_child(self.run)  # each time: multiprocessing forgets the finalizers that a child had before it began
        self._functions[function] = phase

    def unregister(self, function: Callable[[float], object]) -> None:
        """Undo :meth:`register`."""
        self._functions.pop(function, None)

    def hook(self) -> None:
        """Register with ``atexit``, once.

        It runs its functions in reverse order, so the agent calls this before the program registers its own.
        """
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self.run)

    def time_left(self) -> float:
        """Seconds left of the budget, which begins with the first call."""
        now = monotonic()
        self._deadline = self._deadline or now + EXIT_BUDGET_SECONDS
        return max(self._deadline - now, _LEAST_SECONDS)

    def run(self) -> None:
        """End: call everything that is registered, phase by phase. Never raises; a second call finds nothing left to do."""
        if self.running:
            return
        self.running = True
        try:
            self.time_left()
            for phase in Phase:
                for function in [one for one, its_phase in self._functions.items() if its_phase is phase]:
                    self._functions.pop(function, None)
                    try:
                        function(self.time_left())
                    except Exception as error:  # noqa: BLE001 - the others have something to bring to an end too
                        _log_fault(error)
        finally:
            self.running = False
        _keep_exit_status()
        if self.postponed_signal:
            signals.die_of(self.postponed_signal)


def _log_fault(error: Exception) -> None:
    from stardust_auto.log import get_logger

    get_logger(__name__).warning("the end of the process: %s", type(error).__name__)


def _keep_exit_status() -> None:
    """Leave the interpreter's note that Ctrl-C ended the program as it was: the exit status comes from it.

    The interpreter clears the note whenever a string of code runs, and any import may do that (a dataclass is made that way).
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")  # noqa: S102 - a constant; it sets the note again
        except KeyboardInterrupt:
            return


def at_end_of_child(function: Callable[[], object]) -> None:
    """Call ``function`` when this process ends, if it is a child of multiprocessing; elsewhere nothing happens."""
    for name in _POOLS:
        util: Any = sys.modules.get(f"{name}.util")
        process: Any = sys.modules.get(f"{name}.process")
        if util is not None and process is not None and type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, function, exitpriority=_LAST_PRIORITY)


#: The end of this process.
process_end: Final = ProcessEnd()
register = process_end.register
unregister = process_end.unregister
run = process_end.run
time_left = process_end.time_left
