"""Which span is current. One context variable holds everything, so a traced call reads it once."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.tracing.local_trace import LocalTrace
    from stardust_auto.tracing.span import Span


class SpanContext:
    """A parent that is not a live span of this process: read from a header, or carried into another thread. Immutable."""

    __slots__ = ("_trace", "flag", "span_id", "trace_id")

    span_id: str
    trace_id: str
    flag: int
    #: The trace whose spans are kept together, for a parent of this process.
    _trace: LocalTrace | None

    def __init__(self, trace_id: str, span_id: str, flag: int = 0, trace: LocalTrace | None = None) -> None:
        object.__setattr__(self, "trace_id", trace_id)
        object.__setattr__(self, "span_id", span_id)
        object.__setattr__(self, "flag", flag)
        object.__setattr__(self, "_trace", trace)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"SpanContext is immutable; {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpanContext):
            return NotImplemented
        return (self.trace_id, self.span_id, self.flag) == (other.trace_id, other.span_id, other.flag)

    def __hash__(self) -> int:
        return hash((self.trace_id, self.span_id, self.flag))

    def __repr__(self) -> str:
        return f"SpanContext({self.trace_id!r}, {self.span_id!r}, {self.flag})"


class Suppressed:
    """The type of :data:`SUPPRESSED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SUPPRESSED"


#: Current while the agent's own traffic runs, and while a client library runs on top of another traced one.
SUPPRESSED: Final = Suppressed()

current_span: ContextVar[Span | SpanContext | Suppressed | None] = ContextVar("stardust_current_span", default=None)


@contextmanager
def suppressed() -> Iterator[None]:
    """Nothing that runs inside is recorded."""
    token = current_span.set(SUPPRESSED)
    try:
        yield
    finally:
        current_span.reset(token)
