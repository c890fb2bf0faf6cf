"""The part of a trace that runs in this process: its spans are kept together or not at all (X20).

Which calls of a trace are worth keeping is often known only at its end: the request failed, it was slow, or one call in it was the
first of its name. Until then the calls of a trace that is not sampled wait here, as the few references that a sample is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.process.context import SUPPRESSED
from stardust_auto.tracing.context import SpanContext

if TYPE_CHECKING:
    from stardust_auto.tracing.span import Span

#: Samples kept for one trace in one process.
MOST_IN_TRACE = 100
#: Samples in a period that only belong to somebody else's tree: a caller that flags every request must not make us keep everything.
MOST_EXTRA = 1000
#: How long after its end a thread that was started in a trace still goes on with it.
LINGERS_NS = 10_000_000_000


class LocalTrace:
    """Shared by the spans of one trace in this process; changed under the tracer's lock only."""

    __slots__ = ("ended", "kept", "left_out", "root", "waiting", "wanted")

    # Filled in by whoever makes it: trace_of() or the tracer.
    #: Span id of the span that the trace began with here.
    root: int
    #: Samples that are kept of it, and calls that are only counted.
    kept: int
    left_out: int
    #: Something in it is kept, so the rest of it is wanted too.
    wanted: bool
    #: When its root ended, on the tracer's clock; since then nothing waits. 0 while it runs.
    ended: int
    #: What samples will be made of, in the order in which the calls ended.
    waiting: list[tuple[Any, ...]]

    def release(self, now: int) -> list[tuple[Any, ...]]:
        """The waiting calls, at the end of the root; what comes later does not begin to wait."""
        waiting, self.waiting, self.ended = self.waiting, [], now
        return waiting

    def mark(self, root: Span) -> None:
        """Say in the tag of the root how many calls were left out."""
        if self.left_out:
            note = f"({self.left_out} more calls of this trace were counted but not kept)"
            root.tag = f"{root.tag or root.describe()}\r\n{note}"


def trace_of(parent: Any, *, begun: bool = True) -> LocalTrace | None:
    """The trace that ``parent`` belongs to. A live root opens it with the first span below it, if one has ``begun``."""
    trace: LocalTrace | None = parent._trace
    if trace is None and begun and not isinstance(parent, SpanContext):
        trace = LocalTrace()
        trace.root, trace.waiting = parent._span_id, []
        trace.kept = trace.left_out = trace.ended = 0
        trace.wanted = False
        parent._trace = trace
    return trace


def carried(parent: Any) -> Any:
    """What another thread gets in place of a live span: its ids, its flag, and the trace that it belongs to."""
    if parent is SUPPRESSED or isinstance(parent, SpanContext):
        return parent
    return SpanContext(parent.trace_id, parent.span_id, parent.flag, trace_of(parent))


def lapsed(parent: SpanContext, now: int) -> bool:
    """Whether ``parent`` came from another thread and its trace ended too long ago to go on.

    What a request leaves running belongs to it; a worker that it happened to start serves others by then.
    """
    trace = parent._trace
    return trace is not None and trace.ended != 0 and now - trace.ended > LINGERS_NS
