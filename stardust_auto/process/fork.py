"""Forks: what a child must forget, and which threads end before a fork.

A child inherits the memory of its parent, but none of the parent's other threads. So each owner of per-process state registers here, and in
the child ``reset_after_fork`` makes that state new.
"""

from __future__ import annotations

import os
import sys
import weakref
from _thread import get_ident, interrupt_main
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from threading import Thread

#: All threads of the agent have names that begin so.
THREADS = "stardust"
#: CPython 3.12 and later warn of a fork if the process has a second thread when ``os.fork`` returns.
_WARNS_OF_THREADS = sys.version_info >= (3, 12)


class ForkAware(Protocol):
    """An owner of per-process state."""

    def reset_after_fork(self) -> None:
        """Make the state new in a forked child.

        Only assign fresh objects: no I/O, no log line, no lock of the parent. Another thread may have held that lock at the fork.
        """


class Pausable(Protocol):
    """An owner of a thread."""

    def pause_for_fork(self) -> None:
        """End the thread, within a moment."""

    def resume_after_fork(self) -> None:
        """The parent has forked, or failed to: start the thread again."""


_aware: list[weakref.ref[ForkAware]] = []
_pausable: list[weakref.ref[Pausable]] = []
_registered = False
#: What :func:`start_thread_after_fork` starts with the next bytecode of the main thread.
_starts: list[Callable[[], object]] = []
#: Identifiers of the agent's threads in the parent, at the moment of a fork.
_agent_threads: frozenset[int] = frozenset()


def register(owner: ForkAware) -> None:
    """Call ``owner.reset_after_fork`` in each forked child, in the order of registration. The owner is held weakly."""
    _aware[:] = [reference for reference in _aware if reference() is not None]
    _aware.append(weakref.ref(owner))
    _register_hooks()


def register_pause(owner: Pausable) -> None:
    """Call ``owner.pause_for_fork`` before each fork and ``owner.resume_after_fork`` after it in the parent. The owner is held weakly.

    With a single thread nothing can be half done in the child, and CPython 3.12 and later do not warn of the fork.
    """
    _pausable[:] = [reference for reference in _pausable if reference() is not None]
    _pausable.append(weakref.ref(owner))
    _register_hooks()


def _register_hooks() -> None:
    global _registered
    if not _registered and hasattr(os, "register_at_fork"):
        # The hook of logging takes a lock that the agent's threads log with. The hook that was registered last is called first.
        import logging  # noqa: F401 - imported for the hook that it registers

        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=run_in_child)
        _registered = True


def in_forking_master() -> bool:
    """Whether this is the uWSGI master before it forks its workers.

    It forks without Python's hooks. If an agent thread holds the GIL at that moment, no worker can ever get it.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


def until_gone(thread: Thread) -> None:
    """Wait a moment for a joined thread to leave the kernel too: CPython 3.12 and later count the threads that the kernel knows."""
    for _ in range(2000):
        try:
            os.stat(f"/proc/self/task/{thread.native_id}")
        except OSError:
            return
        os.sched_yield()


def is_importing(thread: Thread) -> bool:
    """Whether ``thread`` is in the middle of an import."""
    return bool(_half_imported({thread.ident}))


def start_thread_after_fork(start: Callable[[], object]) -> None:
    """Start a thread from ``resume_after_fork``, late enough that CPython does not warn of it.

    CPython 3.12 and later count the threads after the hooks of the parent. A process that is single-threaded until then starts its thread
    with the next bytecode of the main thread: ``interrupt_main`` has a Python handler run there, and sends no real signal.
    """
    threading: Any = sys.modules.get("threading")
    if not _WARNS_OF_THREADS or threading is None or threading.active_count() > 1:
        start()
        return
    import signal

    number: Any = getattr(signal, "SIGURG", None)  # ignored by default, and hardly used
    try:
        if number is not None and not _starts and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _start_threads)
        elif not _starts:
            return  # the program handles that signal: the next recorded call starts the thread
    except ValueError:  # a sub-interpreter
        return
    _starts.append(start)
    interrupt_main(number)  # pyright: ignore[reportArgumentType] - a signal: this is not reached without one


def _start_threads(number: int, _frame: object) -> None:
    import signal

    signal.signal(number, signal.SIG_DFL)
    starts = _starts[:]
    _starts.clear()
    for start in starts:
        start()


def _before() -> None:
    global _agent_threads
    for reference in _pausable:
        owner = reference()
        if owner is not None:
            owner.pause_for_fork()
    threading = sys.modules.get("threading")
    threads = threading.enumerate() if threading is not None else ()
    _agent_threads = frozenset(t.ident for t in threads if t.name.startswith(THREADS) and t.ident) - {get_ident()}


def _after_in_parent() -> None:
    for reference in reversed(_pausable):
        owner = reference()
        if owner is not None:
            owner.resume_after_fork()


def run_in_child() -> None:
    """Reset all owners. CPython calls this after ``os.fork``; a host that forks without Python's hooks calls it itself."""
    _forget_half_imported()
    for reference in tuple(_aware):
        owner = reference()
        if owner is not None:
            owner.reset_after_fork()


# If an agent thread was importing a module at the fork, the child would deadlock on that module's import lock: the thread that
# holds it does not exist there. So the child forgets the modules that an agent thread had half imported. CPython has no public way
# for this. The names are those of CPython 3.10 to 3.15; where they are missing, nothing is done.


def _half_imported(threads: Container[int | None]) -> list[str]:
    locks: dict[str, Any] = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    held = [(name, reference()) for name, reference in list(locks.items())]
    return [name for name, lock in held if lock is not None and getattr(lock, "owner", None) in threads]


def _forget_half_imported() -> None:
    if not _agent_threads:
        return
    locks: dict[str, Any] = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    for name in _half_imported(_agent_threads):
        locks.pop(name, None)
        # Submodules too, complete or not: a package that is imported again would miss them as attributes.
        for module in [key for key in list(sys.modules) if key == name or key.startswith(name + ".")]:
            del sys.modules[module]
