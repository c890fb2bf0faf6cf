"""The one background thread of a process: it runs tasks when they are due, when their socket is ready, or when woken.

Everything is decided by a monotonic clock, so a wall clock that jumps disturbs nothing, and a test can drive the worker
by hand: ``run_due`` runs what is due at the clock's time and returns when to come back.
"""

from __future__ import annotations

import contextvars
import heapq
import selectors
import sys
import threading
from typing import TYPE_CHECKING, Final, Protocol

from stardust_auto.log import get_logger
from stardust_auto.process import signals
from stardust_auto.process.clock import monotonic
from stardust_auto.process.context import SUPPRESSED, current_span, suppressed
from stardust_auto.process.fork import after_fork_in_child, around_fork_in_parent, in_forking_master, until_gone
from stardust_auto.process.sockets import socket_pair
from stardust_auto.process.thread import BackgroundThread

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

logger = get_logger(__name__)

THREAD_NAME: Final = "stardust"
#: A task that raised is tried again after this many seconds.
_AFTER_FAULT: Final = 60.0
#: Seconds that a fork waits for the thread at most.
_PAUSE: Final = 0.5
#: Seconds that no fork waits after one that waited in vain: a server that hangs must not slow every fork down.
_NO_PAUSE: Final = 30.0


class Task(Protocol):
    """Work for the background thread. Short, never blocking for longer than a call's time-out."""

    @property
    def name(self) -> str: ...  # for log lines

    def run(self) -> float | None:
        """Do what is due; return the seconds to the next run, or None to run only when woken."""

    def finish(self, deadline: float) -> None:
        """Last chance before the session stops; be done by ``deadline`` (``time.monotonic``)."""


class Worker:
    """Runs tasks one after the other. All public methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._waker: socket.socket | None = None
        self._fresh()
        after_fork_in_child(self._fresh)
        around_fork_in_parent(self._pause, self._resume)

    def _fresh(self) -> None:
        self._close_waker()
        # Re-entrant: a signal handler or a finaliser may schedule something while this thread is in here.
        self._lock = threading.RLock()
        self._tasks: set[Task] = set()
        self._due: dict[Task, float] = {}
        self._heap: list[tuple[float, int, Task]] = []
        self._order = 0
        self._sockets: dict[Task, socket.socket] = {}
        self._thread: BackgroundThread | None = None
        self._faulted: set[tuple[str, type[BaseException]]] = set()
        self._paused = False
        self._no_pause_until = 0.0

    @property
    def running(self) -> bool:
        """Whether the thread is there and alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the background thread itself."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def start(self) -> bool:
        """Start the thread unless it runs. False where none can be had: late in interpreter shutdown, or before uWSGI forks."""
        if in_forking_master():
            return False
        with self._lock:
            if self.running:
                return True
            reader, writer = socket_pair()
            reader.setblocking(False)
            writer.setblocking(False)
            context = contextvars.Context()
            thread = BackgroundThread(THREAD_NAME, lambda thread: context.run(self._main, thread, reader))
            try:
                with signals.blocked():
                    thread.start()
            except RuntimeError:
                reader.close()
                writer.close()
                return False
            self._thread, self._waker = thread, writer
            return True

    def _close_waker(self) -> None:
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()

    def _pause(self) -> None:
        """This process is about to fork: end the thread, unless a call keeps it longer than a moment."""
        thread = self._thread
        if thread is None or not thread.is_alive() or self.is_current_thread or monotonic() < self._no_pause_until:
            return
        self._paused = True
        self._wake()
        if thread.ended(_PAUSE):
            until_gone(thread)
        else:
            self._no_pause_until = monotonic() + _NO_PAUSE

    def _resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        # Python 3.12 and later warn of threads that are there by now. What is only reported can wait for the next call that is recorded,
        # settings that somebody follows cannot.
        if self._tasks and (sys.version_info < (3, 12) or any(task.name == "config" for task in self._tasks)):
            self.start()

    def add(self, task: Task, delay: float = 0.0) -> None:
        """Take ``task`` on and run it after ``delay`` seconds; nothing happens when it is there already."""
        with self._lock:
            if task in self._tasks:
                return
            self._tasks.add(task)
        self.schedule(task, delay)

    def schedule(self, task: Task, delay: float = 0.0, *, sooner: bool = False) -> None:
        """Run ``task`` after ``delay`` seconds; with ``sooner`` only if that is before its time."""
        with self._lock:
            if task not in self._tasks:
                return
            when = self.clock() + delay
            if sooner and task in self._due and self._due[task] <= when:
                return
            self._due[task] = when
            self._order += 1
            heapq.heappush(self._heap, (when, self._order, task))
        self._wake()

    def remove(self, task: Task) -> None:
        """Forget ``task`` and its socket. The thread ends when no task is left."""
        with self._lock:
            self._tasks.discard(task)
            self._due.pop(task, None)
            self._sockets.pop(task, None)
        self._wake()

    def watch(self, task: Task, sock: socket.socket | None) -> None:
        """Run ``task`` also whenever ``sock`` can be read; None to stop watching."""
        with self._lock:
            if sock is None:
                self._sockets.pop(task, None)
            else:
                self._sockets[task] = sock
        self._wake()

    def run(self, function: Callable[[], object], timeout: float) -> bool:
        """Run ``function`` once on the thread and wait for it at most ``timeout`` seconds. Without a thread it runs here, at once.

        Returns:
            Whether it returned in time. False also when it raised, which is logged.
        """
        if not self.running or self.is_current_thread:
            with suppressed():
                return _returns(function)
        job = _Job(self, function, monotonic() + timeout)
        self.add(job)
        return job.done.wait(max(0.0, timeout)) and job.returned

    def run_due(self) -> float | None:
        """Run every task that is due now; seconds to the next one, None when there is none."""
        for _ in range(len(self._due) + 1):
            task = None if self._paused else self._pop_due()
            if task is None:
                break
            self._run(task)
        with self._lock:
            return max(0.0, min(self._due.values()) - self.clock()) if self._due else None

    def _pop_due(self) -> Task | None:
        with self._lock:
            now = self.clock()
            while self._heap and self._heap[0][0] <= now:
                when, _, task = heapq.heappop(self._heap)
                if self._due.get(task) == when:
                    del self._due[task]
                    return task
            return None

    def _run(self, task: Task) -> None:
        try:
            delay = task.run()
        except Exception as error:  # noqa: BLE001 - a task at fault must not stop the others
            delay = _AFTER_FAULT
            fault = (task.name, type(error))
            if fault not in self._faulted:
                self._faulted.add(fault)
                logger.warning("%s failed: %s: %s", task.name, type(error).__name__, error)
        if delay is not None:
            self.schedule(task, max(0.0, delay), sooner=True)

    def _main(self, thread: BackgroundThread, reader: socket.socket) -> None:
        current_span.set(SUPPRESSED)
        try:
            self._loop(thread, reader)
        except Exception as error:  # noqa: BLE001 - a traceback on the application's stderr would be the only other outcome
            logger.warning("the background thread ends: %s: %s", type(error).__name__, error)
        finally:
            reader.close()

    def _loop(self, thread: BackgroundThread, reader: socket.socket) -> None:
        # poll() has no kernel state that a forked child would share with its parent, as epoll has.
        kind = getattr(selectors, "PollSelector", selectors.SelectSelector)
        while True:
            delay = self.run_due()
            with self._lock:
                if not self._tasks or self._paused:
                    self._thread = None
                    self._close_waker()
                    return
                watched = dict(self._sockets)
            self._wait(kind, thread, reader, watched, delay)

    def _wait(
        self,
        kind: type[selectors.SelectSelector],
        thread: BackgroundThread,
        reader: socket.socket,
        watched: dict[Task, socket.socket],
        delay: float | None,
    ) -> None:
        with kind() as selector:
            selector.register(reader, selectors.EVENT_READ)
            for task, sock in watched.items():
                try:
                    selector.register(sock, selectors.EVENT_READ, task)
                except (OSError, ValueError):
                    self.schedule(task)  # closed in the meantime: its task will see
            with thread.at_rest():
                ready = selector.select(delay)
            for key, _ in ready:
                if key.data is None:
                    self._drain(reader)
                else:
                    self.schedule(key.data)

    @staticmethod
    def _drain(reader: socket.socket) -> None:
        try:
            while reader.recv(4096):
                continue
        except BlockingIOError:
            return

    def _wake(self) -> None:
        waker = self._waker
        if waker is None or self.is_current_thread:
            return
        try:
            waker.send(b"\0")
        except OSError:  # full: a wake-up is already on its way; reset: the thread has ended
            return


class _Job:
    """One function, run once. Nobody waits for it after ``deadline``, so it is not begun after that."""

    name = "job"

    def __init__(self, worker: Worker, function: Callable[[], object], deadline: float) -> None:
        self.done = threading.Event()
        self.returned = False
        self._worker = worker
        self._function = function
        self._deadline = deadline

    def run(self) -> float | None:
        self._worker.remove(self)
        if monotonic() < self._deadline:
            self.returned = _returns(self._function)
            self.done.set()
        return None

    def finish(self, deadline: float) -> None:
        """Nothing to do."""


def _returns(function: Callable[[], object]) -> bool:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the caller learns that it failed; no exception of ours may reach the program
        logger.warning("a job failed: %s: %s", type(error).__name__, error)
        return False
    return True


_worker = Worker()


def process_worker() -> Worker:
    """The worker of this process."""
    return _worker
