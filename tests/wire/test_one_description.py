"""Agent and embedded server read with one table. Where their old readers disagreed, recordings decide (tests/wire/README.md)."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from stardust_auto.tracing import builder
from stardust_auto.wire.messages import AppInfo, Builder, Command, CommandReply, LoginRequest, Sample, TraceReport
from stardust_auto.wire.proof import md5_hex, proves
from stardust_auto.wire.reading import BindError, read_int, read_time
from stardust_auto.wire.text import clean_text
from stardust_auto.wire.wildcards import compile_wildcards, matches

RECORDED = {
    line["n"]: line
    for line in map(json.loads, (Path(__file__).parent / "starserver.jsonl").read_text(encoding="utf-8").splitlines())
    if "n" in line
}


# -- the seven disagreements ------------------------------------------------------------------------------------------


def test_a_fraction_is_rounded_as_the_recorded_server_stored_it() -> None:
    sent, stored = RECORDED[305]["request"]["decoded"]["Builders"][0], RECORDED[306]["rows"][0]
    assert (sent["Cost"], stored["Cost"]) == (12.7, 13)
    assert Builder.from_wire(sent).cost == 13
    sent, stored = RECORDED[92]["request"]["decoded"]["Builders"][0], RECORDED[93]["rows"][0]
    assert sent["StartTime"] % 1 == 0.5
    assert Builder.from_wire(sent).start_time == stored["StartTime"]
    assert (read_int(2.7), read_int("2.7"), read_int(-2.7)) == (3, 3, -3)


def test_a_small_number_is_a_time_in_seconds() -> None:  # protocol.md §1.4, "integer -> date rule"
    assert read_time(1_700_000_000) == 1_700_000_000_000


def test_a_number_of_milliseconds_is_taken_as_it_is() -> None:  # an Int64 of a StarServer; it comes back as it was
    for value in (1, True, "1000", 1_000_000, 1_795_493_211_898):
        read = Builder.from_wire({"StartTime": value})
        assert read.start_time == int(value)
        assert Builder.from_wire(read.to_wire()) == read
    assert Builder.from_wire({"StartTime": "2026-11-24T05:15:12Z"}).start_time == 1_795_497_312_000
    assert Builder.from_wire({"StartTime": "1795497312000.4"}).start_time == 1_795_497_312_000


def test_a_date_of_the_platforms_own_json_is_read() -> None:  # protocol.md §1.4, "FastJson reads"
    assert read_time("/Date(1700000000000)/") == 1_700_000_000_000


def test_a_moment_of_1970_is_a_moment() -> None:  # "not set" is the year 1 (protocol.md §1.4)
    assert read_time("1970-06-01 00:00:00") == 13_046_400_000
    assert read_time("1970-01-01 00:00:00") == read_time("0001-01-01 00:00:00") == 0


def test_the_hash_of_a_proof_is_upper_case() -> None:  # protocol.md §2.3; recorded of a .NET client
    lines = (Path(__file__).parent / "dotnet-client.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = [json.loads(line) for line in lines]
    login = next(line["request"]["body"] for line in recorded if line.get("request", {}).get("path") == "/App/Login")
    proof, now, stored = login["Secret"], login["Time"] // 1000, md5_hex("demo-secret-1")
    assert proves(proof, stored, now)
    assert not proves(proof.lower(), stored, now)


def test_a_limit_counts_utf16_units() -> None:  # protocol.md §12.2: as .NET counts a string
    assert clean_text("😀" * 50, 50) == "😀" * 25
    assert Sample.from_wire({"Id": "😀" * 50}).id == "😀" * 25


def test_an_empty_pattern_matches_nothing() -> None:  # protocol.md §5.7
    assert not matches(("",), "")
    assert not compile_wildcards([""])("")
    assert matches(("*",), "")


# -- strict and tolerant ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [30, 31, 60, 62])
def test_what_the_recorded_server_refused_is_refused_for_the_same_member(number: int) -> None:
    line = RECORDED[number]
    kind, parameter = (LoginRequest, "model") if line["request"]["path"] == "/App/Login" else (AppInfo, "inf")
    body = line["request"]["body"]
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(BindError) as refused:
        kind.bind(raw, parameter)
    assert set(refused.value.errors) == set(line["response"]["body"]["errors"])
    tolerant = kind.from_wire(json.loads(raw))
    assert kind.from_wire(tolerant.to_wire()) == tolerant


@pytest.mark.parametrize("number", [32, 56, 61])
def test_what_the_recorded_server_took_is_bound(number: int) -> None:
    line = RECORDED[number]
    kind: Any = LoginRequest if line["request"]["path"] == "/App/Login" else AppInfo
    raw = json.dumps(line["request"]["body"]).encode()
    assert kind.bind(raw, "model") == kind.from_wire(json.loads(raw))


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (b"", ""),
        (b"{", "$"),
        (b"[]", "$"),
        (b'"\xff"', "$"),
        (b'{"Id":NaN}', "$"),
        (b"[" * 100_000, "$"),
        (b'{"id":1.5}', "$.id"),
        (b'{"Id":true}', "$.Id"),
        (b'{"Id":null}', "$.Id"),
        (b'{"Id":99999999999999999999}', "$.Id"),
        (b'{"Status":2147483648}', "$.Status"),
        (b'{"Status":"Done"}', "$.Status"),
        (b'{"Data":{}}', "$.Data"),
        (b'{"Data":1}', "$.Data"),
    ],
)
def test_a_refusal_names_the_member(body: bytes, member: str) -> None:
    with pytest.raises(BindError) as refused:
        CommandReply.bind(body, "model")
    assert set(refused.value.errors) == {member, "model"}


def test_binding_takes_any_case_unknown_members_and_numbers_as_strings() -> None:
    bound = CommandReply.bind(b'{"ID":"7","status":2,"Data":null,"More":{"a":[1.5]}}', "model")
    assert bound == CommandReply(7, 2, None)


# -- one table for every side -----------------------------------------------------------------------------------------


def test_the_tracers_own_records_have_the_attributes_of_the_table() -> None:
    own = builder.SpanBuilder("a")
    for field in fields(Builder):
        assert hasattr(own, field.name), field.name
    extra = {"start_us", "end_us"}  # made of start_ns and duration_ns
    assert {field.name for field in fields(Sample)} - extra <= {field.name for field in fields(builder.Sample)}


def test_a_command_is_written_as_each_channel_has_it() -> None:  # protocol.md §2.8
    command = Command(7, "config/publish", "", 0, 1_795_497_312_000, "00-a-b-01", 0)
    assert command.to_frame() == {
        "Id": 7,
        "Command": "config/publish",
        "Argument": "",
        "StartTime": "",
        "Expire": "2026-11-24T05:15:12Z",
        "TraceId": "00-a-b-01",
        "Status": 0,
    }
    reply = command.to_reply()
    assert (reply["startTime"], reply["expire"]) == ("0001-01-01 00:00:00", "2026-11-24T05:15:12.0000000Z")
    for written in (command.to_frame(), reply):
        assert Command.from_wire(written) == command


def test_a_report_carries_its_metrics_and_its_builders() -> None:
    report = TraceReport(
        app_id="demo", version="1.2", info=AppInfo(id=7, cpu_usage=0.5), builders=(Builder(name="/a", total=3),)
    )
    written = report.to_wire()
    assert written["Info"] == {"Id": 7, "CpuUsage": 0.5, "Time": 0}
    assert written["Builders"][0]["Name"] == "/a"
    assert TraceReport.from_wire(written) == report
