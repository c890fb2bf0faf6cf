"""Counting, sampling and errors: protocol.md §5.4 and §5.5."""

from __future__ import annotations

import gc
import os
import signal
import threading

import pytest

from stardust_auto.process.context import SUPPRESSED, current_span, suppressed
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.tracing.naming import MAX_NAMES
from stardust_auto.tracing.span import SpanContext
from stardust_auto.tracing.tracer import Tracer


def one(tracer: Tracer, name: str):
    [builder] = [builder for builder in tracer.take() if builder.name == name]
    return builder


def test_counts_costs_and_extremes(tracer, clock):
    for cost in (3, 0, 5):
        start = tracer.now()
        clock.advance(cost)
        tracer.record("db:x:Select:t", start, None, value=2)
    builder = one(tracer, "db:x:Select:t")
    assert (builder.total, builder.errors, builder.cost, builder.value) == (3, 0, 8, 6)
    # protocol.md §9 row 13: a real minimum of 0 ms is kept.
    assert (builder.max_cost, builder.min_cost) == (5, 0)


def test_sub_millisecond_costs_add_up(tracer, clock):
    for _ in range(1000):
        start = tracer.now()
        clock.advance(0.4)
        tracer.record("fast", start, None)
    assert one(tracer, "fast").cost == 400


def test_a_span_longer_than_an_hour_is_discarded(tracer, clock):
    start = tracer.now()
    clock.advance(3_600_001)
    tracer.record("long", start, None)
    assert tracer.take() == []


@pytest.mark.case("X19")
def test_a_clock_that_went_back_counts_as_zero(tracer, clock):
    clock.advance(10)
    start = tracer.now()
    clock.advance(-5)
    tracer.record("back", start, None)
    assert one(tracer, "back").cost == 0


def test_first_calls_are_sampled_and_the_rest_only_counted(tracer):
    tracer.apply(TracePolicy(max_samples=2))
    made = []

    def tag(number):
        made.append(number)
        return str(number)

    for number in range(5):
        tracer.record("n", tracer.now(), None, tag, (number,))
    builder = one(tracer, "n")
    assert builder.total == 5
    assert [sample.tag for sample in builder.samples] == ["0", "1"]
    # Text is made for samples only.
    assert made == [0, 1]


def test_a_slow_call_is_sampled_up_to_ten_times_the_limit(tracer, clock):
    for _ in range(30):
        start = tracer.now()
        clock.advance(5001)
        tracer.record("slow", start, None)
    assert len(one(tracer, "slow").samples) == 10


def test_the_calls_of_a_sampled_request_are_kept_together(tracer):
    for _ in range(50):
        tracer.record("db:x:Select:t", tracer.now(), None)
    with tracer.new_span("/request") as root:
        assert root.flag == 1
        for _ in range(30):
            tracer.record("db:x:Select:t", tracer.now(), current_span.get())
    builders = {builder.name: builder for builder in tracer.take()}
    children = builders["db:x:Select:t"].samples[1:]
    # protocol.md §5.4 alone would keep none of them: the name has been counted more than ten times already.
    assert len(children) == 30
    assert {(child.trace_id, child.parent_id) for child in children} == {(root.trace_id, root.span_id)}


def request(tracer, *, calls: int = 3, error: BaseException | None = None, clock=None, cost: float = 0) -> None:
    span = tracer.begin("/request", None)
    inner = tracer.begin("inner", span)
    for number in range(calls):
        tracer.record("db:x:Select:t", tracer.now(), inner, str, (number,))
    inner.finish()
    if clock is not None:
        clock.advance(cost)
    span.finish(error)


def kept(tracer) -> dict[str, list[str]]:
    return {
        builder.name: [sample.tag for sample in (*builder.samples, *builder.error_samples)]
        for builder in tracer.take()
        if builder.samples or builder.error_samples
    }


def test_the_calls_of_a_request_that_fails_at_its_end_are_kept_with_it(tracer):
    request(tracer)
    request(tracer)
    request(tracer, error=ValueError("late"))
    samples = kept(tracer)
    assert samples["db:x:Select:t"] == ["0", "1", "2"] * 2  # the first request's and the failed one's
    assert len(samples["inner"]) == len(samples["/request"]) == 2


def test_the_calls_of_a_request_that_was_slow_are_kept_with_it(tracer, clock):
    request(tracer)
    request(tracer)
    request(tracer, clock=clock, cost=6000)
    assert len(kept(tracer)["db:x:Select:t"]) == 6


def test_a_kept_call_is_never_without_the_spans_above_it(tracer):
    request(tracer, calls=0)
    span = tracer.begin("/request", None)
    tracer.record("db:x:Insert:new", tracer.now(), span)
    assert span.flag == 0
    span.finish()
    builders = {builder.name: builder for builder in tracer.take()}
    [child] = builders["db:x:Insert:new"].samples
    assert child.parent_id in {sample.id for sample in builders["/request"].samples}


@pytest.mark.case("X20")
def test_a_large_trace_is_cut_and_says_so(tracer):
    request(tracer, calls=10_000)
    builders = {builder.name: builder for builder in tracer.take()}
    assert builders["db:x:Select:t"].total == 10_000
    assert len(builders["db:x:Select:t"].samples) == 100
    request(tracer, calls=0)
    request(tracer, calls=10_000, error=ValueError("late"))
    builders = {builder.name: builder for builder in tracer.take()}
    [root] = builders["/request"].error_samples
    assert "more calls of this trace were counted but not kept" in root.tag
    assert sum(len(builder.samples) + len(builder.error_samples) for builder in builders.values()) < 110


def test_a_caller_that_flags_everything_does_not_make_us_keep_everything(tracer):
    parent = SpanContext("a" * 32, "b" * 16, 1)
    for _ in range(200):
        span = tracer.begin("/request", parent)
        for _ in range(20):
            tracer.record("db:x:Select:t", tracer.now(), span)
        span.finish()
    assert sum(len(builder.samples) for builder in tracer.take()) < 1200
    for _ in range(2):  # and the next period begins with all its room
        request(tracer)
    assert len(kept(tracer)["db:x:Select:t"]) == 3


def test_times_of_a_call_that_waited_are_its_own(tracer, clock):
    request(tracer)
    span = tracer.begin("/request", None)
    clock.advance(1)
    start = tracer.now()
    clock.advance(2)
    tracer.record("db:x:Select:t", start, span)
    clock.advance(4)
    span.finish(ValueError())
    builders = {builder.name: builder for builder in tracer.take()}
    child, root = builders["db:x:Select:t"].samples[-1], builders["/request"].error_samples[0]
    assert (child.start_time - root.start_time, child.end_time - root.start_time) == (1, 3)
    assert root.end_time - root.start_time == 7


def test_the_second_request_of_a_period_is_not_sampled(tracer):
    flags = []
    for _ in range(2):
        with tracer.new_span("/request") as span:
            flags.append(span.flag)
    assert flags == [1, 0]
    tracer.take()
    with tracer.new_span("/request") as span:
        assert span.flag == 1


def test_remote_parent_is_continued_whatever_its_length(tracer):
    # protocol.md §5.1: the .NET client's trace ids have 30 characters.
    parent = SpanContext("c000020217954943803450003e13da", "c000020213da0004", 1)
    span = tracer.begin("/in", parent)
    span.finish()
    [sample] = one(tracer, "/in").samples
    assert (sample.trace_id, sample.parent_id, sample.flag) == (parent.trace_id, parent.span_id, 1)
    assert len(sample.id) == 16


def test_errors_are_counted_and_kept_apart(tracer):
    tracer.apply(TracePolicy(max_errors=2))
    for number in range(5):
        tracer.record("e", tracer.now(), None, error=ValueError(f"bad {number}"))
    builders = {builder.name: builder for builder in tracer.take()}
    assert (builders["e"].total, builders["e"].errors) == (5, 5)
    assert [sample.error for sample in builders["e"].error_samples] == ["ValueError: bad 0", "ValueError: bad 1"]
    assert builders["ex:ValueError"].total == 5
    assert builders["ex:ValueError"].samples[0].tag == "ValueError: bad 0"


def test_an_exception_with_an_empty_text_is_still_an_error(tracer):
    # protocol.md §9 row 20.
    tracer.record("e", tracer.now(), None, error=ValueError())
    assert {builder.name: builder.errors for builder in tracer.take()}["e"] == 1


def test_one_exception_through_nested_spans_gives_one_ex_span(tracer):
    error = KeyError("k")
    with pytest.raises(KeyError) as caught, tracer.new_span("/outer"), tracer.new_span("inner"):
        tracer.record("db:x:Select:t", tracer.now(), current_span.get(), error=error)
        raise error
    assert caught.value is error
    builders = {builder.name: builder for builder in tracer.take()}
    assert {name: builder.errors for name, builder in builders.items()} == {
        "db:x:Select:t": 1,
        "inner": 1,
        "/outer": 1,
        "ex:KeyError": 0,
    }
    assert builders["ex:KeyError"].total == 1


def test_error_text_has_type_message_and_stack_without_source_lines(tracer):
    secret = "hunter2"
    with pytest.raises(ValueError, match="password"), tracer.new_span("job"):
        raise ValueError(f"password={secret}")
    [sample] = one(tracer, "job").error_samples
    assert sample.error.startswith("ValueError: password=***")
    assert "test_error_text_has_type_message_and_stack_without_source_lines" in sample.error
    assert secret not in sample.error


@pytest.mark.case("X21")
def test_str_of_an_exception_that_raises(tracer):
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    tracer.record("e", tracer.now(), None, error=Broken())
    builders = {builder.name: builder for builder in tracer.take()}
    assert "Broken: (its text cannot be shown: RuntimeError)" in builders["e"].error_samples[0].error


def test_excludes_cover_the_whole_name_and_are_replaced_also_by_none(tracer):
    # protocol.md §9 row 16 and §5.7.
    tracer.apply(TracePolicy(excludes=("/health*", "/EXACT")))
    for name in ("/healthz", "/exact", "/my/health"):
        tracer.record(name, tracer.now(), None)
    assert [builder.name for builder in tracer.take()] == ["/my/health"]
    tracer.apply(TracePolicy(excludes=None))
    tracer.record("/healthz", tracer.now(), None)
    assert [builder.name for builder in tracer.take()] == ["/healthz"]


def test_what_the_operator_set_is_not_replaced(clock):
    tracer = Tracer(TracePolicy(period=5, max_samples=0, excludes=("a",)), clock=clock)
    tracer.apply(TracePolicy(period=60, max_samples=10, max_errors=3, timeout=77, excludes=("b",)))
    assert (tracer.period, tracer.max_samples, tracer.max_errors, tracer.timeout) == (5, 0, 3, 77)
    assert tracer.excludes == ("a",)


def test_senseless_values_of_a_server_change_nothing(tracer):
    tracer.apply(TracePolicy(period=0, max_samples=-1, timeout=0))
    assert (tracer.period, tracer.max_samples, tracer.timeout) == (60, 1, 5000)


def test_our_own_reports_are_never_recorded(tracer):
    # protocol.md §9 row 17: any prefix, any case.
    tracer.record("http://star:6600/trace/ReportRaw", tracer.now(), None)
    assert tracer.take() == []


def test_names_are_bounded_in_a_period(tracer):
    for number in range(MAX_NAMES + 500):
        tracer.record(f"db:x:Select:t{number}", tracer.now(), None)
    builders = tracer.take()
    assert len(builders) == MAX_NAMES + 1
    assert builders[-1].name == "db:(other)"
    assert sum(builder.total for builder in builders) == MAX_NAMES + 500


def test_user_names_are_cut_where_the_platform_cuts(tracer):
    for name, kept in (("job?x=1", "job"), ("?x", "?x"), ("a&b", "a"), ("x" * 300, "x" * 200)):
        with tracer.new_span(name) as span:
            assert span.name == kept


def test_a_span_that_outlives_a_flush_counts_in_the_next_batch(tracer):
    span = tracer.begin("job")
    assert tracer.take() == []
    span.finish()
    assert one(tracer, "job").total == 1


def test_finish_twice_counts_once_and_abandon_not_at_all(tracer):
    span = tracer.begin("job")
    span.finish()
    span.finish()
    gone = tracer.begin("gone")
    gone.abandon()
    gone.finish()
    assert [(builder.name, builder.total) for builder in tracer.take()] == [("job", 1)]


def test_traceparent_carries_the_flag(tracer):
    with tracer.new_span("a") as span:
        assert span.traceparent == f"00-{span.trace_id}-{span.span_id}-01"
    with tracer.new_span("a") as span:
        assert span.traceparent.endswith("-00")
    assert (len(span.trace_id), len(span.span_id)) == (32, 16)


def test_suppressed_is_visible_and_restored():
    with suppressed():
        assert current_span.get() is SUPPRESSED
    assert current_span.get() is None


def test_tags_are_cut_and_appended(tracer):
    tracer.apply(TracePolicy(max_tag_length=5))
    with tracer.new_span("a") as span:
        span.tag = "1234567"
    assert one(tracer, "a").samples[0].tag == "12345"
    with tracer.new_span("b") as span:
        span.append_tag("x")
        span.append_tag("y")
        assert span.tag == "x\r\ny"
    with pytest.raises(ValueError, match="late"), tracer.new_span("b") as span:
        span.append_tag("x")  # not known to be kept, until it fails
        raise ValueError("late")
    assert one(tracer, "b").error_samples[0].tag == "x"
    for _ in range(10_000):
        span.append_tag("much")
    assert len(span.tag) < 4100


@pytest.mark.case("X1")
def test_a_describe_that_raises_is_counted_and_harmless(tracer):
    def describe() -> str:
        raise RuntimeError

    tracer.record("a", tracer.now(), None, describe)
    assert tracer.dropped["fault"] == 1
    assert one(tracer, "a").total == 1


@pytest.mark.case("X14", "X15")
def test_recording_while_the_lock_is_held_loses_nothing(tracer):
    # a finaliser or a signal handler records in the middle of a record.
    def describe() -> str:
        tracer.record("inner", tracer.now(), None)
        return ""

    tracer.record("outer", tracer.now(), None, describe)
    assert sorted((builder.name, builder.total) for builder in tracer.take()) == [("inner", 1), ("outer", 1)]


@pytest.mark.case("X14")
def test_finaliser_during_record(tracer):
    class Finalised:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            tracer.record("finalised", tracer.now(), None)

    def describe() -> str:
        Finalised()
        gc.collect()
        return ""

    tracer.record("outer", tracer.now(), None, describe)
    assert {builder.name for builder in tracer.take()} == {"finalised", "outer"}


@pytest.mark.case("X15")
def test_signal_handler_records_exactly(tracer):
    handled = 0

    def handler(_signum: int, _frame: object) -> None:
        nonlocal handled
        handled += 1
        tracer.record("signal", tracer.now(), None)

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for _ in range(30_000):
            tracer.record("main", tracer.now(), None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    counts = {builder.name: builder.total for builder in tracer.take()}
    assert counts["main"] == 30_000
    assert counts.get("signal", 0) == handled


@pytest.mark.case("X1")
def test_threads_lose_no_count(tracer):
    def work() -> None:
        for _ in range(2000):
            tracer.record("shared", tracer.now(), None)

    taken = 0
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += sum(builder.total for builder in tracer.take())
    taken += sum(builder.total for builder in tracer.take())
    assert taken == 16_000


@pytest.mark.case("X10", "X11")
def test_a_forked_child_starts_with_nothing_and_ids_of_its_own(tracer):
    # also while another thread holds the lock.
    tracer.record("parent", tracer.now(), None)
    open_span = tracer.begin("open")
    calls: list[int] = []
    tracer.on_first_record = lambda: calls.append(os.getpid())
    tracer._lock.acquire()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            open_span.finish()
            tracer.record("child", tracer.now(), None)
            names = ",".join(builder.name for builder in tracer.take())
            os.write(writer, f"{names} {tracer.ids.span_id()} {calls == [os.getpid()]}".encode())
        finally:
            os._exit(0)
    tracer._lock.release()
    os.waitpid(pid, 0)
    names, child_id, started = os.read(reader, 1000).decode().split()
    assert (names, started) == ("child", "True")
    assert int(child_id) != tracer.ids.span_id()
    assert {builder.name for builder in tracer.take()} == {"parent"}


@pytest.mark.case("X16")
def test_first_record_is_told_once_and_a_fault_there_stays_inside(tracer):
    def start() -> None:
        calls.append(1)
        raise RuntimeError("can't start new thread")

    calls: list[int] = []
    tracer.on_first_record = start
    tracer.record("a", tracer.now(), None)
    tracer.record("a", tracer.now(), None)
    assert calls == [1]


def test_totals_and_history_of_a_whole_run(clock):
    tracer = Tracer(clock=clock, keep_totals=True)
    for cost in (1, 2):
        start = tracer.now()
        clock.advance(cost)
        tracer.record("a", start, None)
        tracer.take()
    start = tracer.now()
    clock.advance(9)
    tracer.record("b", start, None, error=ValueError("x"))
    totals = {total.name: total for total in tracer.totals()}
    assert (totals["a"].total, totals["a"].max_ns, totals["a"].mean_ns) == (2, 2_000_000, 1_500_000)
    assert totals["b"].errors == 1
    assert tracer.totals()[0].cost_ns >= tracer.totals()[-1].cost_ns
    assert [sample.name for sample in tracer.history()][:2] == ["a", "a"]
