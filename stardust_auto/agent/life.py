"""Every way in which a process begins and ends: fork, exit, SIGTERM, multiprocessing, Celery, rq, uWSGI.

The rules (X5 to X13): nothing is started before it is used, in each process anew; ending takes one budget of
wall clock however many ways of ending fire; a signal handler of the application is never replaced.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from _thread import get_ident
from typing import TYPE_CHECKING, Any

from stardust_auto.agent import uwsgi
from stardust_auto.process.end import at_end_of_child, time_left
from stardust_auto.process.fork import after_fork_in_child, around_fork_in_parent
from stardust_auto.process.signals import blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.process.nudge import Nudge


class ProcessLife:
    """Calls ``end(seconds)`` once in each process that :meth:`begin` was called in, when this process ends.

    ``report(seconds)`` is called where SIGTERM does not end the process. Both must return within the ``seconds`` they are given, and must
    not raise.
    """

    def __init__(self, end: Callable[[float], object], report: Callable[[float], object], budget: float) -> None:
        self._end = end
        self._report = report
        self._budget = budget
        #: Of threads that fork at this moment: the signals that they block otherwise.
        self._masks: dict[int, Any] = {}
        self._nudge: Nudge | None = None
        self._start_over()
        after_fork_in_child(self._after_fork_in_child)
        around_fork_in_parent(self._before_fork, self._after_fork)
        # Registered now, before the application's own: they run in reverse order, and those may still make calls.
        atexit.register(self._exit)
        uwsgi.follow_forks()

    def _before_fork(self) -> None:
        # Python forgets the signals that a child is sent before it is ready there. Without a handler they would have ended the child, so
        # they wait in the kernel until there is none.
        signal: Any = sys.modules.get("signal")
        if signal is not None and signal.getsignal(signal.SIGTERM) == self._terminated:
            if self._nudge is not None:
                self._nudge.stop()
            self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def _after_fork(self) -> None:
        mask = self._masks.pop(get_ident(), None)
        if mask is not None:
            import signal

            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _after_fork_in_child(self) -> None:
        if get_ident() in self._masks:
            import signal

            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self._nudge is not None:
                self._nudge.abandon()
                self._nudge = None
            self._after_fork()
        self._masks.clear()
        self._start_over()

    def _start_over(self) -> None:
        self._begun = False
        self._ending = False
        #: A signal that came while we were ending anyway; it has its way when that is done.
        self._postponed = 0
        self._follow_rq()  # in the child that rq has forked for a job, before it begins with that

    def begin(self) -> None:
        """From now on this process has something to bring to an end. Idempotent, cheap, called from any thread."""
        if self._begun:
            return
        self._begun = True
        uwsgi.follow_forks()
        self._follow_celery()
        self._follow_rq()
        at_end_of_child(self._exit)
        self.chain_sigterm()

    def _follow_celery(self) -> None:
        signals: Any = sys.modules.get("celery.signals")
        if signals is not None:  # its workers end by ``os._exit`` without any finalizer, but say so before
            signals.worker_process_shutdown.connect(self._celery_ends, weak=False, dispatch_uid=__name__)

    def _celery_ends(self, **_details: object) -> None:
        self._exit()

    def _follow_rq(self) -> None:
        """rq has a process for each job, which ends by ``os._exit`` as soon as the job has been performed."""
        worker_class: Any = getattr(sys.modules.get("rq.worker"), "Worker", None)
        if not hasattr(worker_class, "perform_job"):
            return
        from stardust_auto.instrumentation.registry import registry

        registry.patches("life").wrap(worker_class, "perform_job", self._ending_with_the_job)

    def _ending_with_the_job(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        def perform_job(worker: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                return plain(worker, *args, **kwargs)
            finally:
                if getattr(worker, "is_horse", False):
                    self._exit()

        return perform_job

    def chain_sigterm(self) -> None:
        """Keep the last calls when SIGTERM ends the process: only if nobody handles it, and only from the main thread."""
        import signal

        if "uwsgi" in sys.modules:  # its C code handles the signal, which Python does not see, and runs atexit
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and _in_main_thread():
            signal.signal(signal.SIGTERM, self._terminated)
            processes: Any = sys.modules.get("multiprocessing.process")
            if processes is not None and processes.parent_process() is not None and hasattr(signal, "pthread_kill"):
                from stardust_auto.process.nudge import Nudge

                self._nudge = Nudge(signal.SIGTERM, self._terminated)

    def _terminated(self, number: int, _frame: object) -> None:
        import signal

        if self._ending:
            self._postponed = number
            return
        from threading import Thread

        if os.getpid() == 1:
            # The first process of a container ignores what it has no handler for, until SIGKILL comes.
            with blocked():
                Thread(target=self._report, args=(self._budget,), name="stardust-report", daemon=True).start()
            return
        # Whoever asks twice (multiprocessing does) has been heard; the budget bounds how long this takes.
        signal.signal(number, signal.SIG_IGN)
        if self._begun:
            # In a thread of its own: this one may have been interrupted while it held a lock that ending needs.
            ending = Thread(target=self._exit, name="stardust-end", daemon=True)
            with blocked():
                ending.start()
            ending.join(self._budget + 0.2)
        _die_of(number)

    def _exit(self) -> None:
        if not self._begun:
            return
        self._begun, self._ending = False, True
        try:
            self._end(min(self._budget, time_left()))
        finally:
            self._ending = False
        _keep_exit_status()
        if self._postponed:
            _die_of(self._postponed)


def _die_of(number: int) -> None:
    """Let the signal do what it does to a program that does not handle it."""
    import signal

    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _keep_exit_status() -> None:
    """Leave Python's own note that Ctrl-C ended the program as it was: the exit status comes from it.

    The interpreter clears the note whenever a string of code is run, and any import may do that (a dataclass is made that way).
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")  # noqa: S102 - a constant; what sets the note again
        except KeyboardInterrupt:
            return


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
