"""What a call can be under: a live span, the context of a span elsewhere, and the trace that both belong to.

The spans of one trace in one process are kept together or not at all (X20). Whether a call is worth keeping is often known only when its
trace ends: the request failed, it was slow, or one call in it was the first of its name. Until then the calls of a trace that is not
sampled wait in its :class:`LocalTrace`, as the few references that a sample is made of.

Over 400 lines: spans, contexts and local traces refer to each other, and would import each other in a circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from stardust_auto.process import context
from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.process.context import SUPPRESSED
from stardust_auto.tracing.ids import span_hex, trace_hex

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType
    from typing import TypeAlias

    #: A finished call: end, name, duration (both in nanoseconds), parent, describe, args, error, value, span.
    #: A plain tuple: making a NamedTuple takes 298 ns, this 24 (CPython 3.11, 2026-11).
    Finished: TypeAlias = tuple[int, str, int, Any, Any, Any, BaseException | str | None, int, "Span | None"]

#: Samples kept for one trace in one process.
MAX_IN_TRACE = 100
#: Nanoseconds after the end of a trace's root during which work in other threads and tasks still joins the trace.
#: Background work that a request starts belongs to the request. A pool worker started by it must not: later tasks are not its own.
LINGER_NS = 10_000_000_000
#: Characters after which :meth:`Span.append_tag` adds nothing more.
_TAG_LIMIT = 4000


class Recorder(Protocol):
    """What a span needs of its tracer."""

    generation: int
    now: Callable[[], int]

    def record(
        self,
        name: str,
        start: int,
        parent: Any,
        describe: Callable[..., str] | None = None,
        args: Any = (),
        error: BaseException | str | None = None,
        value: int = 0,
        span: Span | None = None,
    ) -> None:
        """Count a finished call."""

    def discard(self, span: Span) -> None:
        """Forget a span that is not counted."""

    def rename(self, span: Span, name: str, inherited: int = 0) -> None:
        """Give a live span a better name."""


class LocalTrace:
    """The part of one trace that runs in this process. Changed only under the tracer's lock."""

    __slots__ = ("ended", "kept", "left_out", "root", "waiting", "wanted")

    def __init__(self, root: int, ended: int = 0) -> None:
        #: Span id of the first span of the trace in this process.
        self.root = root
        #: When the root ended, on the tracer's clock; 0 while it runs. After that no call waits.
        self.ended = ended
        #: Samples kept of this trace, and calls that were only counted.
        self.kept = 0
        self.left_out = 0
        #: A sample of this trace is kept, so the others are wanted too.
        self.wanted = False
        #: Calls of which samples may be made, in the order of their ends.
        self.waiting: list[Finished] = []

    def release(self, now: int) -> list[Finished]:
        """End the trace and return the calls that waited."""
        waiting, self.waiting, self.ended = self.waiting, [], now
        return waiting


class SpanContext:
    """A parent that is not a live span of this thread: read from a header, or handed to another thread. Immutable."""

    __slots__ = ("_span_id", "_trace", "_trace_id", "flag")

    _trace_id: str
    _span_id: str
    #: The trace whose spans are kept together, for a parent of this process.
    _trace: LocalTrace | None
    #: 1 if the parent is kept as a sample.
    flag: int

    # What a live span has and a context has not.
    _tracer = None
    _ended = 0

    def __init__(self, trace_id: str, span_id: str, flag: int = 0, trace: LocalTrace | None = None) -> None:
        object.__setattr__(self, "_trace_id", trace_id)
        object.__setattr__(self, "_span_id", span_id)
        object.__setattr__(self, "flag", flag)
        object.__setattr__(self, "_trace", trace)

    @property
    def trace_id(self) -> str:
        """The trace's id, as it came."""
        return self._trace_id

    @property
    def span_id(self) -> str:
        """The parent's id, as it came; ``""`` if the header had none."""
        return self._span_id

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"SpanContext is immutable; {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpanContext):
            return NotImplemented
        return (self._trace_id, self._span_id, self.flag) == (other._trace_id, other._span_id, other.flag)

    def __hash__(self) -> int:
        return hash((self._trace_id, self._span_id, self.flag))

    def __repr__(self) -> str:
        return f"SpanContext({self._trace_id!r}, {self._span_id!r}, {self.flag})"


class Span:
    """One running operation.

    As a context manager it is the current span of its block. An exception that leaves the block is recorded and raised on, unchanged.

    Attributes:
        name: name of the operation; may be set until the span ends.
        tag: text of the sample, such as ``"batch 7"``. An automatic span shows it below its own description.
        value: an ``int`` that is summed by name: bytes, rows, items.
        flag: 1 if the span is known to be kept as a sample.
    """

    __slots__ = (
        "_ended",
        "_error",
        "_generation",
        "_parent_id",
        "_seen_error",
        "_span_id",
        "_start",
        "_start_ms",
        "_token",
        "_trace",
        "_trace_id",
        "_tracer",
        "flag",
        "name",
        "tag",
        "value",
    )

    #: Whether the span is a request that the program answers.
    is_request = False

    # Filled in by Tracer.begin, but for _ended, _seen_error and _token. The tracer is None once the span has ended, and then _ended is set.
    _tracer: Recorder | None
    _ended: int
    _generation: int
    _trace: LocalTrace | None
    _trace_id: int | str
    _span_id: int
    _parent_id: int | str
    _start: int
    #: Filled in when somebody asks for it.
    _start_ms: int
    _error: BaseException | str | None
    _seen_error: int
    _token: Token[Any] | None
    name: str
    flag: int
    tag: str
    value: int

    def __init__(self, name: str, tracer: Any, parent_id: str = "") -> None:
        """Begin a span by hand, as in the official Stardust SDK; ``tracer.new_span(name)`` does the same.

        Args:
            name: name of the operation.
            tracer: a ``StardustTracer``, or the tracer behind it.
            parent_id: id of the span above; default: the current span.
        """
        begun = tracer.new_span(name)
        for attribute in Span.__slots__:
            if hasattr(begun, attribute):
                setattr(self, attribute, getattr(begun, attribute))
        if parent_id:
            self._parent_id = str(parent_id)

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
        """The name of :attr:`span_id` in the official Stardust SDK and on the wire."""
        return span_hex(self._span_id)

    @property
    def parent_id(self) -> str:
        """Id of the span above, ``""`` at the root."""
        return span_hex(self._parent_id) if self._parent_id else ""

    @property
    def start_time(self) -> int:
        """When the span began, in Unix milliseconds."""
        try:
            return self._start_ms
        except AttributeError:
            age = SYSTEM_CLOCK.monotonic_ns() - self._start
            self._start_ms = (SYSTEM_CLOCK.wall_ns() - age) // 1_000_000
            return self._start_ms

    @property
    def end_time(self) -> int:
        """When the span ended, in Unix milliseconds; 0 while it runs."""
        if self._tracer is not None:
            return 0
        return self.start_time + (max(self._ended - self._start, 0) + 500_000) // 1_000_000

    @property
    def error(self) -> str:
        """Text of the error that the span failed with, ``""`` if it did not fail."""
        return "" if self._error is None else _error_message(self._error)

    def to_dict(self) -> dict[str, Any]:
        """The span with the names of the wire (protocol.md §3.1); times in Unix milliseconds."""
        return {
            "Id": self.id,
            "ParentId": self.parent_id,
            "TraceId": self.trace_id,
            "StartTime": self.start_time,
            "EndTime": self.end_time,
            "Value": self.value,
            "Tag": self.tag,
            "Error": self.error,
        }

    @property
    def traceparent(self) -> str:
        """The header value for a call made under this span (protocol.md §5.3)."""
        trace = self._trace_id
        if type(trace) is int:
            return f"00-{trace:032x}-{self._span_id:016x}-0{self.flag & 1}"
        return f"00-{trace}-{self._span_id:016x}-0{self.flag & 1}"

    def set_error(self, error: BaseException | str) -> None:
        """Mark the span as failed. An exception with an empty text counts as well."""
        self._error = error

    def append_tag(self, text: str) -> None:
        """Add a line to the tag."""
        if text and len(self.tag) < _TAG_LIMIT:
            self.tag = f"{self.tag}\r\n{text}" if self.tag else text

    def describe(self) -> str:
        """What an automatic span says about itself. Only called if a sample is kept, so it may cost something."""
        return ""

    def end(self, error: BaseException | str | None = None) -> None:
        """End and count the span. Only the first call has an effect. Never raises."""
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            if error is not None:
                self._error = error
            if self._generation == tracer.generation:
                value = self.value if type(self.value) is int else _whole(self.value)
                tracer.record(self.name, self._start, self, None, (), self._error, value, self)
            else:  # begun before a fork: the parent process counts it
                tracer.discard(self)
            if self._error is not None:  # the exception's traceback leads to the frame that holds this span
                self._error = _error_message(self._error)

    def finish(self, error: BaseException | str | None = None) -> None:
        """The name of :meth:`end` in the official Stardust SDK."""
        self.end(error)

    def abandon(self) -> None:
        """End the span without counting it. Calls below it move up to its parent."""
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            tracer.discard(self)
            self._error = None

    @property
    def ended(self) -> bool:
        """Whether :meth:`end` or :meth:`abandon` was called."""
        return self._tracer is None

    def __enter__(self) -> Span:
        self._token = context.current_span.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                context.current_span.reset(token)
            except ValueError:
                # A moved generator leaves in another context than it entered; the entered one is gone, so nothing is left to do.
                self._token = None
        # A generator that is closed early has not failed.
        self.end(error if error is not None and not isinstance(error, GeneratorExit) else None)

    def __repr__(self) -> str:
        return f"Span({self.name!r}, trace_id={self.trace_id}, span_id={self.span_id})"


class LiveSpan(Span):
    """The class of the spans that a tracer begins, and the base of those that know more.

    Budget: it has no constructor, as :meth:`Tracer.begin` fills the span in. Calling that of ``Span`` would cost 0.1 us of 1.2
    (CPython 3.11, 2026-11).
    """

    __slots__ = ()
    if not TYPE_CHECKING:
        __init__ = object.__init__


def _error_message(error: BaseException | str) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the exception of a program may raise from its own __str__
        return type(error).__name__


def _whole(value: Any) -> int:
    """What a program assigned to ``value`` as a number, 0 for what is none: the call counts, and keeps its sample."""
    try:
        return int(value)
    except Exception:  # noqa: BLE001 - an object of the program
        return 0


def _constant(value: str | int) -> Any:
    """An attribute that always has ``value``, whatever is assigned to it."""
    return property(lambda _: value, lambda *_: None)


class _NoSpan(Span):
    """Stands for the current span where there is none: takes everything and keeps nothing."""

    __slots__ = ()

    tag = name = _constant("")
    value = flag = _constant(0)
    _trace_id = _span_id = _parent_id = ""  # type: ignore[assignment] # no digits: there is no trace
    _tracer = None
    _start = _ended = _start_ms = 0
    _error = None

    @property
    def traceparent(self) -> str:
        """No header: there is no trace."""
        return ""

    def set_error(self, error: BaseException | str) -> None:
        """Nothing fails here."""

    def append_tag(self, text: str) -> None:
        """Nothing is kept."""

    def end(self, error: BaseException | str | None = None) -> None:
        """Nothing ends."""

    def abandon(self) -> None:
        """Nothing ends."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing ends."""

    def __repr__(self) -> str:
        return "Span(none)"


_NO_SPAN: _NoSpan = object.__new__(_NoSpan)


def current_span() -> Span:
    """The span that runs now in this thread or task, automatic or your own. Never ``None``.

    A handler can tag or fail its own request::

        stardust_auto.current_span().append_tag(f"order {number}")
        stardust_auto.current_span().set_error("stock is empty")

    Outside of a span, and where only a parent in another thread is known, the result is an object that takes everything and keeps nothing.
    """
    span = context.current_span.get()
    return span if isinstance(span, Span) and span._tracer is not None else _NO_SPAN


def trace_of(parent: Span | SpanContext) -> LocalTrace | None:
    """The trace that ``parent`` belongs to. A span opens it with the first call below it."""
    trace = parent._trace
    if trace is None and isinstance(parent, Span):
        trace = parent._trace = LocalTrace(parent._span_id, 0 if parent._tracer is not None else parent._ended)
    return trace


def handoff_context(parent: Any) -> Any:
    """What another thread gets in the place of a live span: its ids, its flag, and the trace that it belongs to."""
    if parent is SUPPRESSED or isinstance(parent, SpanContext):
        return parent
    return SpanContext(parent.trace_id, parent.span_id, parent.flag, trace_of(parent))


def has_expired(parent: Span | SpanContext, now: int) -> bool:
    """Whether the trace of ``parent`` ended too long ago to be joined: only asked of parents that are not live."""
    trace = parent._trace
    ended = parent._ended if trace is None else trace.ended
    return ended != 0 and now - ended > LINGER_NS


def is_first_report(error: BaseException, parent: object) -> bool:
    """Whether ``error`` is new to the span above, and remember it. On its way up through several spans it counts once."""
    seen = id(error)
    new = True
    above = context.current_span.get()
    for span in (parent, above) if parent is not above else (parent,):
        if isinstance(span, Span):
            new = new and getattr(span, "_seen_error", 0) != seen
            span._seen_error = seen
    return new
