"""A second knock for a main thread that has not heard the first.

Python runs a signal handler between two steps of its own code. A signal that comes just before a call in C begins to wait is noticed when
that call comes back, which may be never: ``Pool.terminate()`` sends SIGTERM to workers at the moment when they begin to wait for their next
task. Without a handler the signal would simply have ended them.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from stardust_auto.process.fork import until_gone
from stardust_auto.process.signals import blocked

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that the main thread has to begin with the handler, at first and at most.
_FIRST, _LONGEST = 0.05, 1.0
_STOP = b"\0"


class Nudge:
    """Sends the signal ``number`` to the main thread again as long as it comes and ``handler``, which is to replace itself, is still there.

    Made in the main thread. Who sets a wake-up descriptor later has it for himself, and so has who set one before.
    """

    def __init__(self, number: int, handler: Callable[..., object]) -> None:
        self._number = number
        self._handler = handler
        self._over = threading.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._watch, name="stardust-signals", daemon=True)
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if before == -1:
            with blocked():
                self._thread.start()
        else:
            signal.set_wakeup_fd(before)

    def stop(self) -> None:
        """End the thread, before a fork: from then on who is sent a signal is told once."""
        if self._thread.is_alive():
            self._over.set()
            os.write(self._writer, _STOP)
            self._thread.join(_LONGEST)
            until_gone(self._thread)

    def abandon(self) -> None:
        """In a forked child: the descriptors are of no use there."""
        current = signal.set_wakeup_fd(-1)
        if current not in (-1, self._writer):
            signal.set_wakeup_fd(current)
        os.close(self._reader)
        os.close(self._writer)

    def _watch(self) -> None:
        numbers = b""
        while self._number not in numbers:
            numbers = os.read(self._reader, 64)
            if self._over.is_set() or not numbers:
                return
        wait = _FIRST
        while not self._over.wait(wait) and signal.getsignal(self._number) == self._handler:
            signal.pthread_kill(threading.main_thread().ident or 0, self._number)
            wait = min(2 * wait, _LONGEST)
