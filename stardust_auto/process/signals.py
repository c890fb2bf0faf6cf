"""Signals are for the threads of the program: ours block them all.

The kernel gives a signal to any thread that does not block it. One of ours that took it would undo a program's ``pthread_sigmask``:
``sigwait`` would wait in vain while the default action ends the process, and billiard's workers, which block SIGTERM while they hold a lock
that they share, would be interrupted there.
"""

from __future__ import annotations

import _thread
import contextlib
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a thread brings about itself. Blocked, it would end the process without a word of ``faulthandler``.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
#: What the program's threads blocked when one of them started ours the last time.
_of_program: set[Any] = set()


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block all signals in this thread while it starts one of ours, which is born with that and keeps it."""
    import signal

    global _of_program
    if not hasattr(signal, "pthread_sigmask") or not isinstance(_thread.start_new_thread, BuiltinFunctionType):
        yield  # with gevent or eventlet it is no thread, but runs in this one, and stops and goes on in between
        return
    everything = _all(signal)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    if not everything <= before:  # it is no thread of ours that starts another
        _of_program = before
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def as_in_program() -> Iterator[None]:
    """Around code of the program in a thread of ours: a process or thread that it starts must be able to hear signals."""
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if hasattr(signal, "pthread_sigmask") else set()
    if not _all(signal) <= before:
        yield  # it is a thread of the program
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, _of_program)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _all(signal: Any) -> set[Any]:
    unblockable = (*_FAULTS, "SIGKILL", "SIGSTOP")
    return set(signal.valid_signals()) - {getattr(signal, name, None) for name in unblockable}
