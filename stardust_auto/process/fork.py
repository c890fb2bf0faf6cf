"""One place that puts per-process state back to "new" in a forked child, and keeps our threads out of a fork.

The methods for the child are held weakly and must only assign fresh objects: no I/O, no logging, no lock of the parent is
touched, since another thread may have held it at the moment of the fork.
"""

from __future__ import annotations

import os
import sys
import weakref
from _thread import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

#: Names of all our threads begin so.
THREADS = "stardust"

_resets: list[weakref.WeakMethod[Callable[[], None]]] = []
_pauses: list[tuple[weakref.WeakMethod[Callable[[], None]], weakref.WeakMethod[Callable[[], None]]]] = []
_registered = False
#: Our threads of the parent, at the moment of a fork.
_ours: frozenset[int] = frozenset()


def in_forking_master() -> bool:
    """Whether this is uWSGI before it forks its workers: without Python's hooks, and whoever holds the interpreter's lock then.

    A thread of ours that held it would leave every worker waiting for a thread that it does not have.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


def after_fork_in_child(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in each forked child, in the order of registration, as long as its object lives."""
    _resets[:] = [reference for reference in _resets if reference() is not None]
    _resets.append(weakref.WeakMethod(method))
    _register()


def around_fork_in_parent(pause: Callable[[], None], resume: Callable[[], None]) -> None:
    """Call the bound ``pause`` before each fork and ``resume`` after it in the parent, as long as their object lives.

    ``pause`` ends a thread, within a moment, and ``resume`` has it start again: with one thread only, Python 3.12 and later do not
    warn of a fork, and nothing can be half done in the child. They count the threads after ``resume``, so there it
    can only provide for a later start.
    """
    _pauses[:] = [pair for pair in _pauses if pair[0]() is not None]
    _pauses.append((weakref.WeakMethod(pause), weakref.WeakMethod(resume)))
    _register()


def until_gone(thread: Thread) -> None:
    """Wait a moment for a thread that has been joined to leave the system, too: at a fork, Python 3.12 and later count what is there."""
    for _ in range(2000):
        try:
            os.stat(f"/proc/self/task/{thread.native_id}")
        except OSError:
            return
        os.sched_yield()


def _register() -> None:
    global _registered
    if not _registered and hasattr(os, "register_at_fork"):
        # Its hook takes the lock that our threads log with. The last one that is registered is called first: that must be ours.
        import logging  # noqa: F401

        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=run_in_child)
        _registered = True


def run_in_child() -> None:
    """Run the resets: called by CPython after ``os.fork``, and by hosts that fork without it (uWSGI's ``postfork``)."""
    _forget_half_imported()
    for reference in tuple(_resets):
        method = reference()
        if method is not None:
            method()


# A child that is forked while a module is half imported in another thread waits for ever when it imports that module itself: the
# thread that holds the module's lock does not exist there. Our threads import a quarter of a second of libraries at their start: what one
# that did not end in time had half imported, the child forgets. For this there is no public way; the names
# are those of CPython 3.10 to 3.15, and where they are missing, a fork is what it is without us.


def _before() -> None:
    global _ours
    for pause, _ in _pauses:  # while the first thread comes to its end it may register the next
        method = pause()
        if method is not None:
            method()
    threading = sys.modules.get("threading")
    threads = threading.enumerate() if threading is not None else ()
    _ours = frozenset(t.ident for t in threads if t.name.startswith(THREADS) and t.ident) - {get_ident()}


def _after_in_parent() -> None:
    for _, resume in reversed(_pauses):
        method = resume()
        if method is not None:
            method()


def _half_imported() -> list[str]:
    locks: dict[str, Any] = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    held = [(name, reference()) for name, reference in list(locks.items())]
    return [name for name, lock in held if lock is not None and getattr(lock, "owner", None) in _ours]


def _forget_half_imported() -> None:
    if not _ours:
        return
    locks: dict[str, Any] = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    for name in _half_imported():
        locks.pop(name, None)
        # With what is complete below it: a package that is imported anew would miss it as an attribute.
        for module in [key for key in list(sys.modules) if key == name or key.startswith(name + ".")]:
            del sys.modules[module]
