"""One place that puts per-process state back to "new" in a forked child.

The registered methods are held weakly and must only assign fresh objects: no I/O, no logging, no lock of the parent is
touched, since another thread may have held it at the moment of the fork.
"""

from __future__ import annotations

import os
import weakref
from _thread import allocate_lock, get_ident
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds that a fork waits at most for an import in one of our threads.
_PATIENCE = 2.0

_resets: list[weakref.WeakMethod[Callable[[], None]]] = []
_registered = False
_importing = allocate_lock()
_forking = 0


def after_fork_in_child(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in each forked child, in the order of registration, as long as its object lives."""
    global _registered
    _resets[:] = [reference for reference in _resets if reference() is not None]
    _resets.append(weakref.WeakMethod(method))
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=run_in_child)
        _registered = True


@contextmanager
def importing() -> Iterator[None]:
    """Around imports in a background thread. A fork waits for them.

    A child that is forked while a module is half imported in another thread waits for ever when it imports that module itself.
    """
    with _importing:
        yield


def _before() -> None:
    global _forking
    if _importing.acquire(timeout=_PATIENCE):
        _forking = get_ident()


def _after_in_parent() -> None:
    global _forking
    if _forking == get_ident():
        _forking = 0
        _importing.release()


def run_in_child() -> None:
    """Run the resets: called by CPython after ``os.fork``, and by hosts that fork without it (uWSGI's ``postfork``)."""
    global _forking, _importing
    _forking, _importing = 0, allocate_lock()
    for reference in tuple(_resets):
        method = reference()
        if method is not None:
            method()
