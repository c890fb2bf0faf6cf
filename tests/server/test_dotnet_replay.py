"""Every request of a recorded .NET client is answered as a real StarServer answered it (tests/wire/README.md)."""

from __future__ import annotations

import gzip
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests
from _kit.server_platform import DIRECT, Clock
from websockets.sync.client import connect

from stardust_auto.server import EmbeddedServer

WIRE = Path(__file__).parents[1] / "wire" / "dotnet-client.jsonl"
SECRET = "demo-secret-1"
CONFIG = {
    "greeting": "hello2",
    "db:pool": "5",
    "Db:Dsn": "sqlite:///x",
    "ref": "<${greeting}>",
    "json": '{"a":1,"b":[1,2]}',
    "list:0": "x",
    "list:1": "y",
    "empty": "",
    "中文": "值 ☃",
    "#comment": "c",
    "a.b": "dotted",
    "a__b": "under",
    "flag": "true",
    "_hidden": "never seen",
}
LATER = {"later": "not-yet", "fromPy": "v1", "obj": "ov"}
#: Members whose value is the server's own: only their form is compared.
FREE = {
    "token": r"[\w-]+\.[\w-]+\.[\w-]+",
    "serverTime": r"\d{13}",
    "updateTime": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
}


#: Members that only this server sends. The real client ignores what it does not know (protocol.md §12.8).
EXTRA = {"features"}

#: Unix ms of the recording: there the salted secret is as old as it was.
RECORDED_AT = 1_795_494_380_539


def compare(recorded: Any, answered: Any, path: str = "$") -> None:
    """Same members, same values; members in FREE have the same form, or are null where they were null."""
    if isinstance(recorded, dict):
        assert isinstance(answered, dict), path
        assert answered.keys() - EXTRA == recorded.keys(), path
        for name, value in recorded.items():
            if name in FREE and value not in (None, 0):
                assert re.fullmatch(FREE[name], str(answered[name])), f"{path}.{name}"
                assert type(answered[name]) is type(value), f"{path}.{name}"
            else:
                compare(value, answered[name], f"{path}.{name}")
        return
    assert answered == recorded, path


def prepare(server: EmbeddedServer) -> None:
    """The state that the recording server was in: version 2 published, a global value, an unpublished rest."""
    apps, releases = server.store.apps, server.services.releases
    common = apps.create("Common")
    releases.stage(common, "", {"shared": "global-1"})
    releases.publish(common)
    releases.configure(common, {"is_global": True})
    app = apps.create("demo", SECRET)
    releases.stage(app, "", CONFIG)
    releases.publish(app)


def test_every_request_of_the_dotnet_client_is_answered_as_recorded() -> None:
    clock = Clock(RECORDED_AT)
    lines = [json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines()]
    requests_seen = 0
    frames_seen = 0
    token = ""
    command_id = 0
    socket = None
    with EmbeddedServer(clock=clock) as server, requests.Session() as http, ExitStack() as stack:
        http.trust_env = False
        prepare(server)
        for line in lines:
            if "frame" in line:
                if line["frame"] == "client" and line["op"] == 1:
                    assert socket is not None
                    socket.send(line["text"])
                elif line["frame"] == "server" and line["op"] == 1:
                    assert socket is not None
                    if line["text"].startswith("{"):
                        app = server.store.apps.find("demo")
                        assert app is not None
                        assert server.services.command(app.id, "config/publish") == 1
                        frame, recorded = json.loads(socket.recv(5)), json.loads(line["text"])
                        assert list(frame) == list(recorded)
                        assert frame | {"Id": 0, "Expire": "", "TraceId": ""} == recorded | {
                            "Id": 0,
                            "Expire": "",
                            "TraceId": "",
                        }
                        for name in ("Expire", "TraceId"):
                            assert re.sub(r"[0-9a-f]+", "", frame[name]) == re.sub(r"[0-9a-f]+", "", recorded[name])
                        command_id = frame["Id"]
                    else:
                        assert socket.recv(5) == line["text"]
                    frames_seen += 1
                continue
            request, response = line["request"], line["response"]
            clock.now = 1_795_494_380_539 + int(line["t"] * 1000)
            headers = {
                name: value.replace("<jwt1>", token)
                for name, value in request["headers"].items()
                if name not in ("Host", "Content-Length", "Connection", "Upgrade", "Accept-Encoding")
                and not name.startswith("Sec-")
            }
            if response["status"] == 101:
                address = server.url.replace("http:", "ws:") + request["path"]
                opened = connect(address, additional_headers=headers, **DIRECT)
                socket = stack.enter_context(opened)
                requests_seen += 1
                continue
            if "version=2" in request["path"] and response["body"]["data"]["version"] == 3:
                app = server.store.apps.find("demo")
                assert app is not None
                server.services.releases.stage(app, "", LATER)
                server.services.releases.publish(app)
            body = request.get("body")
            if request["path"] == "/App/CommandReply":
                body = {**body, "Id": command_id}
            raw = None
            if body is not None:
                raw = json.dumps(body, ensure_ascii=False).encode()
                if headers["Content-Type"] == "application/x-gzip":
                    raw = gzip.compress(raw)
            answer = http.request(
                request["method"], server.url + request["path"], data=raw, headers=headers, timeout=10
            )
            assert answer.status_code == response["status"]
            assert answer.headers["Content-Type"] == response["headers"]["Content-Type"]
            recorded = response["body"]
            answered = answer.json()
            assert list(answered) == list(recorded)
            compare(recorded, answered, f"{request['method']} {request['path']}")
            if request["path"] == "/App/Login":
                token = answered["data"]["token"]
            requests_seen += 1
        operations = {
            row["name"]: row
            for app in server.store.apps.all()
            for row in server.store.traces.operations(app.id, 1_000_000)
        }
    assert requests_seen == sum("request" in line for line in lines)
    assert frames_seen == 2
    assert operations["/dotnet/outer"]["total"] == 5
    assert operations["/dotnet/outer"]["errors"] == 1
    assert operations["db:shop:Select:orders"]["value"] == 35
