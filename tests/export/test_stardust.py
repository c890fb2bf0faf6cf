"""Reports: what is sent, what is kept while no server answers, what is dropped and counted (docs/reliability.md)."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from _kit.faulty_server import FaultyServer, Handler, totals
from _kit.ports import reserved_port

from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.export import stardust as reporting
from stardust_auto.export.stardust import Reporter
from stardust_auto.session.session import Session
from stardust_auto.tracing.builder import Sample, SpanBuilder, TracePolicy

NewSession = Callable[..., Session]


def now_ms() -> int:
    return int(time.time() * 1000)


def builder(name: str = "op", total: int = 1, **values: Any) -> SpanBuilder:
    made = SpanBuilder(name, values.pop("start_time", now_ms()))
    made.total = total
    for field, value in values.items():
        setattr(made, field, value)
    return made


def sample(**values: Any) -> Sample:
    start = now_ms()
    return Sample("op", "a" * 16, "", "b" * 32, start, start + 5, **values)


class Source:
    """Stands for the tracer: hands over what the test puts in."""

    def __init__(self) -> None:
        self.ready: list[SpanBuilder] = []
        self.policies: list[TracePolicy] = []
        self.period = 60.0

    def take(self) -> Sequence[SpanBuilder]:
        taken, self.ready = self.ready, []
        return taken

    def reporter(self, session: Any, **options: Any) -> Reporter:
        return Reporter(session, self.take, self.policies.append, lambda: self.period, **options)


class StubSession:
    """A session whose answers the test decides, for what a real server cannot be made to do on cue."""

    app_id, app_name, client_id, version, clock_offset_ms = "demo", "Demo", "10.0.0.5@1", "1.0", 0

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.sent: list[dict[str, Any]] = []
        self.repeatable: list[bool] = []

    def call(self, path: str, *, data: bytes, content_type: str, repeatable: bool) -> Any:
        import gzip

        assert (path, content_type) == ("Trace/ReportRaw", "application/x-gzip")
        self.repeatable.append(repeatable)
        outcome = self.outcomes.pop(0) if self.outcomes else {}
        if isinstance(outcome, StardustError) and not getattr(outcome, "may_have_arrived", False):
            raise outcome
        body = json.loads(gzip.decompress(data))
        self.sent.append(body)
        if isinstance(outcome, StardustError):
            raise outcome
        return outcome(body) if callable(outcome) else outcome

    def run(self, function: Callable[[], object], timeout: float) -> bool:
        function()
        return True


@pytest.fixture
def source() -> Source:
    return Source()


def test_what_a_report_looks_like(server: FaultyServer, new_session: NewSession, source: Source) -> None:
    reporter = source.reporter(new_session(server.url, version="2.1-beta", app_name="Demo"))
    source.ready = [
        builder("/a", 3, errors=1, samples=[sample(tag="t", flag=1)], error_samples=[sample(error="ValueError: x")]),
        builder("db:x", 2),
    ]
    assert reporter.flush(5)
    call = server.wait_for("trace/reportraw")
    assert call.headers["Content-Type"] == "application/x-gzip"  # exactly: §12.1 row 11
    assert "Content-Encoding" not in call.headers
    body = call.body
    assert (body["AppId"], body["AppName"], body["Version"]) == ("demo", "Demo", "2.1")
    assert [item["Name"] for item in body["Builders"]] == ["/a", "db:x"]
    first, second = body["Builders"]
    assert (first["Total"], first["Errors"], first["MinCost"]) == (3, 1, -1)
    assert first["Samples"][0]["Tag"] == "t"
    assert first["ErrorSamples"][0]["Error"] == "ValueError: x"
    assert "Samples" not in second
    assert (reporter.counts.reported, reporter.counts.dropped) == (5, {})


def test_policy_and_excludes_are_applied(server: FaultyServer, new_session: NewSession, source: Source) -> None:
    reporter = source.reporter(new_session(server.url))
    for excludes in (["/health*"], None):
        server.excludes = excludes
        source.ready = [builder()]
        assert reporter.flush(5)
    assert [policy.excludes for policy in source.policies] == [("/health*",), ()]  # replaced, also by null
    assert source.policies[0].period == 60
    assert source.policies[0].timeout == 5000


def test_first_report_five_seconds_after_the_first_span_then_each_period(source: Source) -> None:
    now = [100.0]
    session = StubSession()
    reporter = source.reporter(session, clock=lambda: now[0])
    source.ready = [builder("a")]
    assert reporter.run() == 5
    now[0] += 3
    assert reporter.run() == 2  # woken in between: nothing is taken early
    assert session.sent == []
    now[0] += 2
    assert reporter.run() == 60
    source.period = 10.0
    source.ready = [builder("b")]
    now[0] += 60
    assert reporter.run() == 10
    now[0] += 10
    reporter.run()  # nothing counted, nothing sent
    assert [[item["Name"] for item in body["Builders"]] for body in session.sent] == [["a"], ["b"]]


def test_a_period_that_the_reply_changes_holds_at_once(source: Source) -> None:
    now = [100.0]

    def apply(policy: TracePolicy) -> None:
        source.period = policy.period

    session = StubSession()
    session.outcomes = [{"period": 30}, {"period": 90}]
    reporter = Reporter(session, source.take, apply, lambda: source.period, clock=lambda: now[0])  # type: ignore[arg-type]  # a stub
    reporter.run()
    for wanted in (30, 90):
        source.ready = [builder("a")]
        now[0] += 30
        assert reporter.run() == wanted


def test_outage_and_replay(new_session: NewSession, source: Source) -> None:
    port = reserved_port()
    session = new_session(f"http://127.0.0.1:{port}")
    reporter = source.reporter(session)
    expected = 0
    session.add_task(reporter)
    session.start()
    for number in range(5):
        source.ready = [builder("op", number + 1, samples=[sample(tag="secretive")])]
        expected += number + 1
        reporter.flush(5)
    assert reporter.counts.queued == expected
    with FaultyServer(port) as server:
        server.wait_for("trace/reportraw", 5, timeout=20)
        assert reporter.flush(5)
        assert totals(server.calls) == {"op": expected}
        assert all("Samples" not in item for call in server.of("trace/reportraw") for item in call.body["Builders"])
        assert (reporter.counts.reported, reporter.counts.queued, reporter.counts.dropped) == (expected, 0, {})
        session.stop()


def test_killed_in_the_middle_and_back(new_session: NewSession, source: Source) -> None:
    port = reserved_port()
    with FaultyServer(port) as first:
        session = new_session(first.url)
        reporter = source.reporter(session)
        source.ready = [builder("op", 1)]
        assert reporter.flush(5)
    source.ready = [builder("op", 2)]
    assert not reporter.flush(5)
    with FaultyServer(port) as second:
        session.start()
        session.add_task(reporter)
        second.wait_for("trace/reportraw", timeout=20)
        assert totals(second.calls) == {"op": 2}
        session.stop()


def test_a_lost_reply_is_not_sent_again_to_a_server_that_would_count_it_twice(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    session.outcomes = [UnavailableError("no answer in time", may_have_arrived=True), {}]
    source.ready = [builder("a", 7)]
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        reporter.flush()
        source.ready = [builder("b", 1)]
        reporter.flush()
    assert [body["Builders"][0]["Name"] for body in session.sent] == ["a", "b"]
    assert (reporter.counts.reported, reporter.counts.dropped) == (1, {"reply_lost": 7})
    assert session.repeatable == [False, False]  # nor is it offered to another server of the list
    assert len(caplog.messages) == 1


def test_a_lost_reply_is_sent_again_to_a_server_that_keeps_each_batch_once(source: Source) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    session.outcomes = [
        lambda body: {"batchId": body["BatchId"]},
        UnavailableError("no answer in time", may_have_arrived=True),
        lambda body: {"batchId": body["BatchId"]},
    ]
    for name in ("a", "b"):
        source.ready = [builder(name, 1, samples=[sample()])]
        reporter.flush()
    reporter.flush()
    assert [body["Builders"][0]["Name"] for body in session.sent] == ["a", "b", "b"]
    assert session.sent[1]["BatchId"] == session.sent[2]["BatchId"] != session.sent[0]["BatchId"]
    assert session.repeatable == [False, True, True]
    assert (reporter.counts.reported, reporter.counts.dropped) == (2, {})


def test_over_a_real_server_that_loses_replies(server: FaultyServer, new_session: NewSession, source: Source) -> None:
    server.echo_batches = True
    session = new_session(server.url)
    reporter = source.reporter(session)
    source.ready = [builder("a")]
    assert reporter.flush(5)
    server.answers["trace/reportraw"] = lambda handler: handler.reset()
    source.ready = [builder("b")]
    assert not reporter.flush(5)
    del server.answers["trace/reportraw"]
    session._connection._next_attempt = 0.0
    assert reporter.flush(5)
    ids = [call.body["BatchId"] for call in server.of("trace/reportraw")]
    assert ids[1] == ids[2]


@pytest.mark.parametrize(
    ("outcome", "dropped", "queued"),
    [
        (None, {"not_stored": 4}, 0),  # §12.2: `data: null` is the only sign
        (ApiError(500, "disabled"), {"refused": 4}, 0),
        (ApiError(401, "token"), {}, 4),
        (ApiError(403, "application disabled"), {}, 4),
        (BadReplyError("HTML"), {"bad_reply": 4}, 0),
        (UnavailableError("refused"), {}, 4),
        (UnavailableError("HTTP 503", retry_after=9), {}, 4),
    ],
    ids=str,
)
def test_what_becomes_of_a_batch(
    source: Source, outcome: Any, dropped: dict[str, int], queued: int, caplog: pytest.LogCaptureFixture
) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        for _ in range(3):
            session.outcomes = [outcome] * 10
            source.ready = [builder("a", 4)]
            reporter.flush()
    assert reporter.counts.dropped == {reason: 3 * count for reason, count in dropped.items()}
    assert reporter.counts.queued == 3 * queued
    assert len(caplog.messages) == len(dropped)  # once, then only counted


def test_a_report_under_way_counts_as_not_reported(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:  # a process that ends within it says so
    session = StubSession()
    reporter = source.reporter(session)
    seen: list[int] = []
    plain = session.call

    def call(path: str, **options: Any) -> Any:
        seen.append(reporter.counts.queued)
        return plain(path, **options)

    monkeypatch.setattr(session, "call", call)
    source.ready = [builder("a", 4), builder("b", 3)]
    reporter.flush()
    assert seen == [7]
    assert (reporter.counts.queued, reporter.counts.reported) == (0, 7)


def test_null_data_over_the_wire(server: FaultyServer, new_session: NewSession, source: Source) -> None:
    server.answers["trace/reportraw"] = lambda handler: handler.reply(None)
    reporter = source.reporter(new_session(server.url))
    source.ready = [builder("a", 2)]
    reporter.flush(5)
    assert reporter.counts.dropped == {"not_stored": 2}
    assert source.policies == []


@pytest.mark.case("X2")
def test_the_queue_is_bounded_and_the_count_exact(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MAX_QUEUED_BUILDERS", 100)  # down for a day
    session = StubSession()
    reporter = source.reporter(session)
    for _ in range(50):
        session.outcomes = [UnavailableError("refused")] * 3
        source.ready = [builder(f"op{i}", 2) for i in range(7)]
        reporter.flush()
    counts = reporter.counts
    assert counts.queued == 98 * 2
    assert counts.dropped == {"queue_full": 50 * 14 - 98 * 2}
    session.outcomes = []
    reporter.flush()
    assert reporter.counts.reported == 98 * 2


def test_bodies_are_bounded(source: Source) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    source.ready = [builder(f"op{i}", 1) for i in range(1201)]
    reporter.flush()
    assert [len(body["Builders"]) for body in session.sent] == [500, 500, 201]
    session.sent.clear()
    heavy = [sample(tag="\u4e2d" * 2000, error="\u6587" * 2000) for _ in range(1000)]
    source.ready = [builder(f"heavy{i}", 1, samples=heavy, error_samples=heavy[:100]) for i in range(10)]
    reporter.flush()
    for body in session.sent:
        assert len(json.dumps(body, ensure_ascii=False).encode()) < 15_000_000  # the server takes 30 MB
    assert sum(len(body["Builders"]) for body in session.sent) == 10
    assert all(len(item["ErrorSamples"]) == 100 for body in session.sent for item in body["Builders"])
    assert reporter.counts.samples_trimmed > 0


def test_what_the_server_would_drop_in_silence_is_counted_here(source: Source) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    day = 86_400_000
    source.ready = [
        builder("", 1),
        builder("\0", 2),
        builder("old", 4, start_time=now_ms() - 4 * day),
        builder("ahead", 8, start_time=now_ms() + 2 * day),
        builder("good", 16),
    ]
    reporter.flush()
    assert [item["Name"] for item in session.sent[0]["Builders"]] == ["good"]
    assert reporter.counts.dropped == {"unnamed": 3, "too_old": 12}


def test_a_clock_that_is_off_does_not_lose_everything(source: Source) -> None:
    session = StubSession()
    session.clock_offset_ms = 5 * 86_400_000
    reporter = source.reporter(session)
    source.ready = [builder("a", 1, samples=[sample()])]
    reporter.flush()
    (item,) = session.sent[0]["Builders"]
    assert abs(item["StartTime"] - now_ms() - session.clock_offset_ms) < 5000
    assert abs(item["Samples"][0]["StartTime"] - now_ms() - session.clock_offset_ms) < 5000


def test_flush_is_bounded_while_the_server_hangs(new_session: NewSession, source: Source) -> None:
    release = threading.Event()
    with FaultyServer() as server:

        def hang(handler: Handler) -> None:
            release.wait(20)

        server.answers["trace/reportraw"] = hang
        session = new_session(server.url)
        reporter = source.reporter(session)
        session.add_task(reporter)
        session.start()
        server.wait_for("app/ping")
        source.ready = [builder()]
        started = time.monotonic()
        assert not reporter.flush(0.5)
        assert not session.stop(0.5)
        assert time.monotonic() - started < 1.3
        release.set()


def test_flush_without_a_thread_is_bounded(new_session: NewSession, source: Source) -> None:
    release = threading.Event()
    with FaultyServer() as server:

        def hang(handler: Handler) -> None:
            release.wait(20)

        session = new_session(server.url)
        session.call("App/Ping", {})
        server.answers["trace/reportraw"] = hang
        source.ready = [builder()]
        started = time.monotonic()
        source.reporter(session).flush(0.4)
        assert time.monotonic() - started < 0.8
        release.set()


def test_stop_sends_what_is_counted(server: FaultyServer, new_session: NewSession, source: Source) -> None:
    session = new_session(server.url)
    reporter = source.reporter(session)
    reporter.start()
    server.wait_for("app/ping")
    source.ready = [builder("last", 9)]
    assert session.stop()
    assert totals(server.calls) == {"last": 9}
    paths = [call.path for call in server.calls]
    assert paths.index("trace/reportraw") < paths.index("app/logout")


def test_a_tracer_at_fault_does_not_stop_the_thread(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    session = new_session(server.url)

    def take() -> Sequence[SpanBuilder]:
        raise RuntimeError("broken")

    reporter = Reporter(session, take, lambda policy: None, lambda: 60.0)
    reporter._next = 0.0
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        session.add_task(reporter)
        session.start()
        server.wait_for("app/ping")
        assert session.stop()
    assert "reporter failed: RuntimeError: broken" in caplog.text


def test_a_policy_that_cannot_be_applied_costs_no_counts(source: Source) -> None:
    session = StubSession()

    def apply(policy: TracePolicy) -> None:
        raise RuntimeError("no")

    reporter = Reporter(session, source.take, apply, lambda: 60.0)  # type: ignore[arg-type]  # a stub on purpose
    source.ready = [builder(f"op{i}", 1) for i in range(1001)]
    reporter.flush()
    assert reporter.counts.reported == 1001


def test_duck_typed_builders_with_odd_values(source: Source) -> None:
    session = StubSession()
    odd = SimpleNamespace(id="i" * 80, parent_id="i" * 80, trace_id=None, tag="\ud83d", error="\0", flag=999)
    odd.start_time, odd.end_time, odd.value = 1.5, None, float("inf")
    item = SimpleNamespace(name="\ud83d" * 300, total=1.9, errors=None, cost=-3, max_cost=2**40, min_cost=float("nan"))
    item.start_time, item.end_time, item.value, item.samples, item.error_samples = now_ms() + 0.5, 0, "x", [odd], []
    reporter = source.reporter(session)
    source.ready = [item]  # type: ignore[list-item]  # on purpose
    reporter.flush()
    (written,) = session.sent[0]["Builders"]
    assert written["Name"] == "\ufffd" * 200
    assert written["Samples"][0] == {
        "Id": "i" * 50,
        "StartTime": 1,
        "EndTime": 1,
        "Value": 0,
        "Tag": "\ufffd",
        "TraceFlag": 255,
        "Error": " ",
    }


def test_the_policy_of_a_hostile_server_is_bounded(source: Source) -> None:
    session = StubSession()
    hostile = {"period": 10**9, "maxSamples": 10**9, "maxErrors": -5, "maxTagLength": 10**9, "excludes": None}
    session.outcomes = [hostile]
    reporter = source.reporter(session)
    source.ready = [builder()]
    assert reporter.flush()
    policy = source.policies[0]
    assert (policy.period, policy.max_samples, policy.max_errors, policy.max_tag_length) == (3600, 1000, None, 2000)
    assert policy.excludes == ()  # null replaces the list, too (protocol.md §3.1)
