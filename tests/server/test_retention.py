"""Counts become hours and days, the size limit spares the newest, a leap of the clock removes nothing; large traces are told whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests
from _kit.server_platform import Platform

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from _kit.server_platform import Clock

DAY = 86_400


def rows(platform: Platform, table: str) -> int:
    with platform.server.store.database.read() as db:
        return int(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def test_counts_of_two_hundred_days_fit_into_a_few_rows(platform: Platform, clock: Clock) -> None:
    for _ in range(220):  # a day each; three reports an hour for two hours
        for _ in range(6):
            clock.advance(1200)
            report = {"AppId": "demo", "Builders": [platform.builder("/a", Samples=[], MinCost=2)]}
            token = platform.login()
            platform.data("/Trace/Report", report, token)
        clock.advance(DAY - 7200)
        platform.server.store.prune()
    assert rows(platform, "stat") < 220 + 30
    row = platform.operations()["/a"]  # the last 100,000 minutes: 69 days
    assert abs(row["total"] - 69.4 * 18) <= 18
    assert (row["max_cost"], row["min_cost"]) == (90, 2)
    assert row["mean"] == 40.0
    long_ago = platform.admin("GET", "apps/demo/operations?minutes=100000")
    assert len(long_ago) == 1


def test_rolling_up_loses_no_count(platform: Platform, clock: Clock) -> None:
    clock.now = clock.now // 86_400_000 * 86_400_000  # midnight
    token = ""
    for minute in range(240):
        clock.advance(60)
        if minute % 60 == 0:
            token = platform.login()
        platform.report(token, platform.builder("/a", Samples=[]), platform.builder(f"/{minute % 3}", Samples=[]))
    before = platform.operations()
    assert platform.server.store.traces.roll_up() > 0
    after = platform.operations()
    for name, row in before.items():
        assert {key: row[key] for key in ("total", "errors", "cost", "max_cost", "value")} == {
            key: after[name][key] for key in ("total", "errors", "cost", "max_cost", "value")
        }
    assert platform.server.store.traces.totals(100_000)[1] == (240 * 2 * 3, 0, 240 * 2 * 120)


def test_the_size_limit_spares_the_newest_of_everything() -> None:
    with EmbeddedServer(max_data_mb=2) as server:
        platform = Platform(server, lambda: time.time_ns() // 1_000_000)  # type: ignore[arg-type]  # only its present is used
        token = platform.login()
        for number in range(12):
            samples = [{"Id": f"{number}-{i}", "TraceId": f"t{number}", "Tag": "x" * 1000} for i in range(400)]
            platform.report(token, platform.builder(f"/op{number}", Samples=samples))
        assert server.store.prune() > 0
        assert server.store.database.used_bytes() <= 2_000_000
        assert (server.store.folder / "stardust.db").stat().st_size < 3_000_000
        assert platform.admin("GET", "traces")[0]["trace_id"] == "t11"
        assert len(platform.operations()) == 12


def test_a_clock_that_leaps_removes_nothing_at_once(platform: Platform, clock: Clock) -> None:
    platform.report(platform.login(), platform.builder())
    assert platform.server.store.prune() == 0
    clock.now += 4 * DAY * 1000  # the wall clock only
    assert platform.server.store.prune() == 0
    clock.now -= 4 * DAY * 1000
    platform.server.store.prune()
    assert len(platform.admin("GET", "traces")) == 1


def test_the_latest_trace_is_the_one_that_arrived_last(platform: Platform, clock: Clock) -> None:
    token = platform.login()
    for trace, ahead in (("ahead", 20 * 3_600_000), ("now", 0)):
        start = clock.now + ahead
        sample = {"Id": trace, "TraceId": trace, "StartTime": start, "EndTime": start + 5}
        platform.report(token, platform.builder(StartTime=start, EndTime=start + 5, Samples=[sample]))
    assert [row["trace_id"] for row in platform.admin("GET", "traces")] == ["now", "ahead"]


def test_a_trace_of_twenty_thousand_spans_is_told_as_one(platform: Platform) -> None:
    start = platform.clock() - 1000
    spans: list[dict[str, Any]] = [
        {
            "Id": f"s{i}",
            "TraceId": "big",
            "ParentId": "s0" if i else "",
            "StartTime": start + i // 100,
            "EndTime": start + 900,
        }
        for i in range(20_000)
    ]
    for span in spans[100:2000:95]:
        span["Error"] = "Boom"
    token = platform.login()
    platform.report(token, platform.builder(Samples=spans))
    found = platform.admin("GET", "traces/big")
    assert (len(found["spans"]), found["total"], found["errors"]) == (5000, 20_000, 20)
    assert len(platform.admin("GET", "traces/big?limit=100000")["spans"]) == 20_000
    with requests.Session() as http:
        http.post(f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=5)
        page = http.get(f"{platform.url}/console/traces/big", timeout=30).text
    assert "<span>20000 Spans</span>" in page
    assert "Shown are the first 5000 / 20000 Spans" in page


def test_the_home_page_is_quick_whatever_has_been_counted(platform: Platform, clock: Clock) -> None:
    minute = clock.now // 60_000 * 60_000
    with platform.server.store.database.write() as db:
        for app in range(1, 51):
            db.execute("INSERT INTO app (id, name, created) VALUES (?, ?, 0)", (app + 100, f"app{app}"))
            db.executemany(
                "INSERT INTO stat VALUES (?, 60000, ?, ?, 1, 0, 5, 5, 1, 0)",
                [(app + 100, minute - m * 60_000, op) for m in range(60) for op in range(200)],
            )
            db.executemany(
                "INSERT INTO app_stat VALUES (?, 60000, ?, 200, 0, 1000)",
                [(app + 100, minute - m * 60_000) for m in range(180)],
            )
    with requests.Session() as http:
        http.post(f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=5)
        http.get(f"{platform.url}/console/", timeout=10)
        took = []
        for _ in range(8):
            began = time.perf_counter()
            page = http.get(f"{platform.url}/console/", timeout=10).text
            took.append(time.perf_counter() - began)
    assert "12200" in page  # the minute that began 61 minutes ago counts, too
    assert min(took) < 0.05, took


def test_spans_of_one_millisecond_keep_their_order_and_their_length(platform: Platform) -> None:
    start = platform.clock() - 1000
    token = platform.login()
    names = ["GET", "SELECT", "SET", "INSERT"]
    builders = [
        platform.builder(
            name,
            Samples=[
                {
                    "Id": f"{9 - index}",
                    "TraceId": "t",
                    "StartTime": start,
                    "EndTime": start,
                    "StartUs": start * 1000 + 100 * index,
                    "EndUs": start * 1000 + 100 * index + 56,
                }
            ],
        )
        for index, name in enumerate(names)
    ]
    platform.report(token, *reversed(builders))
    spans = platform.admin("GET", "traces/t")["spans"]
    assert [span["name"] for span in spans] == names
    assert {span["cost"] for span in spans} == {0.056}
    with requests.Session() as http:
        http.post(f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=5)
        assert "56 µs" in http.get(f"{platform.url}/console/traces/t", timeout=5).text


def test_our_own_client_sends_microseconds(platform: Platform) -> None:
    from stardust_auto import StardustClient

    with EmbeddedServer(period=1) as server:
        client = StardustClient(server=server.url, app_id="jobs", enable_config=False)
        client.start()
        with client.new_span("job:outer") as outer, client.new_span("job:inner"):
            time.sleep(0.0012)
        assert client.flush(10)
        client.stop()
        spans = Platform(server, platform.clock).admin("GET", f"traces/{outer.trace_id}")["spans"]
    assert [span["name"] for span in spans] == ["job:outer", "job:inner"]
    assert all(1 < span["cost"] < 500 and span["cost"] != int(span["cost"]) for span in spans)
