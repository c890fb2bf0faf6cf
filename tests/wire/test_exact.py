"""Writing is exact: whatever a program calls its operations, a strict reader stores all of it (protocol.md §12.2)."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stardust_auto.privacy import Secret, scrub
from stardust_auto.wire.fields import camel
from stardust_auto.wire.messages import (
    AppInfo,
    ConfigReply,
    Event,
    LoginRequest,
    PingReply,
    write_builder,
    write_sample,
)
from stardust_auto.wire.proof import md5_hex, proves, salted_md5
from stardust_auto.wire.text import clean_id, clean_text, cut_utf16, dotted_version, int32, int64

INT32, INT64 = 2**31 - 1, 2**63 - 1


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def strict_text(value: object, limit: int) -> None:
    assert value is None or isinstance(value, str)
    if value is not None:
        value.encode("utf-8")  # raises for a lone surrogate
        assert "\0" not in value
        assert utf16(value) <= limit


def strict_int(value: object, low: int, high: int) -> None:
    assert type(value) is int
    assert low <= value <= high


def strict_reader(builder: dict[str, Any]) -> None:
    """What StarServer needs to store a builder with all its samples; raises for what it drops or cuts."""
    strict_text(builder["Name"], 200)
    strict_int(builder["StartTime"], 0, INT64)
    strict_int(builder["EndTime"], builder["StartTime"], INT64)
    strict_int(builder["Total"], 0, INT32)
    strict_int(builder["Errors"], 0, INT32)
    strict_int(builder["Cost"], 0, INT64)
    strict_int(builder["MaxCost"], 0, INT32)
    strict_int(builder["MinCost"], -1, INT32)
    strict_int(builder["Value"], -INT64 - 1, INT64)


def strict_sample(sample: dict[str, Any]) -> None:
    for name in ("Id", "ParentId", "TraceId"):
        strict_text(sample.get(name), 50)
        assert "#" not in (sample.get(name) or "")
    for name in ("Tag", "Error"):
        strict_text(sample.get(name), 2000)
    strict_int(sample["StartTime"], 0, INT64)
    strict_int(sample["EndTime"], sample["StartTime"], INT64)
    strict_int(sample["EndTime"] - sample["StartTime"], 0, INT32)  # the server stores the cost as Int32
    strict_int(sample["Value"], -INT64 - 1, INT64)
    strict_int(sample["TraceFlag"], 0, 255)
    assert "ParentId" not in sample or sample["ParentId"] != sample.get(
        "Id"
    )  # protocol.md §3.4: such a trace has no root
    assert None not in sample.values()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text of mine")


bytes_text = st.binary(max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
any_text = st.one_of(
    st.text(st.characters(), max_size=300),
    st.text(st.characters(min_codepoint=0xD700, max_codepoint=0x1F700), min_size=30, max_size=300),
    bytes_text,
    st.text("a\0\ud83d\ude00#😀", max_size=3000),
    st.none(),
    st.integers(),
    st.builds(Hostile),
)
any_number = st.one_of(st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3), st.just(10**400))
times = st.one_of(any_number, st.integers(0, 2**41))
samples = st.builds(
    SimpleNamespace,
    id=any_text,
    parent_id=any_text,
    trace_id=any_text,
    start_time=times,
    end_time=times,
    value=any_number,
    tag=any_text,
    flag=any_number,
    error=any_text,
)
builders = st.builds(
    SimpleNamespace,
    name=any_text,
    start_time=times,
    end_time=times,
    total=any_number,
    errors=any_number,
    cost=any_number,
    max_cost=any_number,
    min_cost=any_number,
    value=any_number,
)


@given(builders, st.integers(-(10**12), 10**12))
def test_a_strict_reader_takes_any_builder(builder: Any, shift: int) -> None:
    written = write_builder(builder, shift)
    strict_reader(written)
    assert json.loads(json.dumps(written, allow_nan=False, ensure_ascii=False).encode()) == written


@given(samples, st.integers(-(10**12), 10**12))
def test_a_strict_reader_takes_any_sample(sample: Any, shift: int) -> None:
    written = write_sample(sample, shift)
    strict_sample(written)
    assert json.loads(json.dumps(written, allow_nan=False, ensure_ascii=False).encode()) == written


@given(any_text, st.integers(1, 60))
def test_clean_text_is_within_its_limit_and_stays_as_it_is(value: object, limit: int) -> None:
    cleaned = clean_text(value, limit)
    strict_text(cleaned, limit)
    assert clean_text(cleaned, limit) == cleaned


@given(any_text)
def test_versions_are_always_dotted_integers(value: object) -> None:
    assert re.fullmatch(r"\d+(\.\d+){1,3}", dotted_version(value), re.ASCII)
    assert all(int(part) <= INT32 for part in dotted_version(value).split("."))


@pytest.mark.parametrize(
    ("given_version", "sent"),
    [
        ("1.2.3", "1.2.3"),
        ("1", "1.0"),
        ("v1.2", "1.2"),
        ("1.0.0-rc1", "1.0.0"),
        ("1.2.3.4.5", "1.2.3.4"),
        ("2026.08.02", "2026.8.2"),
        ("main", "0.0.0"),
        ("", "0.0.0"),
        (None, "0.0.0"),
        ("99999999999.1", "999999999.0"),
        ("١.٢", "0.0.0"),
    ],
)
def test_version_vectors(given_version: str | None, sent: str) -> None:  # protocol.md §12.5
    assert dotted_version(given_version) == sent


def test_text_vectors() -> None:
    assert clean_text("\ud83d\ude00", 10) == "😀"  # two halves that belong together are one character
    assert clean_text("a\ud83d", 10) == "a\ufffd"
    assert clean_text("a\0b", 10) == "a b"
    assert clean_text("😀" * 3, 5) == "😀😀"  # the limit counts UTF-16 units and splits no character
    assert cut_utf16("ab😀", 3) == "ab"
    assert clean_id("a#b" + "c" * 60) == "a-b" + "c" * 47
    assert (int32(2**40), int32(float("nan")), int64(-(10**30)), int32(3.9), int32(True)) == (
        INT32,
        0,
        -INT64 - 1,
        3,
        1,
    )


@given(any_text, any_text, any_number)
def test_messages_are_written_exactly(text: Any, other: Any, number: Any) -> None:
    for message in (
        LoginRequest(app_id=text, secret=other, version=text, compile=number, time=number),
        AppInfo(id=number, name=text, cpu_usage=number, threads=number, working_set=number, version=other),
        Event(time=number, type=text, name=other, remark=text),
    ):
        written = message.to_wire()
        json.dumps(written, allow_nan=False, ensure_ascii=False).encode("utf-8")
        for name, value in written.items():
            assert value is not None, name  # StarServer refuses null for a number (§1.4)
            assert isinstance(value, (str, int)) or name == "CpuUsage"


def test_case_and_nulls_of_both_sides() -> None:  # protocol.md §1.3
    assert [camel(name) for name in ("IP", "SourceIP", "IOThreads", "GCCount", "ServerTime")] == [
        "ip",
        "sourceIP",
        "ioThreads",
        "gcCount",
        "serverTime",
    ]
    assert ConfigReply(version=3).to_reply()["configs"] is None  # §6.1: the key must exist when nothing changed
    assert ConfigReply(version=3, configs={"a:B": None}).to_reply()["configs"] == {"a:B": None}
    assert PingReply(period=7).to_reply()["commands"] is None
    assert AppInfo(id=1).to_wire() == {"Id": 1, "Time": 0}


def test_salted_md5_vectors() -> None:  # protocol.md §2.3
    proof = "$md5$1700000000$7D32554C46DE7AC200AC600D1210B958"
    assert salted_md5("abc123", 1700000000) == proof
    assert salted_md5("uncc79FZa7YypIgB", 1795493206) == "$md5$1795493206$D3F7023262BBF7493F3F311F7BF02AEB"  # recorded
    stored = md5_hex("abc123")
    assert proves(proof, stored, 1700000600)
    assert not proves(proof, stored, 1700000601)
    assert not proves(proof, md5_hex("abc124"), 1700000000)
    assert proves("abc123", stored, 0)
    assert not proves("", stored, 0)
    for broken in ("$", "$md5$", "$md5$x$y", "$sha1$1$2", "$md5$1700000000$é", "$md5$" + "9" * 400 + "$x"):
        assert not proves(broken, stored, 1700000000)


def test_secrets_do_not_show() -> None:
    secret = Secret("hunter2222")
    assert "hunter2222" not in f"{secret} {secret!r} {[secret]} {LoginRequest(secret='hunter2222')!r}"
    assert scrub("it said hunter2222!", [None, secret]) == "it said ***!"
    with pytest.raises(TypeError):
        secret.__reduce__()
