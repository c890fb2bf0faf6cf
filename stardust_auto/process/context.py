"""What runs now in this thread or task: one context variable, so that a traced call reads it once.

The value is a span of ``stardust_auto.tracing``, a parent from elsewhere, or :data:`SUPPRESSED`. Only ``tracing`` gives spans a meaning;
rooms below it need the mark for the agent's own calls.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


class Suppressed:
    """The type of :data:`SUPPRESSED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SUPPRESSED"


#: Current while the agent's own traffic runs, and while a client library runs on top of another traced one.
SUPPRESSED: Final = Suppressed()

#: A ``Span``, a ``SpanContext``, :data:`SUPPRESSED` or ``None``.
current_span: ContextVar[Any] = ContextVar("stardust_current_span", default=None)


@contextmanager
def suppressed() -> Iterator[None]:
    """Nothing that runs inside is recorded."""
    token = current_span.set(SUPPRESSED)
    try:
        yield
    finally:
        current_span.reset(token)
