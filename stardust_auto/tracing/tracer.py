"""The tracer: begins spans, adds finished calls to builders, hands the builders of a period to the exporters.

One lock guards the builders, and no call waits for it. A call may find it taken: by another thread, or by the code that a signal handler or
a finaliser interrupts. It is put into a queue then, which the next holder of the lock drains.

Over 400 lines: whatever runs under the lock stands here, so that one reading shows that nothing else takes it.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING, Any, overload

from stardust_auto.process import fork
from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.process.context import SUPPRESSED, Suppressed, current_span
from stardust_auto.tracing.builder import LONGEST_NS, NS_PER_MS, OperationTotal, Sample, SpanBuilder, TracePolicy
from stardust_auto.tracing.decorator import traced
from stardust_auto.tracing.ids import IdGenerator
from stardust_auto.tracing.naming import MAX_NAMES, operation_name, shared_name
from stardust_auto.tracing.run_totals import RunTotals
from stardust_auto.tracing.sampling import make_sample, message_of
from stardust_auto.tracing.span import (
    MAX_IN_TRACE,
    LiveSpan,
    LocalTrace,
    Span,
    SpanContext,
    has_expired,
    is_first_report,
    trace_of,
)
from stardust_auto.wire.wildcards import compile_wildcards

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.process.clock import Clock
    from stardust_auto.tracing.span import Finished

    F = TypeVar("F", bound=Callable[..., Any])
    S = TypeVar("S", bound=LiveSpan)

#: Calls that wait in the queue at most.
_PENDING_LIMIT = 50_000
#: How long a call waits for the lock once the queue is full. The holder needs the GIL to drain the queue, and another thread may keep
#: the GIL for 5 ms.
_LOCK_WAIT_SECONDS = 0.1
#: How long :meth:`Tracer.take` waits for the lock.
_TAKE_WAIT_SECONDS = 1.0
#: Samples in a period that are kept only because of their trace: a caller that flags every request must not make us keep everything.
_MAX_EXTRA_SAMPLES = 1000
#: Samples of slow or flagged calls of one name, as a multiple of the limit for its first calls.
_MORE = 10
_CURRENT: Any = object()


class Tracer:
    """Aggregates finished calls by name.

    Args:
        operator: values that the operator set; the server's never replace them.
        clock: the time of everything that is recorded.
        max_names: operations told apart in one period. Calls of further ones are counted together, by kind.
        keep_totals: also keep totals and samples of the whole run, for ``--summary`` and tests.
    """

    def __init__(
        self,
        operator: TracePolicy | None = None,
        *,
        ids: IdGenerator | None = None,
        clock: Clock = SYSTEM_CLOCK,
        max_names: int = MAX_NAMES,
        keep_totals: bool = False,
    ) -> None:
        self.ids = ids or IdGenerator()
        #: The clock of ``record(start=...)``: nanoseconds since an arbitrary moment.
        self.now = clock.monotonic_ns
        self._wall = clock.wall_ns
        self.keep_totals = keep_totals
        self.max_names = max_names
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
        #: Raised in each forked child: spans of an older generation end in the parent process.
        self.generation = 0
        self._start_fresh()
        self.apply(TracePolicy())
        fork.register(self)

    @classmethod
    def from_settings(cls, settings: AgentSettings, *, keep_totals: bool = False) -> Tracer:
        """The tracer that an operator configured."""
        policy = TracePolicy(
            period=settings.period,
            max_samples=settings.max_samples,
            max_errors=settings.max_errors,
            timeout=settings.timeout,
            max_tag_length=settings.max_tag_length,
            excludes=settings.excludes,
        )
        tracer = cls(policy, max_names=settings.max_names, keep_totals=keep_totals)
        tracer.enabled = settings.trace_enabled
        return tracer

    def _start_fresh(self) -> None:
        self._lock = allocate_lock()
        self._builders: dict[str, SpanBuilder] = {}
        self._pending: deque[Finished] = deque()
        self._run = RunTotals() if self.keep_totals else None
        self._extra = 0
        self._untouched = True

    def reset_after_fork(self) -> None:
        """In a forked child: start with nothing. The parent process reports its own calls, and the spans that were live at the fork."""
        self.generation += 1
        self.ids.reseed()
        self._start_fresh()

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

    def begin(self, name: str, parent: Any = _CURRENT, kind: type[Any] = LiveSpan) -> Any:
        """A new span under ``parent`` (default: the current one). The context stays as it is.

        Args:
            kind: the class to make, for an integration whose spans know more.
        """
        if parent is _CURRENT:
            parent = current_span.get()
        bits = self.ids.bits
        # Budget: filled in here and not by an __init__, which would cost every request 0.3 us more (CPython 3.11, 2026-11).
        span = kind()
        span._span_id = bits(64) or 1
        if parent is None or parent is SUPPRESSED or (parent._tracer is None and has_expired(parent, self.now())):
            flag = 0
            span._trace_id = bits(128) or 1
            span._parent_id = 0
            span._trace = None
        else:
            flag = parent.flag
            span._trace_id = parent._trace_id
            span._parent_id = parent._span_id
            span._trace = parent._trace or trace_of(parent)
        if not flag and type(name) is str:
            builder = self._builders.get(name)
            if (0 if builder is None else builder.total) < self.max_samples:
                flag = 1
        span._tracer = self
        span._generation = self.generation
        span.name = name
        span.flag = flag
        span.tag = ""
        span.value = 0
        span._error = None
        span._start = self.now()
        return span

    def rename(self, span: Span, name: str, inherited: int = 0) -> None:
        """Give ``span`` a better name, such as the route of a request, and sample it as that name asks for.

        Args:
            inherited: the flag of its parent.
        """
        span.name = name
        builder = self._builders.get(name)
        span.flag = inherited or (1 if (builder.total if builder is not None else 0) < self.max_samples else 0)

    def new_span(self, name: str, parent: Span | SpanContext | None = _CURRENT) -> Span:
        """A span for a ``with`` block: current inside it, ended and counted when the block is left."""
        return self.begin(operation_name(name), parent)

    def trace(self, name: str) -> Callable[[F], F]:
        """Decorator: a span around each call of a function, coroutine function, generator or asynchronous generator."""
        return traced(self.begin, operation_name(name))

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
        """Count a finished call. Never raises, and never waits unless ``_PENDING_LIMIT`` calls are queued.

        Args:
            start: a reading of :attr:`now` just before the call.
            parent: the span or context that the call was made under, or ``None``; for a call with a ``span``, that span.
            describe: makes the tag from ``args``. Only called if a sample is kept.
            args: a tuple for ``describe``. ``describe.pick`` makes the tuple of an object too large to be held until the trace ends.
            error: why the call failed, or ``None``.
            value: bytes, rows or items.
            span: the span of the call. A call that nothing ran under needs none: ids are made if a sample is kept.
        """
        # Budget: _count and the commonest outcomes of _consider stand here in place; calling them takes 0.27 us more of 0.72
        # (CPython 3.11, 2026-11). That both ways agree is tested.
        end = self.now()
        duration = end - start
        if duration < 0:
            duration = 0
        call = (end, name, duration, parent, describe, args, error, value, span)
        if span is not None:
            span._ended = end
        lock = self._lock
        if lock.acquire(False) or self._wait_for_lock(lock):
            try:
                builder = self._builders.get(name)
                if builder is None:
                    builder = self._new_builder(name)
                if duration <= self._longest:
                    total = builder.total = builder.total + 1
                    builder.cost_ns += duration
                    if duration > builder.max_ns:
                        builder.max_ns = duration
                    if duration < builder.min_ns:
                        builder.min_ns = duration
                    if value:
                        builder.value += value
                    if error is not None or total <= self.max_samples or duration > self._timeout_ns:
                        self._consider(builder, call)
                    elif parent is not None:
                        trace = parent._trace
                        if (
                            trace is None
                            or trace.wanted
                            or trace.ended
                            or parent.flag
                            or span
                            or type(args) is not tuple
                        ):
                            if span is None or trace is not None or parent.flag:
                                self._consider(builder, call)
                        elif len(trace.waiting) < MAX_IN_TRACE:
                            trace.waiting.append(call)
                        else:
                            trace.left_out += 1
                elif span is not None:
                    self._end_trace_of(span, end)
                if self._pending:
                    self._drain()
            except Exception:  # noqa: BLE001 - a fault of the agent must not reach the application; it is counted
                self.dropped["fault"] += 1
            finally:
                lock.release()
        elif len(self._pending) < _PENDING_LIMIT:
            self._pending.append(call)
        else:
            self.dropped["pending"] += 1
        if self._untouched:
            self._notice_first_record()
        if error is not None and not isinstance(error, str) and is_first_report(error, parent):
            self.record(f"ex:{type(error).__name__}", start, parent, message_of, (error,))  # protocol.md §5.5

    def _wait_for_lock(self, lock: Any) -> bool:
        return len(self._pending) >= _PENDING_LIMIT and lock.acquire(timeout=_LOCK_WAIT_SECONDS)

    def _drain(self) -> None:
        """Count the calls that found the lock taken. The lock is held."""
        pending = self._pending
        for _ in range(len(pending)):
            self._count(pending.popleft())

    def _count(self, call: Finished) -> None:
        """Add a call to its builder. The lock is held."""
        end, name, duration, *_, value, span = call
        builder = self._builders.get(name) or self._new_builder(name)
        if duration <= self._longest:
            builder.add(duration, value)
            self._consider(builder, call)
        elif span is not None:
            self._end_trace_of(span, end)

    def _consider(self, builder: SpanBuilder, call: Finished) -> None:
        """Decide whether a counted call becomes a sample, now or with the rest of its trace. The lock is held."""
        end, _, duration, parent, _, args, error, _, span = call
        if parent is not None and parent._tracer is None and has_expired(parent, end):
            parent = None
            call = (*call[:3], None, *call[4:])
        flagged = parent is not None and bool(parent.flag)
        if error is None:
            most = self.max_samples
            keep = builder.total <= most or (builder.total <= _MORE * most and (flagged or duration > self._timeout_ns))
        else:
            errors = builder.errors = builder.errors + 1
            most = self.max_errors
            keep = errors <= most or (errors <= _MORE * most and flagged)
        if builder.excluded:
            if span is not None:
                self._end_trace_of(span, end)
            return
        trace = None if parent is None else parent._trace if span is not None else trace_of(parent)
        if trace is not None:
            if span is not None and span._span_id == trace.root:
                keep = self._end_trace(trace, span, keep, end)
            elif keep:
                trace.kept += 1
                trace.wanted = True
            elif flagged or trace.wanted:
                if trace.kept >= MAX_IN_TRACE or self._extra >= _MAX_EXTRA_SAMPLES:
                    trace.left_out += 1
                    return
                trace.kept += 1
                self._extra += 1
                keep = True
            elif error is None and len(trace.waiting) < MAX_IN_TRACE and not trace.ended:
                trace.waiting.append(call if type(args) is tuple else _picked(call))
            else:  # also an exception: a call that waits would keep its frames alive
                trace.left_out += 1
        if keep:
            self._keep_sample(builder, call if type(args) is tuple else _picked(call))

    def _end_trace(self, trace: LocalTrace, root: Span, keep: bool, end: int) -> bool:
        """End a trace with its root: the calls that waited are kept if the root or anything else in the trace is."""
        waiting = trace.release(end)
        if not (keep or trace.wanted):
            return False
        for call in waiting:
            builder = self._builders.get(call[1])
            if builder is not None and self._extra < _MAX_EXTRA_SAMPLES:
                self._extra += 1
                self._keep_sample(builder, call)
        trace.wanted = True  # for a call that another thread of this trace ends later
        if trace.left_out:
            root.append_tag(f"({trace.left_out} more calls of this trace were counted but not kept)")
        if not keep:
            self._extra += 1
        return keep or self._extra <= _MAX_EXTRA_SAMPLES

    @staticmethod
    def _end_trace_of(span: Span, end: int) -> None:
        """End the trace whose root is ``span``, which becomes no sample. The calls that waited go with it."""
        trace = span._trace
        if trace is not None and trace.root == span._span_id:
            trace.release(end)

    def discard(self, span: Span) -> None:
        """Forget an ended span that is not counted, such as a request that was answered with 404. Never raises.

        Samples of calls below it move up to its parent, so that no sample names a parent that nobody has.
        """
        end = span._ended = self.now()
        trace = span._trace
        if trace is None or not self._lock.acquire(timeout=_LOCK_WAIT_SECONDS):
            return
        try:
            self._end_trace_of(span, end)
            if not trace.kept:
                return
            above, here = span.parent_id, span.span_id
            for builder in self._builders.values():
                for samples in (builder.samples, builder.error_samples):
                    for index, sample in enumerate(samples):
                        if sample.parent_id == here and sample.trace_id == span.trace_id:
                            samples[index] = sample.moved_to(above)
        except Exception:  # noqa: BLE001 - a fault of the agent must not reach the application; it is counted
            self.dropped["fault"] += 1
        finally:
            self._lock.release()

    def _keep_sample(self, builder: SpanBuilder, call: Finished) -> None:
        sample = make_sample(
            call, self._wall() - (self.now() - call[0]), self.ids, self.max_tag_length, self.request_note
        )
        (builder.error_samples if sample.error else builder.samples).append(sample)

    def _new_builder(self, name: str) -> SpanBuilder:
        builders = self._builders
        if len(builders) >= self.max_names:
            name = shared_name(name)
            if name in builders:
                return builders[name]
        excluded = name.lower().endswith(("/trace/report", "/trace/reportraw")) or self._excluded(name)
        builder = builders[name] = SpanBuilder(
            name, self.max_samples, self.max_errors, start_time=self._wall() // NS_PER_MS, excluded=excluded
        )
        return builder

    def expect_first_record(self) -> None:
        """Call :attr:`on_first_record` once more, with the next call that is recorded."""
        self._untouched = True

    def _notice_first_record(self) -> None:
        self._untouched = False
        if self.on_first_record is not None:
            try:
                self.on_first_record()
            except Exception:  # noqa: BLE001 - for example "can't start new thread" at interpreter shutdown; it is counted
                self.dropped["fault"] += 1

    # -- reporting ---------------------------------------------------------------------------------------------------

    def take(self) -> list[SpanBuilder]:
        """The builders of the period that ends now; from now on, calls are counted in new ones."""
        if not self._lock.acquire(timeout=_TAKE_WAIT_SECONDS):
            return []
        try:
            if self._pending:
                self._drain()
            builders, self._builders = self._builders, {}
            self._extra = 0
        finally:
            self._lock.release()
        now = self._wall() // NS_PER_MS
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
        self._timeout_ns = self.timeout * NS_PER_MS
        self.excludes: tuple[str, ...] = tuple(said.excludes or ())
        self._excluded = compile_wildcards(self.excludes)

    def totals(self) -> list[OperationTotal]:
        """Totals of the whole run by name, the most expensive first; empty unless ``keep_totals``."""
        return self._run.totals(list(self._builders.values())) if self._run is not None else []

    def history(self) -> list[Sample]:
        """Kept samples of the whole run, oldest first, at most 5000; empty unless ``keep_totals``."""
        return self._run.samples(list(self._builders.values())) if self._run is not None else []


def _picked(call: Finished) -> Finished:
    """``call`` without the large object that its tag is made of."""
    end, name, duration, parent, describe, args, error, value, span = call
    return (end, name, duration, parent, describe, describe.pick(args), error, value, span)
