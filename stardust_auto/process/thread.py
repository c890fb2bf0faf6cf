"""A daemon thread that a program may join without waiting for ever."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BackgroundThread(threading.Thread):
    """A daemon thread whose ``join`` returns as soon as the current task is done, although the thread itself keeps running.

    Some programs join every thread that ``threading.enumerate()`` lists before they end.
    """

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
        """Inside the block the thread waits for its next task. Only the thread itself calls this."""
        self._at_rest.set()
        try:
            yield
        finally:
            self._at_rest.clear()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the current task, at most ``timeout`` seconds."""
        if self is threading.current_thread():
            super().join(timeout)  # raises, with the reason
        self._at_rest.wait(timeout)

    def ended(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the thread itself; whether it has ended."""
        super().join(timeout)
        return not self.is_alive()
