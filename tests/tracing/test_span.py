"""What a call is under: live spans, ended spans, spans in other contexts, and the current span as the program sees it."""

from __future__ import annotations

import asyncio
import contextvars
import random
from typing import Any

import pytest

import stardust_auto
from stardust_auto.process.context import SUPPRESSED
from stardust_auto.process.context import current_span as context_variable
from stardust_auto.tracing.builder import SpanBuilder, TracePolicy
from stardust_auto.tracing.ids import IdGenerator
from stardust_auto.tracing.span import LINGER_NS, LiveSpan, Span, SpanContext, current_span, handoff_context
from stardust_auto.tracing.tracer import Tracer

LATER_MS = LINGER_NS / 1e6 + 1000


def samples(tracer: Tracer) -> dict[str, list[Any]]:
    return {
        builder.name: [*builder.samples, *builder.error_samples]
        for builder in tracer.take()
        if builder.samples or builder.error_samples
    }


# -- ended spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("children", [0, 1])
@pytest.mark.parametrize(("wait_ms", "joins"), [(1000, True), (LATER_MS, False)])
def test_a_copied_context_joins_an_ended_span_for_ten_seconds_only(tracer, clock, children, wait_ms, joins):
    with tracer.new_span("request") as span:
        for _ in range(children):
            tracer.record("db:x:Select", tracer.now(), span)
        copied = contextvars.copy_context()
    clock.advance(wait_ms)
    later = copied.run(tracer.begin, "later")
    assert (later.parent_id == span.span_id) is joins
    copied.run(lambda: tracer.record("leaf", tracer.now(), context_variable.get()))
    [leaf] = samples(tracer)["leaf"]
    assert (leaf.parent_id == span.span_id) is joins
    assert (leaf.trace_id == span.trace_id) is joins


def test_a_task_that_outlives_its_request_becomes_a_root(tracer, clock):
    async def main() -> tuple[Span, Span, Span]:
        woken = asyncio.Event()

        async def background() -> tuple[Span, Span]:
            within = tracer.begin("within")
            await woken.wait()
            return within, tracer.begin("after")

        with tracer.new_span("request") as span:
            task = asyncio.create_task(background())
            await asyncio.sleep(0)
        clock.advance(LATER_MS)
        woken.set()
        within, after = await task
        return span, within, after

    span, within, after = asyncio.run(main())
    assert within.parent_id == span.span_id
    assert after.parent_id == ""
    assert after.trace_id != span.trace_id


@pytest.mark.parametrize("end", ["end", "abandon", "excluded", "switched off", "longer than an hour"])
def test_a_trace_ends_with_its_root_however_that_ends(tracer, clock, end):
    if end == "excluded":
        tracer.apply(TracePolicy(excludes=("request",)))
    span = tracer.begin("request", None)
    tracer.record("db:x:Select", tracer.now(), span)
    handed = handoff_context(span)
    if end == "switched off":
        tracer.enabled = False
    elif end == "longer than an hour":
        clock.advance(3_700_000)
    span.abandon() if end == "abandon" else span.end()
    tracer.enabled = True
    assert tracer.begin("soon", handed).trace_id == span.trace_id
    clock.advance(LATER_MS)
    for parent in (handed, span, handoff_context(span)):
        assert tracer.begin("later", parent).parent_id == ""


def test_a_child_that_ended_long_ago_is_a_parent_while_the_request_runs(tracer, clock):
    root = tracer.begin("request", None)
    child = tracer.begin("child", root)
    child.end()
    clock.advance(LATER_MS)
    assert tracer.begin("later", child).parent_id == child.span_id
    root.end()


def test_nothing_waits_for_the_end_of_a_span_that_has_ended(tracer):
    for _ in range(2):
        tracer.record("leaf", tracer.now(), None)
    span = tracer.begin("request", None)
    span.flag = 0
    span.end()
    for _ in range(5):
        tracer.record("leaf", tracer.now(), span)
    assert span._trace is None or span._trace.waiting == []


# -- spans that are not counted --------------------------------------------------------------------------------------------


def test_calls_below_a_span_that_is_not_counted_move_up_to_its_parent(tracer):
    caller = SpanContext("a" * 32, "b" * 16)
    for parent, above in ((caller, caller.span_id), (None, "")):
        span = tracer.begin("/missing", parent)
        child = tracer.begin("child", span)
        tracer.record("db:x:Select", tracer.now(), child)
        child.end()
        tracer.record("redis:x:GET", tracer.now(), span)
        span.abandon()
        kept = samples(tracer)
        assert set(kept) == {"child", "db:x:Select", "redis:x:GET"}
        assert kept["child"][0].parent_id == kept["redis:x:GET"][0].parent_id == above
        assert kept["db:x:Select"][0].parent_id == kept["child"][0].id
        assert {sample.trace_id for [sample] in kept.values()} == {span.trace_id}


def test_every_parent_of_a_sample_is_a_sample_or_the_caller(tracer):
    """Whatever ends how: no sample names a parent that nobody has."""
    chance = random.Random(3)
    for _ in range(200):
        caller = chance.choice((None, SpanContext("a" * 32, "b" * 16, 1), SpanContext("a" * 32, "b" * 16)))
        spans = [tracer.begin(f"/{chance.randrange(3)}", caller)]
        for _ in range(chance.randrange(6)):
            if chance.random() < 0.4:
                spans.append(tracer.begin(f"inner{chance.randrange(3)}", spans[-1]))
            tracer.record(f"leaf{chance.randrange(20)}", tracer.now(), spans[-1])
        root = spans.pop(0)
        for span in reversed(spans):
            span.end()
        root.abandon() if chance.random() < 0.5 else root.end(chance.choice((None, ValueError("x"))))
        kept = [sample for name in samples(tracer).values() for sample in name]
        known = {sample.id for sample in kept} | {"", "b" * 16}
        assert [sample.name for sample in kept if sample.parent_id not in known] == []


# -- one end, one result ---------------------------------------------------------------------------------------------------


def test_finish_is_the_end_of_a_subclass_too(tracer):
    ends = []

    class Special(LiveSpan):
        __slots__ = ()

        def end(self, error: BaseException | str | None = None) -> None:
            ends.append(error)
            super().end(error)

    tracer.begin("a", None, Special).finish("late")
    with tracer.begin("a", None, Special):
        pass
    assert ends == ["late", None]


def play(tracer: Tracer, clock: Any, seed: int) -> None:
    chance = random.Random(seed)
    alive: list[Any] = []  # an exception is told from another by its address
    spans: list[Span] = []
    for _ in range(400):
        parent: Any = chance.choice((None, SpanContext("a" * 32, "b" * 16, chance.randrange(2)), *spans[-3:]))
        what = chance.random()
        if what < 0.2:
            spans.append(tracer.begin(f"span{chance.randrange(4)}", parent))
        elif what < 0.4 and spans:
            alive.append(chance.choice((None, None, "failed", ValueError("x"))))
            spans.pop(chance.randrange(len(spans))).end(alive[-1])
        elif what < 0.45 and spans:
            spans.pop().abandon()
        else:
            start = tracer.now()
            clock.advance(chance.choice((0, 1, 1, 1, 6000)))
            alive.append(chance.choice((None, None, None, KeyError("k"))))
            tracer.record(f"leaf{chance.randrange(3)}", start, parent, str, (what,), alive[-1], chance.randrange(3))


@pytest.mark.parametrize("seed", range(8))
def test_a_call_that_was_queued_counts_as_one_that_was_not(clock, seed):
    """The fast way in ``record`` and the plain way of the queue agree."""

    class Queued(Tracer):
        def record(self, *args: Any, **kwargs: Any) -> None:
            taken = self._lock.acquire(False)
            super().record(*args, **kwargs)
            if taken:
                self._drain()
                self._lock.release()

    results = []
    for kind in (Tracer, Queued):
        clock.ns = clock.START
        tracer = kind(TracePolicy(max_samples=2, max_errors=2), ids=IdGenerator(seed), clock=clock)
        play(tracer, clock, seed)
        builders = tracer.take()
        results.append(
            [
                (b.name, b.total, b.errors, b.cost_ns, b.max_ns, b.min_ns, b.value, b.samples, b.error_samples)
                for b in builders
            ]
        )
    assert results[0] == results[1]
    assert sum(len(row[-1]) for row in results[0]) > 3


# -- the current span --------------------------------------------------------------------------------------------------------


def test_the_current_span_takes_a_tag_a_value_and_an_error(tracer):
    with tracer.new_span("job"):
        span = stardust_auto.current_span()
        span.tag = "batch 7"
        span.append_tag("last")
        span.value = 3
        span.set_error("stock is empty")
    [builder] = tracer.take()
    [sample] = builder.error_samples
    assert (sample.tag, sample.value, sample.error) == ("batch 7\r\nlast", 3, "stock is empty")


def test_a_tag_of_the_program_stands_below_what_an_automatic_span_says(tracer):
    class Automatic(LiveSpan):
        __slots__ = ()

        def describe(self) -> str:
            return "GET /orders"

    for tag, shown in (("", "GET /orders"), ("order 7", "GET /orders\r\norder 7")):
        span = tracer.begin(f"a{tag}", None, Automatic)
        span.tag = tag
        span.end()
        assert samples(tracer)[span.name][0].tag == shown


@pytest.mark.parametrize("current", [None, SUPPRESSED, SpanContext("a" * 32, "b" * 16), "ended"])
def test_outside_of_a_span_the_current_span_takes_everything_and_keeps_nothing(tracer, current):
    if current == "ended":
        current = tracer.begin("job", None)
        current.end()
        tracer.take()
    token = context_variable.set(current)
    try:
        span = current_span()
        assert isinstance(span, Span)
        span.tag, span.value, span.name = "x", 3, "x"
        span.append_tag("y")
        span.set_error(ValueError())
        with span as inside:
            assert current_span() is inside is span
        span.end()
        span.finish()
        span.abandon()
        assert (span.tag, span.value, span.name, span.flag) == ("", 0, "", 0)
        assert (span.trace_id, span.span_id, span.id, span.parent_id, span.traceparent) == ("", "", "", "", "")
        assert span.ended
        assert tracer.take() == []
    finally:
        context_variable.reset(token)


def test_a_span_made_by_hand_is_counted_and_is_the_parent_of_what_runs_in_it() -> None:
    tracer = Tracer()
    with Span("outer", tracer) as outer, tracer.new_span("inner") as inner:
        assert inner.parent_id == outer.id
        assert inner.trace_id == outer.trace_id
        assert (outer.end_time, outer.ended) == (0, False)
    found = {builder.name: builder.samples[0] for builder in tracer.take()}
    assert found["outer"].id == outer.id
    assert found["inner"].parent_id == outer.id
    assert abs(found["outer"].start_time - outer.start_time) <= 50
    assert outer.start_time <= outer.end_time
    assert Span("below", tracer, "00f067aa0ba902b7").parent_id == "00f067aa0ba902b7"


def test_a_span_as_a_dict_has_the_names_of_the_wire() -> None:
    span = Span("job", Tracer())
    span.tag, span.value = "batch 7", 40
    span.finish(ValueError())
    written = span.to_dict()
    assert written["EndTime"] >= written["StartTime"] > 1_700_000_000_000
    assert {**written, "StartTime": 0, "EndTime": 0} == {
        "Id": span.id,
        "ParentId": "",
        "TraceId": span.trace_id,
        "StartTime": 0,
        "EndTime": 0,
        "Value": 40,
        "Tag": "batch 7",
        "Error": "ValueError",
    }


def test_an_ended_span_tells_its_error_without_holding_the_exception() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    for error, text in ((KeyError("x"), "'x'"), ("noted", "noted"), (Hostile(), "Hostile")):
        span = Span("job", Tracer())
        span.end(error)
        assert span.error == text
        assert isinstance(span._error, str)
    assert current_span().error == ""
    assert current_span().to_dict()["StartTime"] == 0


def test_a_builder_by_hand_keeps_as_many_samples_as_it_was_told() -> None:
    tracer = Tracer()
    builder = SpanBuilder("job", 1, 2)
    for number in range(5):
        with Span("job", tracer) as span:
            span.value = number
        builder.add_span(span)
    for _ in range(3):
        span = Span("job", tracer)
        span.finish("broken")
        builder.add_span(span)
    written = builder.to_dict()
    assert (written["Name"], written["Total"], written["Errors"], written["Value"]) == ("job", 8, 3, 10)
    assert (len(written["Samples"]), len(written["ErrorSamples"])) == (1, 2)
    assert written["ErrorSamples"][0]["Error"] == "broken"
