"""A thread that is there for the program only while it works.

A program may join every thread that ``threading.enumerate()`` lists, or wait until ``active_count()`` is 1, and test suites look for
threads that are left behind. So a thread that only waits for its next task is not listed, and who joins it waits for the task under way.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: CPython's list of running threads; there is no public way to leave it. Where it is missing, the thread stays listed.
_listed: dict[int, threading.Thread] = getattr(threading, "_active", {})


class BackgroundThread(threading.Thread):
    """A daemon thread that can be ``at_rest``."""

    def __init__(self, name: str, target: Any, args: tuple[Any, ...]) -> None:
        super().__init__(name=name, target=target, args=args, daemon=True)
        self._at_rest = threading.Event()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._at_rest.set()

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing is done for now. Only for the thread itself."""
        ident = threading.get_ident()
        _listed.pop(ident, None)
        self._at_rest.set()
        try:
            yield
        finally:
            _listed[ident] = self  # also for Thread itself, which takes it out at the end
            self._at_rest.clear()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the task under way: nobody but us waits for the end, which would be that of the process."""
        if self is threading.current_thread():
            super().join(timeout)  # says why that cannot be
        self._at_rest.wait(timeout)

    def ended(self, timeout: float) -> bool:
        """Wait for the end itself."""
        super().join(timeout)
        return not self.is_alive()
