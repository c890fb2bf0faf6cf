"""What a report leaves behind (protocol.md §3.3, §12.2): what a strict reader loses, we keep."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from _kit.server_platform import Platform
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stardust_auto.server import EmbeddedServer
from stardust_auto.server.reports import read_report
from stardust_auto.server.store.trees import arrange

if TYPE_CHECKING:
    from _kit.server_platform import Clock

DEFAULTS = {
    "period": 60,
    "maxSamples": 1,
    "maxErrors": 10,
    "timeout": 5000,
    "maxTagLength": 1024,
    "requestTagLength": 1024,
    "enableMeter": True,
    "excludes": None,
}


def send_raw(platform: Platform, token: str, body: bytes, media: str = "application/x-gzip") -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": media}
    return platform.http.post(f"{platform.url}/Trace/ReportRaw", data=body, headers=headers, timeout=30).json()


def spans(platform: Platform, trace_id: str = "t1") -> list[dict[str, Any]]:
    return list(platform.admin("GET", f"traces/{trace_id}")["spans"])


def test_counts_are_summed_by_operation(platform: Platform) -> None:
    token = platform.login()
    assert platform.report(token, platform.builder("/a"), platform.builder("db:shop:Select:orders")) == DEFAULTS
    platform.report(token, platform.builder("/a", Total=1, Errors=1, Cost=500, MaxCost=500, MinCost=500))
    row = platform.operations()["/a"]
    assert (row["total"], row["errors"], row["cost"], row["max_cost"], row["min_cost"]) == (4, 1, 620, 500, 0)
    assert row["mean"] == 155.0
    assert row["kind"] == "api"
    assert platform.operations()["db:shop:Select:orders"]["kind"] == "db"


@pytest.mark.parametrize("path", ["/Trace/Report", "/Trace/ReportRaw"])
@pytest.mark.parametrize(
    ("member", "value", "column", "kept"),
    [
        ("Cost", 12.7, "cost", 13),
        ("Cost", "12", "cost", 12),
        ("Cost", None, "cost", 0),
        ("Cost", 1e400, "cost", 0),
        ("MaxCost", 2**40, "max_cost", 0),
        ("Value", 2**60, "value", 2**60),
        ("Value", 2**70, "value", 0),
        ("Total", True, "total", 1),
        ("Errors", [1], "errors", 0),
    ],
)
def test_odd_numbers(platform: Platform, path: str, member: str, value: Any, column: str, kept: int) -> None:
    token = platform.login()
    body = json.dumps({"AppId": "demo", "Builders": [platform.builder(**{member: value})]})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    reply = platform.http.post(platform.url + path, data=body, headers=headers, timeout=10)
    assert reply.json()["data"] == DEFAULTS
    assert platform.operations()["/a"][column] == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('"lone \\ud83d end"', "lone \ufffd end"),
        ('"nul \\u0000 end"', "nul   end"),
        ('"raw \x01\t end"', "raw \x01\t end"),
        ('"\\ud83d\\ude00 中文"', "😀 中文"),
        ('"' + "x" * 3000 + '"', "x" * 2000),
        ("123", "123"),
        ("null", ""),
    ],
)
def test_odd_text(platform: Platform, sent: str, kept: str) -> None:
    token = platform.login()
    body = json.dumps({"AppId": "demo", "Builders": [platform.builder()]}).replace('"tag"', sent)
    for path in ("/Trace/Report", "/Trace/ReportRaw"):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        reply = platform.http.post(platform.url + path, data=body.encode(), headers=headers, timeout=10)
        assert reply.json()["data"] == DEFAULTS
        assert spans(platform)[0]["tag"] == kept


def test_bytes_that_are_not_utf8(platform: Platform) -> None:
    token = platform.login()
    body = json.dumps({"AppId": "demo", "Builders": [platform.builder()]}).encode().replace(b'"tag"', b'"bad \xff\xfe"')
    assert send_raw(platform, token, gzip.compress(body))["data"] == DEFAULTS
    assert spans(platform)[0]["tag"] == "bad \ufffd\ufffd"


def test_times_as_text(platform: Platform, clock: Clock) -> None:
    token = platform.login()
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.now // 1000))
    platform.report(token, platform.builder("/iso", StartTime=iso), platform.builder("/text", StartTime=str(clock.now)))
    platform.report(
        token, platform.builder("/float", StartTime=clock.now + 0.5), platform.builder("/none", StartTime=None)
    )
    assert set(platform.operations()) == {"/iso", "/text", "/float", "/none"}


def test_long_ids_keep_their_samples_and_their_links(platform: Platform) -> None:  # protocol.md §12.1, 10
    token = platform.login()
    start = platform.clock() - 500
    parent = {"Id": "p" * 60, "TraceId": "t" * 60, "StartTime": start, "EndTime": start + 9}
    child = {"Id": "c" * 60, "ParentId": "p" * 60, "TraceId": "t" * 60, "StartTime": start + 1, "EndTime": start + 5}
    platform.report(token, platform.builder("/p", Samples=[parent]), platform.builder("/c", Samples=[child]))
    found = spans(platform, "t" * 50)
    assert [(span["name"], span["depth"]) for span in found] == [("/p", 0), ("/c", 1)]


def test_a_long_name_is_cut_not_lost(platform: Platform) -> None:
    platform.report(platform.login(), platform.builder("/" + "n" * 300))
    assert list(platform.operations()) == ["/" + "n" * 199]


def test_what_cannot_be_stored_is_counted(platform: Platform, clock: Clock) -> None:
    token = platform.login()
    platform.report(
        token,
        platform.builder("/old", StartTime=clock.now - 4 * 86_400_000),
        platform.builder("/ahead", StartTime=clock.now + 2 * 86_400_000),
        platform.builder(""),
        platform.builder("/kept"),
    )
    assert list(platform.operations()) == ["/kept"]
    app = platform.admin("GET", "apps")[0]
    assert app["dropped"] == 3
    assert "older than the retention" in app["dropped_reason"]
    assert "a day ahead" in app["dropped_reason"]


@pytest.mark.parametrize("media", ["application/x-gzip", "application/x-gzip; charset=utf-8", "application/gzip", ""])
def test_gzip_is_recognised_whatever_its_type(platform: Platform, media: str) -> None:  # protocol.md §12.1, 11
    token = platform.login()
    body = gzip.compress(json.dumps({"AppId": "demo", "Builders": [platform.builder()]}).encode())
    assert send_raw(platform, token, body, media)["data"] == DEFAULTS
    assert platform.operations()["/a"]["total"] == 3


def test_bad_bodies(platform: Platform) -> None:
    token = platform.login()
    whole = gzip.compress(json.dumps({"AppId": "demo", "Builders": [platform.builder()]}).encode())
    for body in (whole[: len(whole) // 2], b"{oops", b"[]", b"1", b"[" * 100_000):
        assert send_raw(platform, token, body)["code"] == 500, body[:10]
    assert send_raw(platform, token, b"") == {"code": 0, "data": None}
    assert platform.operations() == {}


def test_a_zip_bomb_does_not_go_off() -> None:
    with EmbeddedServer(max_decompressed=1_000_000) as server:
        bomb = gzip.compress(b'{"AppId":"' + b"a" * 200_000_000 + b'"}')
        assert len(bomb) < 250_000
        import requests

        login = requests.post(f"{server.url}/App/Login", json={"AppId": "demo"}, timeout=5).json()
        headers = {"Authorization": f"Bearer {login['data']['token']}", "Content-Type": "application/x-gzip"}
        reply = requests.post(f"{server.url}/Trace/ReportRaw", data=bomb, headers=headers, timeout=20).json()
        assert reply["code"] == 500
        assert "decompress" in reply["message"]


def test_a_batch_is_stored_once(platform: Platform, clock: Clock) -> None:
    token = platform.login()
    for _ in range(3):
        assert platform.report(token, platform.builder(), BatchId="b-1") == {**DEFAULTS, "batchId": "b-1"}
    platform.report(token, platform.builder(), BatchId="b-2")
    platform.report(token, platform.builder())
    platform.report(token, platform.builder())
    assert platform.operations()["/a"]["total"] == 3 * 4
    other = platform.login("other")  # an id is known per application
    platform.report(other, platform.builder(), AppId="other", BatchId="b-1")
    assert platform.operations("other")["/a"]["total"] == 3


def test_policy_of_an_application(platform: Platform) -> None:
    token = platform.login(client_id="10.0.0.5@1")
    policy = {"period": 20, "max_samples": 5, "max_errors": 7, "timeout": 300, "excludes": ["/health*", "*/metrics"]}
    platform.admin("POST", "apps/demo", policy)
    wanted = {**DEFAULTS, "period": 20, "maxSamples": 5, "maxErrors": 7, "timeout": 300}
    reply = platform.report(
        token, platform.builder("/HEALTH/live"), platform.builder("/x/metrics"), platform.builder("/a")
    )
    assert reply == {**wanted, "excludes": ["/health*", "*/metrics"]}
    assert platform.report(token, Version=None) == wanted  # protocol.md §3.1: no Version, no excludes
    assert list(platform.operations()) == ["/a"]
    platform.admin("POST", "apps/demo", {"vip_clients": ["10.0.0.*"]})
    assert platform.report(token)["period"] == 10
    assert platform.report(platform.login(client_id="10.9.9.9@1"))["period"] == 20
    platform.admin("POST", "apps/demo", {"vip_clients": None, "period": None, "excludes": None})
    assert platform.report(token)["period"] == 60


def test_retention(platform: Platform, clock: Clock) -> None:
    platform.report(platform.login(), platform.builder(), BatchId="b")
    assert platform.server.store.prune() == 0
    clock.advance(3 * 86_400 + 60)
    assert platform.server.store.prune() > 0
    assert platform.admin("GET", "traces") == []
    assert platform.operations()["/a"]["total"] == 3  # counts are kept for months
    assert platform.admin("GET", "apps")[0]["instances"] == []
    clock.advance(200 * 86_400)
    assert platform.server.store.prune() > 0
    assert platform.operations() == {}


def test_the_file_does_not_grow_for_ever(platform: Platform, clock: Clock) -> None:
    with EmbeddedServer(max_data_mb=1) as server:
        token = Platform(server, clock).login()
        for number in range(4):
            start = clock.now - 10_000 + number
            samples = [
                {"Id": f"{number}-{i}", "TraceId": f"t{number}-{i}", "StartTime": start + i, "Tag": "x" * 1000}
                for i in range(700)
            ]
            Platform(server, clock).report(token, platform.builder(Samples=samples))
        assert server.store.prune() > 0
        assert Platform(server, clock).operations()["/a"]["total"] == 12  # counts stay, samples go


def test_absurd_times_of_spans_do_not_lead_every_list(platform: Platform, clock: Clock) -> None:
    start = clock.now - 1000
    odd = [
        {"Id": "a", "TraceId": "future", "StartTime": 2**62, "EndTime": 2**62 + 7},
        {"Id": "b", "TraceId": "endless", "StartTime": start, "EndTime": 2**62},
        {"Id": "c", "TraceId": "none"},
        {"Id": "d", "TraceId": "back", "StartTime": start, "EndTime": start - 50},
    ]
    platform.report(platform.login(), platform.builder(Samples=odd, StartTime=start, EndTime=2**62))
    found = {row["trace_id"]: (row["start_time"], row["cost"]) for row in platform.admin("GET", "traces?sort=slow")}
    assert found == {"future": (start, 7), "endless": (start, 0), "none": (start, 0), "back": (start, 0)}
    assert platform.operations()["/a"]["last_seen"] <= clock.now


def test_one_trace_of_two_applications(platform: Platform) -> None:  # protocol.md §3.4
    start = platform.clock() - 3000

    def span(identity: str, parent: str, offset: int, cost: int, **more: Any) -> dict[str, Any]:
        times = {"StartTime": start + offset, "EndTime": start + offset + cost}
        return {"Id": identity, "ParentId": parent, "TraceId": "c0000202179549438034500", **times, **more}

    shop, stock = platform.login("shop"), platform.login("stock")
    platform.report(
        shop,
        platform.builder("/checkout", Samples=[span("a", "", 0, 100)]),
        platform.builder("http://stock/item", Samples=[span("b", "a", 10, 50)]),
        platform.builder(
            "db:shop:Insert:orders", Samples=[], ErrorSamples=[span("e", "a", 70, 5, Error="Busy: locked")]
        ),
        AppId="shop",
    )
    platform.report(
        stock,
        platform.builder("/item", Samples=[span("c", "b", 12, 40)]),
        platform.builder("redis:cache:GET", Samples=[span("d2", "c", 20, 1), span("d1", "c", 20, 2)]),
        AppId="stock",
    )
    header = "00-c0000202179549438034500-a-01"  # a whole traceparent will do
    found = platform.admin("GET", f"traces/{header}")
    assert found["trace_id"] == "c0000202179549438034500"
    assert [(item["app"], item["name"], item["depth"]) for item in found["spans"]] == [
        ("shop", "/checkout", 0),
        ("shop", "http://stock/item", 1),
        ("stock", "/item", 2),
        ("stock", "redis:cache:GET", 3),
        ("stock", "redis:cache:GET", 3),
        ("shop", "db:shop:Insert:orders", 1),
    ]
    assert [item["span_id"] for item in found["spans"]][3:5] == ["d1", "d2"]  # same start: by id
    assert found["spans"][-1]["error"] == "Busy: locked"
    assert platform.get("/Trace/Tree?id=c0000202179549438034500", stock).json()["data"].items() <= found.items()
    assert (found["total"], found["errors"]) == (6, 1)
    listed = platform.admin("GET", "traces?app=stock&sort=slow")
    assert listed[0] == {
        "trace_id": "c0000202179549438034500",
        "app": "shop",
        "name": "/checkout",
        "start_time": start,
        "cost": 100,
        "spans": 6,
        "error": True,
    }


def row(number: int, span_id: str, parent_id: str) -> Any:
    names = ("app", "name", "kind", "client_id", "tag", "error")
    values = {
        "id": number,
        "span_id": span_id,
        "parent_id": parent_id,
        "start_time": 1,
        "end_time": 2,
        "start_us": 0,
        "end_us": 0,
    }
    return {**values, "value": 0, "failed": 0, **dict.fromkeys(names, "")}


@pytest.mark.parametrize(
    ("links", "order"),
    [
        ([("a", "a")], "a"),  # its own parent
        ([("a", "b"), ("b", "a")], "ab"),  # a circle has no root
        ([("r", ""), ("a", "b"), ("b", "a")], "rab"),
        ([("a", "gone"), ("b", "a")], "ab"),
        ([("a", ""), ("a", ""), ("b", "a")], "ab"),  # reported twice
        ([("", ""), ("", "")], "  "),
    ],
)
def test_odd_trees_are_shown_whole(links: list[tuple[str, str]], order: str) -> None:
    arranged = arrange([row(number, *link) for number, link in enumerate(links)])
    assert [span["span_id"] or " " for span in arranged] == list(order)


def test_a_deep_trace_does_not_exhaust_the_stack() -> None:
    arranged = arrange([row(number, str(number + 1), str(number) if number else "") for number in range(4000)])
    assert [span["depth"] for span in arranged] == list(range(4000))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Name", "Samples", "1e9"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["AppId", "Builders", "Name", "StartTime", "Samples", "ErrorSamples", "Id", "TraceId", "Total", "Info"]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    body = json.dumps(value).encode()
    if isinstance(value, dict):
        assert read_report(body, len(body)) is not None
    else:
        with pytest.raises(ValueError, match="not an object"):
            read_report(body, len(body))


APP_PATHS = ["Login", "Ping", "PostEvents", "RegisterService", "SendCommand", "CommandReply"]
PATHS = ["/Trace/Report", "/Trace/ReportRaw", "/Config/GetAll", "/Config/SetAll", "/OAuth/Token"]
ADMIN = [
    ("PUT", "config/demo"),
    ("POST", "apps/demo"),
    ("POST", "config/demo/publish"),
    ("POST", "config/demo/settings"),
]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def send_everywhere(platform: Platform, body: bytes) -> None:
    token = platform.login()
    for media in ("application/json", "application/x-gzip"):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": media}
        for path in [*PATHS, *(f"/App/{name}" for name in APP_PATHS)]:
            reply = platform.http.post(platform.url + path, data=body, headers=headers, timeout=10)
            assert reply.status_code in (200, 400, 415)
            assert "internal error" not in reply.text
    key = {"Authorization": f"Bearer {platform.server.key}", "Content-Type": "application/json"}
    for method, path in ADMIN:
        reply = platform.http.request(method, f"{platform.url}/console/api/{path}", data=body, headers=key, timeout=10)
        assert reply.status_code < 500, reply.text


@given(st.binary(max_size=200))
@FUZZ
def test_any_bytes_get_an_answer(platform: Platform, body: bytes) -> None:
    send_everywhere(platform, body)


@given(JSON)
@FUZZ
def test_any_json_gets_an_answer(platform: Platform, value: Any) -> None:
    send_everywhere(platform, json.dumps(value).encode())
