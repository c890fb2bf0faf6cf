"""Reading is tolerant: arbitrary JSON and arbitrary bytes give a message or an error of ours, nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stardust_auto.errors import ApiError, BadReplyError, StardustError
from stardust_auto.wire import messages
from stardust_auto.wire.envelope import problem_text, read_envelope
from stardust_auto.wire.fields import Message
from stardust_auto.wire.messages import ConfigReply, LoginReply, LoginRequest, PingReply, TraceReply
from stardust_auto.wire.reading import members, read_bool, read_float, read_int, read_text, read_time

MESSAGES = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
]
NAMES = sorted({name for kind in MESSAGES for name in kind().to_reply()} | {"code", "data", "message", "Status"})
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["2026-13-99", "1e999", "-"]),
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(value=json_values)
def test_any_json_gives_a_message(kind: type[Message], value: Any) -> None:
    message = kind.from_wire(value)
    for written in (message.to_wire(), message.to_reply()):
        json.dumps(written, ensure_ascii=False, allow_nan=False).encode()
    assert kind.from_wire(message.to_wire()) == kind.from_wire(kind.from_wire(message.to_wire()).to_wire())
    kind.list_from_wire(value)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_data_or_an_error_of_ours(body: bytes) -> None:
    with contextlib.suppress(StardustError):
        read_envelope(body)
    assert len(problem_text(body)) <= 500


@given(json_values)
def test_scalar_readers_never_raise(value: Any) -> None:
    assert -(2**63) <= read_int(value) < 2**63
    assert read_float(value) == read_float(value)
    assert read_bool(value) in (True, False, None)
    assert read_time(value) >= 0
    text = read_text(value)
    assert text is None or text.encode() is not None


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", None),
        (b'{"code":0,"data":{"a":1}}', {"a": 1}),
        (b'{"Code":"200","DATA":[1]}', [1]),
        (b'{"status":true,"data":7}', 7),
        (b'{"code":0,"data":null}', None),
        (b'{"a":1}', {"a": 1}),  # no code, no data: the whole object is the payload (§1.5)
        (b'{"code":0,"x":1}', {"code": 0, "x": 1}),
        (b'\xef\xbb\xbf{"code":0,"data":"\xff"}', "\ufffd"),
    ],
)
def test_envelopes(body: bytes, outcome: Any) -> None:
    assert read_envelope(body) == outcome


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"code":401,"message":"no"}', 401, "no"),
        (b'{"errcode":"403","msg":"a\\nb"}', 403, "a b"),
        (b'{"status":false,"error":"x"}', -1, "x"),
        (b'{"code":{},"status":500}', 500, ""),
        (b'{"code":"what"}', 500, ""),
    ],
)
def test_error_envelopes(body: bytes, code: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_envelope(body)
    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.case("C33")
@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'"x"', b"1", b"null", b'{"code":0,"da', b"[" * 100_000])
def test_what_is_not_our_protocol_is_refused(body: bytes) -> None:
    with pytest.raises(BadReplyError):
        read_envelope(body)


def test_any_case_null_unknown_and_numbers_as_strings() -> None:
    reply = PingReply.from_wire(
        {"SERVERTIME": "1785600000456", "Period": "7", "token": None, "x": {}, "commands": [1, {}]}
    )
    assert (reply.server_time, reply.period, reply.token, len(reply.commands or ())) == (1785600000456, 7, None, 1)
    assert LoginReply.from_wire({"Token": "t", "expire": None}).token == "t"
    assert TraceReply.from_wire({"period": 1e300, "maxSamples": True}).period == 0
    assert LoginRequest.from_wire({"Code": "x", "AppId": None}).application == "x"  # §2.2, §12.1 row 3
    assert members([1]) == {}


@pytest.mark.case("C16")
def test_config_map_keeps_keys_and_takes_any_scalar() -> None:
    reply = ConfigReply.from_wire({"configs": {"Db:Dsn": "x", "n": 5, "b": True, "z": None, "o": {"a": 1}, "": ""}})
    assert reply.configs == {"Db:Dsn": "x", "n": "5", "b": "true", "z": None, "": ""}
    assert ConfigReply.from_wire({"configs": {}}).configs == {}
    assert ConfigReply.from_wire({"configs": []}).configs is None


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("2026-11-24T05:12:47.8857947Z", 1795497167885),
        ("2026-11-24T05:15:12Z", 1795497312000),
        ("2026-11-24 05:15:12", 1795497312000),
        ("2026-11-24 05:15:12 UTC", 1795497312000),
        ("2026-11-24T13:15:12+08:00", 1795497312000),
        ("2026-11-24T05:15:12.5Z", 1795497312500),
        ("/Date(1795497312000)/", 1795497312000),
        (1795497312, 1795497312000),
        ("1795497312000", 1795497312000),
        ("0001-01-01 00:00:00", 0),
        ("", 0),
        ("soon", 0),
        (None, 0),
        ("9999-12-31T23:59:59-14:00", 253402351199000),
    ],
)
def test_times(value: Any, milliseconds: int) -> None:  # protocol.md §1.4, §2.8
    assert read_time(value) == milliseconds
