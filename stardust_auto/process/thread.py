"""A daemon thread that lets a program end which joins every thread that ``threading.enumerate()`` lists."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BackgroundThread(threading.Thread):
    """Who joins it waits for the task under way only; ``at_rest`` it waits for its next one."""

    def __init__(self, name: str, work: Callable[[BackgroundThread], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._at_rest = threading.Event()

    def run(self) -> None:
        try:
            self._work(self)
        finally:
            del self._work
            self._at_rest.set()

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing is done for now. Only for the thread itself."""
        self._at_rest.set()
        try:
            yield
        finally:
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
