"""Every recorded answer of a real StarServer goes through our own readers (tests/wire/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stardust_auto.errors import ApiError, BadReplyError
from stardust_auto.wire.envelope import problem_text, read_envelope
from stardust_auto.wire.messages import (
    AppInfo,
    Command,
    CommandReply,
    ConfigReply,
    ConfigRequest,
    Event,
    LoginReply,
    LoginRequest,
    OAuthToken,
    PingReply,
    ServiceInstance,
    ServiceRegistration,
    TraceReply,
    TraceReport,
)
from stardust_auto.wire.text import dotted_version

WIRE = Path(__file__).parent.parent / "wire"


def lines(name: str) -> list[dict[str, Any]]:
    text = (WIRE / name).read_text(encoding="utf-8", errors="surrogatepass")
    return [json.loads(line) for line in text.splitlines()]


def path_of(line: dict[str, Any]) -> str:
    return line["request"]["path"].partition("?")[0].strip("/").lower()


def named(line: dict[str, Any]) -> str:
    return f"{line.get('n', line.get('t'))}-{line.get('note', '')}".replace(" ", "_")[:60]


ANSWERED = [line for line in lines("starserver.jsonl") if "response" in line and "request" in line]
DOTNET = [line for line in lines("dotnet-client.jsonl") if "response" in line]
READERS: dict[str, Any] = {
    "app/login": LoginReply,
    "app/logout": LoginReply,
    "app/ping": PingReply,
    "trace/report": TraceReply,
    "trace/reportraw": TraceReply,
    "config/getall": ConfigReply,
    "app/sendcommand": CommandReply,
    "oauth/token": OAuthToken,
    "app/registerservice": ServiceInstance,
}


@pytest.mark.parametrize("line", ANSWERED + DOTNET, ids=named)
def test_each_recorded_answer_is_read(line: dict[str, Any]) -> None:
    status, recorded = line["response"]["status"], line["response"]["body"]
    body = recorded.encode("utf-8", "replace") if isinstance(recorded, str) else json.dumps(recorded).encode()
    if status >= 300 or status == 101:
        if isinstance(recorded, dict) and "title" in recorded:
            assert recorded["title"] in problem_text(body)
        return
    code = recorded.get("code", 0) if isinstance(recorded, dict) else 0
    if code not in (0, 200):
        with pytest.raises(ApiError) as caught:
            read_envelope(body)
        assert caught.value.code == code
        assert caught.value.message[:20] == " ".join(recorded["message"][:20].split())
        assert len(caught.value.message) <= 500
        return
    try:
        data = read_envelope(body)
    except BadReplyError:
        assert not isinstance(recorded, dict)  # GET / of another application, and the bare number of SetHotApp
        return
    reader = READERS.get(path_of(line))
    if isinstance(data, dict) and reader is not None:
        message = reader.from_wire(data)
        written = {name.lower(): value for name, value in message.to_reply().items()}
        # Nothing recorded is lost: an answer that is read and written again is what the server wrote.
        for name, value in data.items():
            if name not in ("commands", "batchId"):
                assert written[name.lower()] == value, name
        if isinstance(message, PingReply):
            recorded_ids = [command["id"] for command in data["commands"] or ()]
            assert [command.id for command in message.commands or ()] == recorded_ids
    elif isinstance(data, list):
        assert len(ServiceInstance.list_from_wire(data)) == len(data)


def test_all_kinds_of_answers_are_among_the_recorded_ones() -> None:
    assert set(READERS) - {path_of(line) for line in ANSWERED} == set()
    assert len(ANSWERED) + len(DOTNET) > 180


def test_a_wrong_secret_is_taken_and_the_real_one_comes_back() -> None:  # protocol.md §12.1 row 2
    line = next(line for line in ANSWERED if line.get("note") == "wrong secret")
    reply = LoginReply.from_wire(read_envelope(json.dumps(line["response"]["body"]).encode()))
    assert (reply.code, reply.secret, reply.token) == ("py-new", "uncc79FZa7YypIgB", "<jwt1>")
    assert "uncc79FZa7YypIgB" not in repr(reply)


def test_pending_commands_have_utc_times() -> None:  # protocol.md §2.8
    line = next(line for line in ANSWERED if line.get("note") == "pending commands by ping")
    reply = PingReply.from_wire(read_envelope(json.dumps(line["response"]["body"]).encode()))
    first = (reply.commands or ())[0]
    assert (first.command, first.start_time, first.expire) == ("config/publish", 0, 1795497167885)


def test_a_pushed_frame_is_read() -> None:
    frames = [frame for line in lines("starserver.jsonl") for _, frame in line.get("first") or [] if frame[0] == 1]
    commands = [Command.from_wire(json.loads(text)) for _, text in frames if text.startswith("{")]
    assert {command.command for command in commands} >= {"config/publish", "app/freeMemory", "later/cmd"}
    later = next(command for command in commands if command.command == "later/cmd")
    assert (later.start_time, later.expire) == (1795493733000, 1795493791000)


REQUESTS: dict[str, Any] = {
    "app/login": LoginRequest,
    "app/ping": AppInfo,
    "trace/report": TraceReport,
    "trace/reportraw": TraceReport,
    "app/commandreply": CommandReply,
}


@pytest.mark.parametrize("line", [line for line in DOTNET if path_of(line) in REQUESTS], ids=named)
def test_the_dotnet_clients_requests_are_read_and_written_alike(line: dict[str, Any]) -> None:
    body = line["request"]["body"]
    written = REQUESTS[path_of(line)].from_wire(body).to_wire()
    for name, value in body.items():
        if name == "StartTime":  # a DateTime of that machine's zone; the separator is free
            assert written[name] == value.replace("T", " ")
        elif value is not None and name not in ("Code", "Builders", "CommandLine", "Macs", "UUID"):
            assert written[name] == value, name
    for ours, theirs in zip(written.get("Builders", ()), body.get("Builders") or (), strict=True):
        for name, value in theirs.items():
            if name == "Samples" and value:
                assert [sample["Id"] for sample in ours[name]] == [sample["Id"] for sample in value]
            elif value is not None and name != "ErrorSamples":
                assert ours[name] == value, name


def test_events_and_registrations_are_read() -> None:
    for line in ANSWERED:
        body = line["request"].get("body")
        if path_of(line) == "app/postevents" and isinstance(body, list):
            assert [event.to_wire() for event in Event.list_from_wire(body)] == body
        if path_of(line) == "app/registerservice" and "ServiceName" in body:
            assert {k: v for k, v in ServiceRegistration.from_wire(body).to_wire().items() if k in body} == body
        if path_of(line) == "config/getall" and isinstance(body, dict) and isinstance(body.get("Version"), int):
            assert ConfigRequest.from_wire(body).version == body["Version"]


def test_the_versions_that_break_every_ping_are_never_sent() -> None:  # protocol.md §12.5
    refused = [
        line for line in ANSWERED if "stored compile" in line["note"] and line["response"]["body"]["code"] == 500
    ]
    assert len(refused) == 3
    for line in refused:
        sent = dotted_version(line["request"]["body"]["Version"])
        assert 2 <= len(sent.split(".")) <= 4
        assert all(part.isdigit() for part in sent.split("."))
