"""A span that other spans can be under: a request, a call with a propagated header, a block of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.process.context import Suppressed, current_span
from stardust_auto.tracing.ids import span_hex, trace_hex

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from stardust_auto.tracing.context import SpanContext
    from stardust_auto.tracing.local_trace import LocalTrace
    from stardust_auto.tracing.tracer import Tracer


class Span:
    """One running operation.

    ``name``, ``tag`` (str) and ``value`` (int: bytes, rows, items) may be set until it ends. As a context manager it is the
    current span of its block; an exception that leaves the block is recorded and goes on unchanged.
    """

    __slots__ = (
        "_error",
        "_generation",
        "_parent_id",
        "_seen_error",
        "_span_id",
        "_start",
        "_token",
        "_trace",
        "_trace_id",
        "_tracer",
        "flag",
        "name",
        "tag",
        "value",
    )

    #: Whether it is a request that the program answers.
    is_request = False

    # Filled in by Tracer.begin.
    _tracer: Tracer | None
    _generation: int
    _trace: LocalTrace | None
    _trace_id: int | str
    _span_id: int
    _parent_id: int | str
    _start: int
    _error: BaseException | str | None
    _seen_error: int
    _token: Token[Span | SpanContext | Suppressed | None] | None
    name: str
    flag: int
    tag: str
    value: int

    @property
    def trace_id(self) -> str:
        """32 hex digits, or the foreign id that this trace came with."""
        return trace_hex(self._trace_id)

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return span_hex(self._span_id)

    @property
    def id(self) -> str:
        """The name of :attr:`span_id` in the existing Stardust SDK and on the wire."""
        return span_hex(self._span_id)

    @property
    def parent_id(self) -> str:
        """Id of the span above, ``""`` at the root."""
        return span_hex(self._parent_id) if self._parent_id else ""

    @property
    def traceparent(self) -> str:
        """The header value for a call made under this span (protocol.md §5.3)."""
        trace = self._trace_id
        if type(trace) is int:
            return f"00-{trace:032x}-{self._span_id:016x}-0{self.flag & 1}"
        return f"00-{trace}-{self._span_id:016x}-0{self.flag & 1}"

    def set_error(self, error: BaseException | str) -> None:
        """Mark the span as failed. Also an exception with an empty text counts."""
        self._error = error

    def append_tag(self, text: str) -> None:
        """Add a line to the tag of a span that is sampled; nothing is stored for the others."""
        if self.flag and text:
            self.tag = f"{self.tag}\r\n{text}" if self.tag else text

    def describe(self) -> str:
        """The tag of a span that nobody gave one. Only asked when the sample is kept, so it may cost something."""
        return ""

    def abandon(self) -> None:
        """End without being counted."""
        self._tracer = None

    def finish(self, error: BaseException | str | None = None) -> None:
        """End and count. Only the first call does anything; never raises."""
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            if error is not None:
                self._error = error
            if self._generation == tracer.generation:  # begun before a fork: it ends in the parent
                tracer.record(self.name, self._start, self, None, (), self._error, self.value, self)
            self._error = None  # its traceback leads to the frame that holds this span

    @property
    def ended(self) -> bool:
        """Whether :meth:`finish` or :meth:`abandon` was called."""
        return self._tracer is None

    def __enter__(self) -> Span:
        self._token = current_span.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()
        # A generator that is closed early or a task that is cancelled has not failed.
        self.finish(error if error is not None and not isinstance(error, GeneratorExit) else None)

    def leave(self) -> None:
        """Give the context back. Leaving in another context than the one entered (a moved generator) is no error."""
        token, self._token = self._token, None
        if token is not None:
            try:
                current_span.reset(token)
            except ValueError:
                # A token of another context; that context ends by itself, so nothing is left to undo.
                self._token = None

    def __repr__(self) -> str:
        return f"Span({self.name!r}, trace_id={self.trace_id}, span_id={self.span_id})"


def first_sight(error: BaseException, parent: object) -> bool:
    """Whether ``error`` is new to the span above, and note it: on its way up through several spans it counts once."""
    seen = id(error)
    new = True
    above = current_span.get()
    for span in (parent, above) if parent is not above else (parent,):
        if isinstance(span, Span):
            new = new and span._seen_error != seen
            span._seen_error = seen
    return new
