"""A daemon thread that a program may join without waiting for ever."""

from __future__ import annotations

import contextlib
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

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

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: no thread can be had: a limit of the system, the end of the interpreter, or a subinterpreter, whose end a daemon
                thread turns into a fatal error of the whole process.
        """
        if _in_subinterpreter():
            raise RuntimeError("no daemon thread in a subinterpreter")
        super().start()

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


def _in_subinterpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # 3.13 and later, before
        try:
            interpreters: Any = import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() != interpreters.get_main())
    return False


def can_be_ended() -> bool:
    """Whether the interpreter's end can end the calling thread. Call it first thing in a daemon thread.

    Before 3.14 it ends daemon threads by ``pthread_exit``, for which glibc loads libgcc_s.
    Where that fails, as without a free descriptor, glibc aborts the whole process. So the library is loaded while it can be.
    """
    if sys.platform != "linux" or sys.version_info >= (3, 14):
        return True
    try:
        import ctypes

        ctypes.CDLL("libgcc_s.so.1")
    except ImportError:
        return False  # not even a module can be opened
    except OSError as error:
        return "open files" not in str(error)  # musl has no such library, and needs none
    return True
