"""Reports: what is sent, what is kept while no server answers, what is dropped and counted (docs/reliability.md)."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from _kit.faulty_server import FaultyServer, Handler, totals
from _kit.hand_clock import HandClock
from _kit.ports import reserved_port

from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.export import queue
from stardust_auto.export import stardust as exporting
from stardust_auto.export.collector import Collector, ExportCounts
from stardust_auto.export.stardust import StardustExporter
from stardust_auto.process.background import Worker
from stardust_auto.process.clock import SYSTEM_CLOCK, Clock
from stardust_auto.session.session import Session
from stardust_auto.tracing.builder import Sample, SpanBuilder, TracePolicy

NewSession = Callable[..., Session]


def now_ms() -> int:
    return int(time.time() * 1000)


def builder(name: str = "op", total: int = 1, **values: Any) -> SpanBuilder:
    made = SpanBuilder(name, start_time=values.pop("start_time", now_ms()))
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
        self.made: list[Reporter] = []
        self.period = 60

    def take(self) -> Sequence[SpanBuilder]:
        taken, self.ready = self.ready, []
        return taken

    def apply(self, policy: TracePolicy) -> None:
        self.policies.append(policy)

    def reporter(self, session: Any, **options: Any) -> Reporter:
        self.made.append(Reporter(self, session, **options))
        return self.made[-1]


class Reporter:
    """A collector with the exporter of one session."""

    def __init__(self, source: Source, session: Any, clock: Clock = SYSTEM_CLOCK, **options: Any) -> None:
        self.collector = Collector(source, session.worker, clock)
        self.exporter = StardustExporter(session, self.collector.apply, clock=clock, **options)
        self.collector.add(self.exporter)
        self.start, self.run, self.stop = self.collector.start, self.collector.run, self.collector.stop

    @property
    def counts(self) -> ExportCounts:
        return self.exporter.counts

    def flush(self, timeout: float = 1.0) -> bool:
        return self.collector.flush(timeout)


class StubSession:
    """A session whose answers the test decides, for what a real server cannot be made to do on cue."""

    def __init__(self) -> None:
        self.worker = Worker()
        self.account = SimpleNamespace(app_id="demo", app_name="Demo", client_id="10.0.0.5@1", version="1.0")
        self.connection = SimpleNamespace(online=True, clock_offset_ms=0, features=frozenset(), token="t")
        self.outcomes: list[Any] = []
        self.sent: list[dict[str, Any]] = []
        self.repeatable: list[bool] = []

    def call(self, path: str, *, data: bytes, content_type: str, timeout: float, repeatable: bool) -> Any:
        import gzip

        assert (path, content_type) == ("Trace/ReportRaw", "application/x-gzip")
        self.repeatable.append(repeatable)
        outcome = self.outcomes.pop(0) if self.outcomes else {}
        if isinstance(outcome, Exception) and not getattr(outcome, "may_have_arrived", False):
            raise outcome
        body = json.loads(gzip.decompress(data))
        self.sent.append(body)
        if isinstance(outcome, StardustError):
            raise outcome
        return outcome(body) if callable(outcome) else outcome

    def add_task(self, task: Any) -> None:
        self.worker.add(task)

    def remove_task(self, task: Any) -> None:
        self.worker.remove(task)

    def wake(self, task: Any) -> None:
        self.worker.schedule(task, sooner=True)

    def start(self) -> None:
        return


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    for reporter in made.made:
        reporter.collector._worker.remove(reporter.collector)


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
    clock, session = HandClock(), StubSession()
    reporter = source.reporter(session, clock=clock)
    reporter.collector.start = lambda: None  # type: ignore[method-assign]  # the test drives it
    session.worker.add(reporter.exporter)
    source.ready = [builder("a")]
    assert reporter.run() == 5
    clock.now += 3
    assert reporter.run() == 2  # woken in between: nothing is taken early
    assert session.sent == []
    clock.now += 2
    assert reporter.run() == 60
    session.worker.run_due()
    source.period = 10
    source.ready = [builder("b")]
    clock.now += 60
    assert reporter.run() == 10
    clock.now += 10
    reporter.run()  # nothing counted, nothing sent
    session.worker.run_due()
    assert [[item["Name"] for item in body["Builders"]] for body in session.sent] == [["a"], ["b"]]


def test_a_period_that_the_reply_changes_holds_at_once(source: Source) -> None:
    clock, session = HandClock(), StubSession()
    session.worker = Worker(clock.monotonic)
    session.outcomes = [{"period": 30}, {"period": 90}]
    source.apply = lambda policy: setattr(source, "period", policy.period)  # type: ignore[method-assign,assignment]
    reporter = source.reporter(session, clock=clock)
    session.worker.start = lambda: False  # type: ignore[method-assign]  # the test drives it
    source.ready = [builder("a")]
    reporter.start()
    session.worker.add(reporter.exporter)
    clock.now += 5
    for wanted in (30, 90):
        while (wait := session.worker.run_due()) == 0:
            continue
        assert wait == wanted
        source.ready = [builder("a")]
        clock.now += wanted


def test_outage_and_replay(new_session: NewSession, source: Source) -> None:
    port = reserved_port()
    session = new_session(f"http://127.0.0.1:{port}")
    reporter = source.reporter(session)
    expected = 0
    reporter.start()
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
        reporter.start()
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
    session.connection._next_attempt = 0.0
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
        (7, {"bad_reply": 4}, 0),
        ([], {"bad_reply": 4}, 0),
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
def test_the_queue_is_bounded_and_the_count_exact(source: Source) -> None:
    session = StubSession()
    session.connection.online = False
    reporter = source.reporter(session, max_queue=100)
    for round_number in range(50):
        session.outcomes = [UnavailableError("refused")] * 3
        source.ready = [builder(f"op{round_number}.{i}", 2) for i in range(7)]
        reporter.flush()
    counts = reporter.counts
    assert counts.queued == 98 * 2
    assert counts.dropped == {"queue_full": 50 * 14 - 98 * 2}
    session.outcomes = []
    assert reporter.flush()
    assert reporter.counts.reported == 98 * 2


def test_an_outage_of_a_day_keeps_every_count_of_a_hundred_operations(source: Source) -> None:
    clock, session = HandClock(), StubSession()
    session.connection.online = False
    reporter = source.reporter(session, clock=clock)
    for minute in range(24 * 60):
        session.outcomes = [UnavailableError("refused")]
        source.ready = [
            builder(f"op{i}", i + 1, errors=1, value=2, start_time=int(clock.wall() * 1000), max_ns=minute * 10**6)
            for i in range(100)
        ]
        reporter.flush()
        clock.now += 60
    session.outcomes = []
    assert reporter.counts.dropped == {}
    assert len(session.sent) == 0
    while reporter.counts.queued:
        reporter.flush()
    assert reporter.counts.reported == 24 * 60 * 5050
    rows = [item for body in session.sent for item in body["Builders"]]
    assert len(rows) <= queue.MAX_QUEUED_BUILDERS
    op7 = [item for item in rows if item["Name"] == "op6"]
    assert (sum(item["Total"] for item in op7), sum(item["Errors"] for item in op7)) == (24 * 60 * 7, 24 * 60)
    assert sum(item["Value"] for item in op7) == 24 * 60 * 2
    assert max(item["MaxCost"] for item in op7) == 24 * 60 - 1
    assert max(item["EndTime"] - item["StartTime"] for item in op7) <= queue.MAX_MERGED_MS


def test_one_odd_value_costs_its_own_operation_only(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    source.ready = [builder("odd", 3), *(builder(f"op{i}", 1) for i in range(100))]
    source.ready[0].cost_ns = None  # type: ignore[assignment]  # its property raises
    source.ready.append(builder("sampled", 1, samples=[None, sample()]))
    assert reporter.flush()
    assert (reporter.counts.reported, reporter.counts.dropped) == (101, {"faulty": 3})
    assert reporter.counts.samples_trimmed == 1
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("error", [MemoryError(), ImportError("no module"), ZeroDivisionError("psutil")], ids=repr)
def test_what_could_not_be_sent_for_an_unexpected_reason_is_kept(source: Source, error: Exception) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    session.outcomes = [error]
    source.ready = [builder("a", 4)]
    assert not reporter.flush()
    assert (reporter.counts.queued, reporter.counts.dropped) == (4, {})
    assert reporter.flush()
    assert reporter.counts.reported == 4


@pytest.mark.parametrize(
    "error",
    [
        BadReplyError("HTTP 404", status=404, may_have_arrived=False),
        BadReplyError("HTML", status=200, may_have_arrived=False),
        UnavailableError("HTTP 502", status=502),
    ],
    ids=str,
)
def test_what_a_proxy_answered_is_kept(source: Source, error: StardustError) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    session.outcomes = [error]
    source.ready = [builder("a", 4)]
    assert not reporter.flush()
    assert (reporter.counts.queued, reporter.counts.dropped) == (4, {})
    assert reporter.flush()
    assert reporter.counts.reported == 4


def test_a_proxy_that_takes_small_bodies_only_gets_small_ones(source: Source) -> None:
    session = StubSession()

    def limited(body: dict[str, Any]) -> dict[str, Any]:
        if len(body["Builders"]) > 3 or any("Samples" in item for item in body["Builders"]):
            raise BadReplyError("HTTP 413", status=413, may_have_arrived=False)
        return {}

    session.outcomes = [limited] * 20
    reporter = source.reporter(session)
    source.ready = [builder(f"op{i}", 1, samples=[sample()]) for i in range(10)]
    assert reporter.flush()
    assert (reporter.counts.reported, reporter.counts.dropped) == (10, {})


def test_an_endpoint_that_fails_alone_is_asked_less_and_less(source: Source) -> None:
    clock, session = HandClock(), StubSession()
    session.outcomes = [UnavailableError("HTTP 503", status=503)] * 1000
    reporter = source.reporter(session, clock=clock)
    tried: list[float] = []
    plain = session.call

    def call(path: str, **options: Any) -> Any:
        tried.append(clock.now)
        return plain(path, **options)

    session.call = call  # type: ignore[method-assign]  # counts
    for _ in range(360):  # half an hour with a period of 5 s
        source.ready = [builder("a")]
        reporter.collector._hand_over()
        reporter.exporter.run()
        clock.now += 5
    assert len(tried) < 100
    assert reporter.counts.dropped == {}


def test_excludes_without_bound_are_not_taken_and_known_ones_are_not_applied_again(source: Source) -> None:
    session = StubSession()
    session.outcomes = [{"excludes": [f"name{i}" for i in range(100_000)]}] * 3
    reporter = source.reporter(session)
    for _ in range(3):
        source.ready = [builder("a")]
        assert reporter.flush(5)
    (policy,) = source.policies
    assert policy.excludes is not None
    assert len(policy.excludes) == exporting.MAX_EXCLUDES


def test_bodies_are_bounded(source: Source) -> None:
    session = StubSession()
    reporter = source.reporter(session)
    source.ready = [builder(f"op{i}", 1) for i in range(1201)]
    reporter.flush()
    assert [len(body["Builders"]) for body in session.sent] == [500, 500, 201]
    session.sent.clear()
    heavy = [sample(tag="\u4e2d" * 2000, error="\u6587" * 2000) for _ in range(1000)]
    source.ready = [builder(f"heavy{i}", 1, samples=heavy, error_samples=heavy[:100]) for i in range(10)]
    assert reporter.flush(60)
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
    session.connection.clock_offset_ms = 5 * 86_400_000
    reporter = source.reporter(session)
    source.ready = [builder("a", 1, samples=[sample()])]
    reporter.flush()
    (item,) = session.sent[0]["Builders"]
    assert abs(item["StartTime"] - now_ms() - session.connection.clock_offset_ms) < 5000
    assert abs(item["Samples"][0]["StartTime"] - now_ms() - session.connection.clock_offset_ms) < 5000


def test_flush_is_bounded_while_the_server_hangs(new_session: NewSession, source: Source) -> None:
    release = threading.Event()
    with FaultyServer() as server:

        def hang(handler: Handler) -> None:
            release.wait(20)

        server.answers["trace/reportraw"] = hang
        session = new_session(server.url)
        reporter = source.reporter(session)
        reporter.start()
        server.wait_for("app/ping")
        source.ready = [builder()]
        started = time.monotonic()
        assert not reporter.flush(0.5)
        reporter.stop(0.0)
        session.stop(0.5)
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
    assert reporter.stop(2.0)
    assert session.stop()
    assert totals(server.calls) == {"last": 9}
    paths = [call.path for call in server.calls]
    assert paths.index("trace/reportraw") < paths.index("app/logout")


def test_a_tracer_at_fault_does_not_stop_the_thread(
    server: FaultyServer, new_session: NewSession, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    session = new_session(server.url)

    def take() -> Sequence[SpanBuilder]:
        raise RuntimeError("broken")

    source.take = take  # type: ignore[method-assign]  # on purpose
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        reporter = source.reporter(session)
        reporter.start()
        server.wait_for("app/ping")
        assert not reporter.flush(2.0)
        assert session.stop()
    assert "RuntimeError: broken" in caplog.text


def test_a_policy_that_cannot_be_applied_costs_no_counts(source: Source) -> None:
    session = StubSession()

    def apply(policy: TracePolicy) -> None:
        raise RuntimeError("no")

    source.apply = apply  # type: ignore[method-assign]  # on purpose
    reporter = source.reporter(session)
    source.ready = [builder(f"op{i}", 1) for i in range(1001)]
    assert reporter.flush()
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
