"""Callbacks of the program, run in order on a thread of their own.

A slow callback delays neither a new state of the settings nor the session's heartbeat. The thread exists only while there is work.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from stardust_auto.log import get_logger
from stardust_auto.process import fork, signals

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)


class Dispatcher:
    """An ordered queue of calls with a short-lived daemon thread.

    Args:
        name: name of the thread.

    Attributes:
        by_hand: whether only :meth:`drain` runs the calls, without a thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.by_hand = False
        self.reset_after_fork()
        fork.register(self)

    def reset_after_fork(self) -> None:
        """A child has nothing to call yet."""
        self._condition = threading.Condition()
        self._jobs: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[..., object], *args: Any) -> None:
        """Run ``function(*args)`` soon. Where no thread can be had, as late in interpreter shutdown, it runs here."""
        with self._condition:
            self._jobs.append((function, args))
            if self.by_hand or self._thread is not None or self._start():
                return
        self._work()

    def _start(self) -> bool:
        self._thread = threading.Thread(target=self._work_for_program, name=self._name, daemon=True)
        try:
            with signals.blocked():
                self._thread.start()
        except RuntimeError:
            self._thread = None
            return False
        return True

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything submitted so far has run, at most ``timeout`` seconds; whether it has."""
        if self._thread is threading.current_thread():
            return False
        if self.by_hand:
            self._work()
        with self._condition:
            return self._condition.wait_for(lambda: not self._jobs and self._thread is None, timeout)

    def _work_for_program(self) -> None:
        with signals.as_in_program():
            self._work()

    def _work(self) -> None:
        finished = False
        try:
            while True:
                with self._condition:
                    if not self._jobs:
                        self._thread = None
                        finished = True
                        self._condition.notify_all()
                        return
                    function, args = self._jobs.popleft()
                _call(function, *args)
        finally:
            if not finished:  # a BaseException ends this thread, not the queue
                with self._condition:
                    self._thread = None
                    if not self._jobs or not self._start():
                        self._condition.notify_all()


def _call(function: Callable[..., object], *args: Any) -> None:
    """Call a plain or async function. An ``Exception`` is logged by type and place, without values; any other goes up."""
    try:
        result = function(*args)
        if inspect.isawaitable(result):
            _run_async(result, function)
    except Exception as error:  # noqa: BLE001 - code of the program may fail in any way, the next callback still runs
        log_failure(function, error)


def _run_async(result: Any, function: Callable[..., object]) -> None:
    async def wait() -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001 - as above
            log_failure(function, error)

    waiter = wait()
    try:
        loop = asyncio.get_running_loop()  # without a thread for callbacks, this may run inside a loop
    except RuntimeError:
        asyncio.run(waiter)
        return
    asyncio.run_coroutine_threadsafe(waiter, loop)


def name_of(function: Callable[..., object]) -> str:
    """The name of a callback for a log line."""
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def log_failure(function: Callable[..., object], error: BaseException) -> None:
    """Log that a callback failed, by type and place: the text of the error may hold values of settings."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
    logger.error("configuration callback %s failed with %s%s", name_of(function), type(error).__name__, place)
