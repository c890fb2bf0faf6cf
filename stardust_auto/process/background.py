"""The one background thread of a process: it runs tasks when they are due, when their socket is readable, or when woken.

A monotonic clock decides everything, so a wall clock that jumps disturbs nothing.
A test drives the worker by hand: ``run_due`` runs what is due at the clock's time and returns the seconds to the next task.

Over 400 lines, since the state of the thread, its forks and its tasks change under one lock.
"""

from __future__ import annotations

import contextvars
import heapq
import threading
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from stardust_auto.log import get_logger
from stardust_auto.process import fork, signals
from stardust_auto.process.backoff import Backoff
from stardust_auto.process.clock import monotonic
from stardust_auto.process.context import SUPPRESSED, current_span
from stardust_auto.process.thread import BackgroundThread, can_be_ended

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

logger = get_logger(__name__)

THREAD_NAME: Final = "stardust"
#: A task that raised runs again after this many seconds.
_FAULT_SECONDS: Final = 60.0
#: How long a fork waits for the thread to end.
_PAUSE_SECONDS: Final = 0.5
#: How long it waits after that if the thread imports: an import cannot be interrupted, but it ends.
_IMPORT_PAUSE_SECONDS: Final = 2.0
#: Seconds without a wait at forks after one wait timed out: a server that hangs must not slow every fork down.
_NO_PAUSE_SECONDS: Final = 30.0


class State(Enum):
    """The state of background work in this process."""

    IDLE = "idle"  # no thread: nothing is wanted, or no thread can be had
    STARTING = "starting"  # the thread is there and imports what it needs
    RUNNING = "running"
    PAUSED = "paused for a fork"
    ENDING = "ending"  # the process ends: no new thread


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What the worker knows about itself.

    Attributes:
        state: idle, starting, running, paused for a fork, or ending.
        tasks: names of the tasks, sorted.
        deaths: how often the thread died of an exception and was replaced.
        last_fault: the last exception that a task or the thread raised, by type and text.
    """

    state: str
    tasks: tuple[str, ...]
    deaths: int
    last_fault: str | None


class Task(Protocol):
    """Work for the background thread. Short, never blocking for longer than a call's time-out."""

    @property
    def name(self) -> str: ...  # for log lines

    def run(self) -> float | None:
        """Do what is due; return the seconds to the next run, or None to run only when woken."""

    def finish(self, deadline: float) -> None:
        """Last chance before the session stops; be done by ``deadline`` (``time.monotonic``)."""


class Worker:
    """Runs tasks one after the other. All public methods may be called from any thread.

    One rule: while there are tasks and :meth:`start` was called, there is a thread.
    A thread that dies is replaced, and one that ended for a fork starts again after it.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._waker: socket.socket | None = None
        self.reset_after_fork()
        fork.register(self)
        fork.register_pause(self)

    def reset_after_fork(self) -> None:
        """Start with nothing: a forked child has its own tasks."""
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()
        # Re-entrant: a signal handler or a finaliser may schedule something while this thread is in here.
        self._lock = threading.RLock()
        self._state = State.IDLE
        self._wanted = False
        self._tasks: set[Task] = set()
        self._due: dict[Task, float] = {}
        self._heap: list[tuple[float, int, Task]] = []
        self._order = 0
        self._sockets: dict[Task, socket.socket | int] = {}
        self._thread: BackgroundThread | None = None
        self._faulted: set[tuple[str, type[BaseException]]] = set()
        self._last_fault: str | None = None
        self._starts = Backoff(1.0, 60.0)
        self._start_at = 0.0
        self._deaths = Backoff(1.0, 60.0)
        #: Forks that are going on, in different threads.
        self._forks = 0
        self._no_pause_until = 0.0

    # -- the thread --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state of background work."""
        return self._state

    @property
    def status(self) -> WorkerStatus:
        """A snapshot for people and tools."""
        with self._lock:
            names = tuple(sorted(task.name for task in self._tasks))
        return WorkerStatus(self._state.value, names, self._deaths.failures, self._last_fault)

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the background thread itself."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def start(self) -> bool:
        """Have a thread from now on, as long as there are tasks. Idempotent, and quick after a failure.

        Returns:
            Whether there is one, or will be as soon as a fork is over. There is none late in interpreter shutdown, before uWSGI forks, and
            where the system refuses one; call again later.
        """
        with self._lock:
            self._wanted = True
            if self._thread is not None or self._state is State.PAUSED:
                return True
            return self._start_thread()

    def _start_thread(self, delay: float = 0.0) -> bool:
        """Start the thread, which sleeps for ``delay`` seconds first. Call it with the lock."""
        if fork.in_forking_master() or self._state is State.ENDING or monotonic() < self._start_at:
            return False
        context = contextvars.Context()
        thread = BackgroundThread(THREAD_NAME, lambda thread: context.run(self._main, thread, delay))
        self._thread, self._state = thread, State.STARTING
        try:
            with signals.blocked():
                thread.start()
        except RuntimeError:  # a limit of the system, or the interpreter is shutting down
            self._thread, self._state = None, State.IDLE
            self._start_at = monotonic() + self._starts.failed()
            return False
        self._starts.succeeded()
        return True

    def end(self) -> None:
        """The process ends: no thread is started any more. One that runs goes on until its tasks are removed."""
        with self._lock:
            self._state = State.ENDING

    def _main(self, thread: BackgroundThread, delay: float) -> None:
        current_span.set(SUPPRESSED)
        fault: BaseException | None = None
        wait = 0.0
        reader: socket.socket | None = None
        if not can_be_ended():
            with self._lock:  # as where the system refuses a thread: the next start() tries again
                self._leave(thread)
                self._last_fault = "no file can be opened"
                self._start_at = monotonic() + self._starts.failed()
            return
        try:
            reader = self._open_waker(thread)
            self._loop(thread, reader, delay)
        except BaseException as error:  # noqa: BLE001 - the thread is replaced, whatever it dies of
            fault = error
        with self._lock:
            self._leave(thread)
            if fault is not None:
                self._last_fault = _text(fault)
                wait = self._deaths.failed()
        if reader is not None:
            reader.close()
        if fault is not None:
            logger.warning("the background thread died, and is replaced: %s", self._last_fault)
            if reader is None:  # without a descriptor the next one would die at once
                with thread.at_rest():
                    threading.Event().wait(wait)
            with self._lock:
                if self._tasks and self._thread is None and self._state is State.IDLE:
                    self._start_thread(wait)

    def _open_waker(self, thread: BackgroundThread) -> socket.socket:
        # In the thread and not in start(): the program's first recorded call shall not wait for these imports.
        from stardust_auto.process.sockets import socket_pair

        reader, writer = socket_pair()
        reader.setblocking(False)
        writer.setblocking(False)
        with self._lock:
            if self._thread is thread:
                self._waker = writer
                if self._state is State.STARTING:
                    self._state = State.RUNNING
        return reader

    def _loop(self, thread: BackgroundThread, reader: socket.socket, delay: float) -> None:
        if delay:
            self._wait(thread, reader, {}, delay)
        while True:
            seconds = self.run_due()
            with self._lock:
                if not self._tasks or self._state is State.PAUSED:
                    self._leave(thread)
                    return
                watched = dict(self._sockets)
            self._wait(thread, reader, watched, seconds)

    def _leave(self, thread: BackgroundThread) -> None:
        """The thread ends. Call it with the lock."""
        if self._thread is not thread:
            return
        self._thread = None
        if self._state in (State.STARTING, State.RUNNING):
            self._state = State.IDLE
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()

    def _wait(
        self,
        thread: BackgroundThread,
        reader: socket.socket,
        watched: dict[Task, socket.socket | int],
        seconds: float | None,
    ) -> None:
        import selectors

        # poll() has no kernel state that a forked child would share with its parent, as epoll has.
        kind: Any = getattr(selectors, "PollSelector", selectors.SelectSelector)
        with kind() as selector:
            selector.register(reader, selectors.EVENT_READ)
            for task, sock in watched.items():
                try:
                    selector.register(sock, selectors.EVENT_READ, task)
                except (OSError, ValueError):
                    self.schedule(task)  # closed in the meantime: its task will see
            with thread.at_rest():
                ready = selector.select(seconds)
        for key, _ in ready:
            if key.data is None:
                _empty(reader)
            else:
                self.schedule(key.data)

    def _wake(self) -> None:
        waker = self._waker
        if waker is None or self.is_current_thread:
            return
        try:
            waker.send(b"\0")
        except OSError:  # full: a wake-up is already on its way; reset: the thread has ended
            return

    # -- forks -------------------------------------------------------------------------------------------------------

    def pause_for_fork(self) -> None:
        """End the thread before a fork, unless a call keeps it for longer than a moment."""
        with self._lock:
            thread = self._thread
            if not self._forks and (
                thread is None
                or self._state is State.ENDING
                or self.is_current_thread
                or monotonic() < self._no_pause_until
            ):
                return
            self._forks += 1
            self._state = State.PAUSED
        if thread is None:
            return
        self._wake()
        if thread.ended(_PAUSE_SECONDS) or (fork.is_importing(thread) and thread.ended(_IMPORT_PAUSE_SECONDS)):
            fork.until_gone(thread)
        else:
            self._no_pause_until = monotonic() + _NO_PAUSE_SECONDS

    def resume_after_fork(self) -> None:
        """Start the thread again, after the last of the forks that it ended for."""
        with self._lock:
            if not self._forks:
                return
            self._forks -= 1
            if self._forks or self._state is not State.PAUSED:
                return
            self._state = State.IDLE if self._thread is None else State.RUNNING
            again = self._thread is None and bool(self._tasks) and self._wanted
        if again:
            fork.start_thread_after_fork(self.start)

    # -- tasks -------------------------------------------------------------------------------------------------------

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

    def watch(self, task: Task, sock: socket.socket | int | None) -> None:
        """Run ``task`` also whenever ``sock`` (a socket or a descriptor) can be read; None to stop watching."""
        with self._lock:
            if sock is None:
                self._sockets.pop(task, None)
            else:
                self._sockets[task] = sock
        self._wake()

    def run(self, function: Callable[[], object], timeout: float) -> bool:
        """Run ``function`` on the thread and wait for it, at most ``timeout`` seconds.

        In the thread itself, and where there is none, it runs at once in the caller's.

        Returns:
            Whether it has returned in time. A job that raised has not; the error is logged.
        """
        if self.running and not self.is_current_thread:
            job = _Job(self, function, monotonic() + timeout)
            self.add(job)
            return job.done.wait(max(0.0, timeout)) and job.succeeded
        token = current_span.set(SUPPRESSED)
        try:
            function()
        except Exception as error:  # noqa: BLE001 - as on the thread, where the caller never sees it
            self._note_fault("job", error)
            return False
        finally:
            current_span.reset(token)
        return True

    def run_due(self) -> float | None:
        """Run every task that is due now; seconds to the next one, None when there is none."""
        for _ in range(len(self._due) + 1):
            task = None if self._state is State.PAUSED else self._pop_due()
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
        except BaseException as error:
            # Code of the program runs on this thread, and may call sys.exit().
            if type(error).__name__ == "GreenletExit":  # gevent ends this thread, and waits for that
                raise
            delay = _FAULT_SECONDS
            self._note_fault(task.name, error)
        if delay is not None:
            self.schedule(task, max(0.0, delay), sooner=True)

    def _note_fault(self, name: str, error: BaseException) -> None:
        self._last_fault = f"{name}: {_text(error)}"
        if (name, type(error)) not in self._faulted:
            self._faulted.add((name, type(error)))
            logger.warning("%s failed: %s", name, _text(error))


class _Job:
    """One function, run once on the background thread."""

    name = "job"

    def __init__(self, worker: Worker, function: Callable[[], object], deadline: float) -> None:
        self.done = threading.Event()
        self.succeeded = False
        self._worker = worker
        self._function = function
        self._deadline = deadline

    def run(self) -> float | None:
        """Run it, unless nobody waits for it any more."""
        self._worker.remove(self)
        try:
            if monotonic() < self._deadline:
                self._function()
                self.succeeded = True
        finally:
            self.done.set()
        return None

    def finish(self, deadline: float) -> None:
        """Nothing to do."""


def _empty(reader: socket.socket) -> None:
    try:
        while reader.recv(4096):
            continue
    except BlockingIOError:
        return


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # noqa: BLE001 - __str__ is code of the program
        return type(error).__name__


_worker = Worker()


def process_worker() -> Worker:
    """The worker of this process."""
    return _worker
