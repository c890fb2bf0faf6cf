"""The part of a trace that runs in this process: its spans are kept together or not at all (tracing.md X20).

Which calls of a trace are worth keeping is often known only at its end: the request failed, it was slow, or one call in it was the
first of its name. Until then the calls of a trace that is not sampled wait here, as the few references that a sample is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stardust_auto.tracing.span import Span

#: Samples kept for one trace in one process.
MOST_IN_TRACE = 100
#: Samples in a period that only belong to somebody else's tree: a caller that flags every request must not make us keep everything.
MOST_EXTRA = 1000


class LocalTrace:
    """Shared by the spans of one trace in this process; changed under the tracer's lock only."""

    __slots__ = ("kept", "left_out", "room", "root", "waiting", "wanted")

    def __init__(self, root: int) -> None:
        #: Span id of the span that the trace began with here.
        self.root = root
        self.kept = 0
        self.left_out = 0
        #: How many more calls may wait.
        self.room = MOST_IN_TRACE
        #: Something in it is kept, so the rest of it is wanted too.
        self.wanted = False
        #: What samples will be made of, in the order in which the calls ended.
        self.waiting: list[tuple[Any, ...]] = []

    def release(self) -> list[tuple[Any, ...]]:
        """The waiting calls; nothing waits any more, and what comes later does not begin to."""
        waiting, self.waiting, self.room = self.waiting, [], 0
        return waiting

    def mark(self, root: Span) -> None:
        """Say in the tag of the root how many calls were left out."""
        if self.left_out:
            note = f"({self.left_out} more calls of this trace were counted but not kept)"
            root.tag = f"{root.tag or root.describe()}\r\n{note}"
