"""The tracer: begins spans, folds finished calls into builders, hands the builders of a period to the reporter.

One lock guards the builders and nobody waits for it: a call that finds it taken (another thread, a signal handler or a
finaliser in the middle of ours) leaves its numbers in a queue that the holder, the next call or the reporter folds in.
"""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING, Any, overload

from stardust_auto.process.context import SUPPRESSED, Suppressed, current_span
from stardust_auto.process.fork import after_fork_in_child
from stardust_auto.tracing.builder import LONGEST_NS, OperationTotal, Sample, SpanBuilder, TracePolicy
from stardust_auto.tracing.context import SpanContext
from stardust_auto.tracing.decorator import traced
from stardust_auto.tracing.ids import IdGenerator
from stardust_auto.tracing.local_trace import MOST_EXTRA, MOST_IN_TRACE, LocalTrace, lapsed, trace_of
from stardust_auto.tracing.naming import MAX_NAMES, operation_name, shared_name
from stardust_auto.tracing.run_totals import RunTotals
from stardust_auto.tracing.sampling import make_sample, message_of
from stardust_auto.tracing.span import Span, first_sight
from stardust_auto.wire.wildcards import compile_wildcards

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., Any])
    S = TypeVar("S", bound=Span)

_PENDING_LIMIT = 50_000
#: Seconds. With the queue full a call lets the holder of the lock go on, which another thread's turn of 5 ms keeps from its work.
_LONGEST_WAIT = 0.1
_CURRENT: Any = object()
_NS = 1_000_000


class Tracer:
    """Aggregates finished calls per name.

    Args:
        operator: values that the operator set; the server's never replace them.
        now: monotonic clock in nanoseconds. wall: Unix clock in nanoseconds.
        keep_totals: also keep totals and samples of the whole run (for ``--summary`` and tests).
    """

    def __init__(
        self,
        operator: TracePolicy | None = None,
        *,
        ids: IdGenerator | None = None,
        now: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
        keep_totals: bool = False,
    ) -> None:
        self.ids = ids or IdGenerator()
        self.now = now
        self.wall = wall
        self.keep_totals = keep_totals
        self._longest = LONGEST_NS
        self._operator = operator or TracePolicy()
        self.period = 60
        self.max_samples = 1
        self.max_errors = 10
        self.timeout = 5000
        self.max_tag_length = 1024
        #: A last line for the tag of each sampled request, such as the version of the settings in use.
        self.request_note = ""
        #: Called once in each process, when its first call is recorded.
        self.on_first_record: Callable[[], None] | None = None
        #: Calls that could not be counted, by reason.
        self.dropped = {"pending": 0, "fault": 0}
        self.generation = 0
        self._start_over()
        self.apply(TracePolicy())
        after_fork_in_child(self._after_fork)

    def _start_over(self) -> None:
        self._lock = allocate_lock()
        self._builders: dict[str, SpanBuilder] = {}
        self._pending: deque[tuple[Any, ...]] = deque()
        self._run = RunTotals() if self.keep_totals else None
        self._extra = 0
        self._untouched = True

    def _after_fork(self) -> None:
        # The parent reports its own calls: the child starts with nothing, and spans begun before the fork end in the parent.
        self.generation += 1
        self.ids.reseed()
        self._start_over()

    @property
    def enabled(self) -> bool:
        """Whether calls are counted."""
        return self._longest >= 0

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._longest = LONGEST_NS if on else -1

    # -- recording ---------------------------------------------------------------------------------------------------

    @overload
    def begin(self, name: str, parent: Span | SpanContext | Suppressed | None = ...) -> Span: ...

    @overload
    def begin(self, name: str, parent: Span | SpanContext | Suppressed | None, kind: type[S]) -> S: ...

    def begin(self, name: str, parent: Any = _CURRENT, kind: type[Any] = Span) -> Any:
        """A new span under ``parent`` (default: the current one). The context stays as it is.

        ``kind``: the class to make, for an integration whose spans know more.
        """
        if parent is _CURRENT:
            parent = current_span.get()
        bits = self.ids.bits
        # Filled in here and not by an __init__ of its own: this is the one constructor that every request pays for.
        span = kind()
        span._span_id = bits(64) or 1
        if parent is None or parent is SUPPRESSED or (type(parent) is SpanContext and lapsed(parent, self.now())):
            flag = 0
            span._trace_id = bits(128) or 1
            span._parent_id = 0
            span._trace = None
        elif isinstance(parent, Span):
            flag = parent.flag
            span._trace_id = parent._trace_id
            span._parent_id = parent._span_id
            span._trace = parent._trace or trace_of(parent)
        else:
            flag = parent.flag
            span._trace_id = parent.trace_id
            span._parent_id = parent.span_id
            span._trace = parent._trace
        if not flag:
            builder = self._builders.get(name)
            flag = 1 if (builder.total if builder is not None else 0) < self.max_samples else 0
        span._tracer = self
        span._generation = self.generation
        span.name = name
        span.flag = flag
        span.tag = ""
        span.value = 0
        span._error = None
        span._seen_error = 0
        span._token = None
        span._start = self.now()
        return span

    def rename(self, span: Span, name: str, inherited: int = 0) -> None:
        """Give ``span`` a better name, such as the route of a request, and sample it as that name asks for.

        ``inherited``: the flag of its parent.
        """
        span.name = name
        builder = self._builders.get(name)
        span.flag = inherited or (1 if (builder.total if builder is not None else 0) < self.max_samples else 0)

    def new_span(self, name: str, parent: Span | SpanContext | None = _CURRENT) -> Span:
        """A span for a ``with`` block: current inside it, ended and counted when the block is left."""
        return self.begin(operation_name(name), parent)

    def trace(self, name: str) -> Callable[[F], F]:
        """Decorator: a span around each call of a function, coroutine function, generator or asynchronous generator."""
        return traced(self, name)

    def record(
        self,
        name: str,
        start: int,
        parent: Any,
        describe: Any = None,
        args: Any = (),
        error: BaseException | str | None = None,
        value: int = 0,
        span: Span | None = None,
        ended: int | None = None,
    ) -> None:
        """Count one finished call. Never raises, and never waits unless 10,000 calls are queued.

        Args:
            start: :attr:`now` just before the call.
            describe: makes the tag from ``args``; only called when a sample is kept.
            args: a tuple for ``describe``. Anything else is too large to be held until the trace ends, and ``describe.pick`` makes the
                tuple of it.
            span: the call's own span; without one (nothing ran under the call) ids are made for a sample that is kept.
            ended: when it ended, for one that could not be counted then; the lock is held by who counts it now.
        """
        # In one piece: each further function would be paid for by every call. What stands in functions happens to few of them.
        end = self.now() if ended is None else ended
        duration = end - start
        lock = self._lock
        if (
            ended is not None
            or lock.acquire(False)
            or (len(self._pending) >= _PENDING_LIMIT and lock.acquire(timeout=_LONGEST_WAIT))
        ):
            try:
                builder = self._builders.get(name)
                if builder is None:
                    builder = self._new_builder(name)
                if duration < 0:
                    duration = 0
                if duration <= self._longest:
                    total = builder.total = builder.total + 1
                    builder.cost_ns += duration
                    if duration > builder.max_ns:
                        builder.max_ns = duration
                    if duration < builder.min_ns:
                        builder.min_ns = duration
                    if value:
                        builder.value += value
                    if parent is None:
                        if error is not None or total <= self.max_samples or duration > self._timeout_ns:
                            self._consider(builder, end, name, duration, parent, describe, args, error, value, span)
                    else:
                        trace = parent._trace
                        if error is not None or parent.flag or total <= self.max_samples or duration > self._timeout_ns:
                            self._consider(builder, end, name, duration, parent, describe, args, error, value, span)
                        elif trace is None:
                            if span is None and type(parent) is not SpanContext:  # the first call under this span
                                if type(args) is not tuple:
                                    args = describe.pick(args)
                                call = (end, name, duration, parent, describe, args, error, value, span)
                                parent._trace = trace = (
                                    LocalTrace()
                                )  # filled in here: its __init__ would cost as much again
                                trace.root, trace.waiting = parent._span_id, [call]
                                trace.kept = trace.left_out = trace.ended = 0
                                trace.wanted = False
                        elif trace.wanted:
                            self._consider(builder, end, name, duration, parent, describe, args, error, value, span)
                        elif span is not None and span._span_id == trace.root:  # nothing in it is worth keeping
                            trace.ended, trace.waiting = end, []
                        elif len(trace.waiting) < MOST_IN_TRACE and not trace.ended:
                            if type(args) is not tuple:
                                args = describe.pick(args)
                            trace.waiting.append((end, name, duration, parent, describe, args, error, value, span))
                        else:
                            trace.left_out += 1
                if self._pending and ended is None:
                    self._fold_pending()
            except Exception:  # noqa: BLE001 - a fault of ours must not reach the application; it is counted
                self.dropped["fault"] += 1
            finally:
                if ended is None:
                    lock.release()
        elif len(self._pending) < _PENDING_LIMIT:
            self._pending.append((name, start, parent, describe, args, error, value, span, end))
        else:
            self.dropped["pending"] += 1
        if self._untouched:
            self._first_record()
        if error is not None and ended is None and not isinstance(error, str) and first_sight(error, parent):
            self.record(f"ex:{type(error).__name__}", start, parent, message_of, (error,))  # protocol.md §5.5

    def _fold_pending(self) -> None:
        """Count what found the lock taken, by whoever holds it."""
        pending = self._pending
        for _ in range(len(pending)):
            try:
                call = pending.popleft()
            except IndexError:
                return
            self.record(*call)

    def _consider(
        self,
        builder: SpanBuilder,
        end: int,
        name: str,
        duration: int,
        parent: Any,
        describe: Any,
        args: Any,
        error: BaseException | str | None,
        value: int,
        span: Span | None,
    ) -> None:
        """Decide whether a call that is counted becomes a sample, now or with the rest of its trace."""
        if type(parent) is SpanContext and lapsed(parent, end):
            parent = None
        flagged = parent is not None and bool(parent.flag)
        if error is None:
            most = self.max_samples
            keep = builder.total <= most or (builder.total <= 10 * most and (flagged or duration > self._timeout_ns))
        else:
            errors = builder.errors = builder.errors + 1
            most = self.max_errors
            keep = errors <= most or (errors <= 10 * most and flagged)
        if builder.excluded:
            return
        trace = None if parent is None else trace_of(parent, begun=span is None)
        if trace is not None:
            if span is not None and span._span_id == trace.root:
                keep = self._end_trace(trace, span, keep, end)
            elif keep:
                trace.kept += 1
                trace.wanted = True
            elif flagged or trace.wanted:
                if trace.kept >= MOST_IN_TRACE or self._extra >= MOST_EXTRA:
                    trace.left_out += 1
                    return
                trace.kept += 1
                self._extra += 1
                keep = True
            elif error is None and len(trace.waiting) < MOST_IN_TRACE and not trace.ended:
                args = args if type(args) is tuple else describe.pick(args)
                trace.waiting.append((end, name, duration, parent, describe, args, error, value, span))
            else:  # also an exception: what waits would keep its frames alive
                trace.left_out += 1
        if keep:
            args = args if type(args) is tuple else describe.pick(args)
            self._keep_sample(builder, end, name, duration, parent, describe, args, error, value, span)

    def _end_trace(self, trace: LocalTrace, root: Span, keep: bool, end: int) -> bool:
        """The last span of a trace here: what waited is kept if the root or anything in it is."""
        waiting = trace.release(end)
        if not (keep or trace.wanted):
            return False
        for call in waiting:
            builder = self._builders.get(call[1])
            if builder is not None and self._extra < MOST_EXTRA:
                self._extra += 1
                self._keep_sample(builder, *call)
        trace.wanted = True  # for a call that a thread of this trace ends later
        trace.mark(root)
        if not keep:
            self._extra += 1
        return keep or self._extra <= MOST_EXTRA

    def _keep_sample(self, builder: SpanBuilder, ended: int, *call: Any) -> None:
        sample = make_sample(self, self.wall() - (self.now() - ended), *call)
        (builder.error_samples if sample.error else builder.samples).append(sample)

    def _new_builder(self, name: str) -> SpanBuilder:
        builders = self._builders
        if len(builders) >= MAX_NAMES:
            name = shared_name(name)
            if name in builders:
                return builders[name]
        excluded = name.lower().endswith(("/trace/report", "/trace/reportraw")) or self._excluded(name)
        builder = builders[name] = SpanBuilder(name, self.wall() // _NS, excluded=excluded)
        return builder

    def expect_first_record(self) -> None:
        """Call :attr:`on_first_record` once more, with the next call that is recorded."""
        self._untouched = True

    def _first_record(self) -> None:
        self._untouched = False
        if self.on_first_record is not None:
            try:
                self.on_first_record()
            except Exception:  # noqa: BLE001 - for example "can't start new thread" at interpreter shutdown; it is counted
                self.dropped["fault"] += 1

    # -- reporting ---------------------------------------------------------------------------------------------------

    def take(self) -> list[SpanBuilder]:
        """The builders of the period that ends now; counting goes on in new ones."""
        if not self._lock.acquire(timeout=1.0):
            return []
        try:
            self._fold_pending()
            builders, self._builders = self._builders, {}
            self._extra = 0
        finally:
            self._lock.release()
        now = self.wall() // _NS
        taken = []
        for builder in builders.values():
            if builder.excluded or not builder.total:
                continue
            builder.end_time = max(now, builder.start_time)
            taken.append(builder)
            if self._run is not None:
                self._run.add(builder)
        return taken

    def apply(self, policy: TracePolicy) -> None:
        """Take over what the server said. Its list of excludes replaces ours, also when it is ``None`` (protocol.md §3.1)."""
        said = self._operator.over(policy)
        for field in ("period", "max_samples", "max_errors", "timeout", "max_tag_length"):
            value = getattr(said, field)
            if value is not None:
                setattr(self, field, value)
        self._timeout_ns = self.timeout * _NS
        self.excludes: tuple[str, ...] = tuple(said.excludes or ())
        self._excluded = compile_wildcards(self.excludes)

    def totals(self) -> list[OperationTotal]:
        """Totals of the whole run by name, the most expensive first; empty unless ``keep_totals``."""
        return self._run.totals(list(self._builders.values())) if self._run is not None else []

    def history(self) -> list[Sample]:
        """Kept samples of the whole run, oldest first, at most 5000; empty unless ``keep_totals``."""
        return self._run.samples(list(self._builders.values())) if self._run is not None else []
