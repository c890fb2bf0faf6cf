"""One place that puts per-process state back to "new" in a forked child.

The registered methods are held weakly and must only assign fresh objects: no I/O, no logging, no lock of the parent is
touched, since another thread may have held it at the moment of the fork.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_resets: list[weakref.WeakMethod[Callable[[], None]]] = []
_registered = False


def after_fork_in_child(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in each forked child, in the order of registration, as long as its object lives."""
    global _registered
    _resets[:] = [reference for reference in _resets if reference() is not None]
    _resets.append(weakref.WeakMethod(method))
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=run_in_child)
        _registered = True


def run_in_child() -> None:
    """Run the resets: called by CPython after ``os.fork``, and by hosts that fork without it (uWSGI's ``postfork``)."""
    for reference in tuple(_resets):
        method = reference()
        if method is not None:
            method()
