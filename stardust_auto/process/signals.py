"""Signals are for the threads of the program: the agent's threads block them all.

The kernel gives a signal to any thread that does not block it. An agent thread that took one would undo a program's ``pthread_sigmask``:
``sigwait`` would wait in vain while the default action ends the process, and billiard's workers, which block SIGTERM while they hold a lock
that they share, would be interrupted there.
"""

from __future__ import annotations

import _thread
import contextlib
import os
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Signals of a fault in the thread itself. A blocked one would end the process before ``faulthandler`` could write.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
#: The mask of the program's thread that started an agent thread last.
_program_mask: set[Any] = set()


def threads_are_real() -> bool:
    """Whether a new thread is a thread: gevent and eventlet make it a greenlet."""
    return isinstance(_thread.start_new_thread, BuiltinFunctionType)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block all signals while starting an agent thread: a new thread inherits its creator's mask."""
    import signal

    global _program_mask
    if not hasattr(signal, "pthread_sigmask") or not threads_are_real():
        yield  # a greenlet is no thread of its own: it shares the mask of this one
        return
    everything = _all(signal)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    if not everything <= before:  # the caller is not an agent thread itself
        _program_mask = before
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def as_in_program() -> Iterator[None]:
    """Restore the program's mask while its code runs on an agent thread, so that what it starts there can receive signals."""
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if hasattr(signal, "pthread_sigmask") else set()
    if not _all(signal) <= before:
        yield  # a thread of the program
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, _program_mask)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _all(signal: Any) -> set[Any]:
    unblockable = (*_FAULTS, "SIGKILL", "SIGSTOP")
    return set(signal.valid_signals()) - {getattr(signal, name, None) for name in unblockable}


def die_of(number: int) -> None:
    """Let the signal do what it does to a program that does not handle it."""
    import signal

    try:
        signal.signal(number, signal.SIG_DFL)
    except ValueError:  # Python sets handlers in its main thread only, and that is in C code
        try:
            import ctypes

            ctypes.CDLL(None).signal(int(number), None)
        except Exception:  # noqa: BLE001 - no ctypes, or another C library
            os._exit(128 + number)
    os.kill(os.getpid(), number)


def send_to_main_thread(number: int) -> None:
    """Send a signal that interrupts a system call of the main thread: the kernel prefers that thread if it does not block the signal."""
    # Not pthread_kill: under gevent the identifier of a thread is that of a greenlet, and the C library would crash.
    os.kill(os.getpid(), number)
