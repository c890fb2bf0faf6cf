"""A parent that is not a live span of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stardust_auto.tracing.local_trace import LocalTrace


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
