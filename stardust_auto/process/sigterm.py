"""SIGTERM: keep the last calls of a process that the signal ends.

The default action ends a process without any Python code. So where nobody handles SIGTERM, a handler runs the end of the process and then
lets the signal end it. A handler of the program is never replaced.

Python runs a handler between two bytecodes of the main thread. A main thread that waits in C code (a long query) gets to it late or
never, so the background thread watches for the signal (:class:`_Watch`).
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.process import fork, signals
from stardust_auto.process.background import process_worker
from stardust_auto.process.end import EXIT_BUDGET_SECONDS, process_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

    from stardust_auto.process.background import Worker

#: How long the main thread has to begin with the handler before the signal is sent again; each time twice as long.
_FIRST_WAIT_SECONDS: Final = 0.05
#: How often the signal is sent again before the background thread ends the process itself.
_RESENDS: Final = 3


class SigtermHandler:
    """Runs the end of this process on SIGTERM.

    Args:
        report: called with seconds in the first process of a container, which SIGTERM does not end.
    """

    def __init__(self, report: Callable[[float], object]) -> None:
        self._report = report
        #: Masks of threads that fork at this moment.
        self._masks: dict[int, Any] = {}
        self._watch: _Watch | None = None
        #: Whether :meth:`_ask` handles SIGURG.
        self._prepared = False
        self._wanted = False
        fork.register(self)
        fork.register_pause(self)

    def prepare(self) -> None:
        """In the main thread, before the first call is recorded: provide for a first call in another thread.

        Only the main thread can set a handler. A web server may serve every request in other threads, so the first of them sends the main
        thread a SIGURG, which is ignored by default and hardly used.
        """
        import signal

        number: Any = getattr(signal, "SIGURG", None)
        if number is None or signal.getsignal(number) is not signal.SIG_DFL:
            return
        try:
            signal.signal(number, self._ask)
            self._prepared = True
        except ValueError:  # not the main thread
            return

    def chain(self) -> None:
        """Handle SIGTERM, which is left alone if somebody else handles it. From any thread."""
        import signal

        if "uwsgi" in sys.modules or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return  # uWSGI handles the signal in C, where Python does not see it, and runs atexit
        try:
            signal.signal(signal.SIGTERM, self._terminated)
        except ValueError:  # not the main thread
            if self._prepared:
                self._wanted = True
                signals.send_to_main_thread(signal.SIGURG)
        else:
            self._unprepare()

    def watch(self) -> None:
        """Have the background thread watch for the signal, if it is handled here and the interpreter's wake-up descriptor is free."""
        if self._watch is None and self.handles() and hasattr(os, "fork"):
            self._watch = _Watch.start(self, process_worker())

    def stop_watching(self) -> None:
        """Give the wake-up descriptor back: an event loop that warns of one that is set will need it."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _ask(self, _number: int, _frame: object) -> None:
        if self._wanted:
            self._wanted = False
            self.chain()
            self.watch()

    def _unprepare(self) -> None:
        import signal

        if self._prepared:
            self._prepared = False
            if signal.getsignal(signal.SIGURG) == self._ask:
                signal.signal(signal.SIGURG, signal.SIG_DFL)

    def handles(self) -> bool:
        """Whether SIGTERM is handled here."""
        signal: Any = sys.modules.get("signal")
        return signal is not None and bool(signal.getsignal(signal.SIGTERM) == self._terminated)

    # -- forks -------------------------------------------------------------------------------------------------------

    def pause_for_fork(self) -> None:
        """Let the signal wait in the kernel.

        Python forgets the signals that a child is sent before it is ready there. Without a handler they would have ended the child.
        """
        if self.handles():
            import signal

            self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def resume_after_fork(self) -> None:
        """Restore the mask."""
        mask = self._masks.pop(get_ident(), None)
        if mask is not None:
            import signal

            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def reset_after_fork(self) -> None:
        """A child is ended by SIGTERM until it records a call itself."""
        self.stop_watching()
        if get_ident() in self._masks:
            import signal

            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._masks[get_ident()])
        self._masks.clear()
        self._wanted = False

    # -- the signal --------------------------------------------------------------------------------------------------

    def _terminated(self, number: int, _frame: object) -> None:
        import signal

        if process_end.running:
            process_end.postponed_signal = number
            return
        if os.getpid() == 1:
            # The first process of a container ignores a signal that it does not handle, until SIGKILL comes.
            self._start("stardust-report", lambda: self._report(EXIT_BUDGET_SECONDS))
            return
        # Ignore a second SIGTERM (multiprocessing sends two): ending is bounded by its budget.
        signal.signal(number, signal.SIG_IGN)
        # In a thread of its own: this one may have been interrupted while it held a lock that ending needs.
        self._start("stardust-end", process_end.run).join(EXIT_BUDGET_SECONDS + 0.2)
        signals.die_of(number)

    @staticmethod
    def _start(name: str, work: Callable[[], object]) -> Thread:
        from threading import Thread

        thread = Thread(target=work, name=name, daemon=True)
        with signals.blocked():
            thread.start()
        return thread


class _Watch:
    """A task of the background thread: the wake-up descriptor tells it of each signal, and it acts if the main thread does not."""

    name = "signals"

    def __init__(self, owner: SigtermHandler, worker: Worker, reader: int, writer: int) -> None:
        self._owner = owner
        self._worker = worker
        self._reader, self._writer = reader, writer
        #: How often the signal was sent again; None while there is none.
        self._resends: int | None = None

    @classmethod
    def start(cls, owner: SigtermHandler, worker: Worker) -> _Watch | None:
        """A watch, unless the program uses the descriptor. A program that sets one later has it for itself."""
        import signal

        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        try:
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        except ValueError:  # not the main thread
            before = None
        if before != -1:
            if before is not None:
                signal.set_wakeup_fd(before)
            os.close(reader)
            os.close(writer)
            return None
        watch = cls(owner, worker, reader, writer)
        worker.add(watch)
        worker.watch(watch, reader)
        return watch

    def close(self) -> None:
        """Give the descriptor back, unless the program has set another one."""
        import signal

        self._worker.remove(self)
        try:
            current = signal.set_wakeup_fd(-1)
        except ValueError:  # not the main thread: the descriptor must stay open
            return
        if current not in (-1, self._writer):
            signal.set_wakeup_fd(current)
        os.close(self._reader)
        os.close(self._writer)

    def run(self) -> float | None:
        """A signal has come, or the main thread had its time."""
        import signal

        try:
            numbers = os.read(self._reader, 4096)
        except OSError:  # nothing new; or closed
            numbers = b""
        if self._resends is None:
            if signal.SIGTERM not in numbers:
                return None
            self._resends = 0
            return _FIRST_WAIT_SECONDS
        if process_end.running or not self._owner.handles():
            self._resends = None
            return None
        if self._resends < _RESENDS:
            self._resends += 1
            signals.send_to_main_thread(signal.SIGTERM)
            return float(_FIRST_WAIT_SECONDS * 2**self._resends)
        self._resends = None
        if os.getpid() != 1:
            process_end.run()
            signals.die_of(signal.SIGTERM)
        return None

    def finish(self, deadline: float) -> None:
        """Nothing to do."""
