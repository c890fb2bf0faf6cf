"""Which outer call names the span: the calls of a kind that run inside it are not counted a second time.

An object-relational mapper covers the driver below it, a client of a web service the HTTP client that it uses.
The outer integration says so with :func:`cover`; the inner one asks with the ``kind`` of its ``leaf``. Neither knows the other.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The kinds of calls that an outer call covers, in this thread or task.
COVERED: ContextVar[frozenset[str]] = ContextVar("stardust_covered", default=frozenset())


@contextmanager
def cover(kind: str) -> Iterator[None]:
    """Calls of ``kind`` inside this block belong to the call around it. Enter and leave it in one thread or task."""
    token = COVERED.set(COVERED.get() | {kind})
    try:
        yield
    finally:
        COVERED.reset(token)
