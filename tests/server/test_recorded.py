"""Lines of the recorded StarServer whose behaviour we share, asked again of our server."""

from __future__ import annotations

import gzip
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _kit.server_platform import Clock, Platform

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

WIRE = Path(__file__).parents[1] / "wire" / "starserver.jsonl"

#: Line number -> what our server needs: "app" = a token of that application, "" = no token, None = as recorded.
SHARED = {
    4: None,
    5: None,
    6: None,
    21: None,
    24: None,
    25: None,
    26: None,
    27: None,
    30: None,
    31: None,
    32: None,
    34: None,
    41: "py-ping",
    42: "py-ping",
    43: "py-ping",
    44: "py-ping",
    46: "py-ping",
    47: "py-ping",
    48: None,
    50: None,
    53: "py-ping",
    60: "py-ping",
    61: "py-ping",
    62: "py-ping",
    75: "py-trace",
    76: "py-trace",
    77: "py-trace",
    79: "py-trace",
    81: "py-trace",
    89: "py-trace",
    98: "py-trace",
    102: "py-trace",
    104: "py-trace",
    106: "py-trace",
    109: "py-trace",
    110: "py-trace",
    111: "py-trace",
    112: "py-trace",
    113: "py-trace",
    114: "py-trace",
    123: "py-trace",
    131: "py-trace",
    182: None,
    183: None,
    191: "demo-fresh",
    192: "demo-fresh",
    216: "demo",
    217: None,
    244: "demo",
    245: "demo",
    246: "demo",
    253: "demo",
    254: None,
    255: "demo",
    256: "demo",
    257: "demo",
    258: "demo",
    262: "demo",
    263: "demo",
    271: "demo",
    273: "demo",
    274: "demo",
    275: "demo",
    277: None,
    299: "py-raw",
    303: "py-raw",
    307: "py-raw",
    311: "py-raw",
}


#: What the embedded server says beyond a StarServer; its clients ignore members that they do not know (protocol.md §12.8).
EXTENSIONS = {"coherent", "features"}


@lru_cache(maxsize=1)
def recorded() -> dict[int, dict[str, Any]]:
    lines = (json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines())
    return {line["n"]: line for line in lines if "request" in line}


def send(platform: Platform, request: dict[str, Any], token: str) -> Any:
    headers = {name: value for name, value in request["headers"].items() if name not in ("Content-Length", "Host")}
    for name in ("Authorization", "X-Token"):
        if name in headers and "<jwt" in headers[name]:
            headers[name] = "Bearer " + token if headers[name].startswith("Bearer") else token
    if token and not {"Authorization", "X-Token"} & set(headers):
        headers["Authorization"] = f"Bearer {token}"  # recorded without one: ours wants it (protocol.md §11)
    raw = None
    if "decoded" in request:
        raw = json.dumps(request["decoded"], ensure_ascii=False).encode()
        if any("gzip" in value for value in headers.values()):
            raw = gzip.compress(raw)
    elif request.get("body") is not None:
        body = request["body"]
        raw = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    path = request["path"].split("?Token=")[0]
    return platform.http.request(request["method"], platform.url + path, data=raw, headers=headers, timeout=10)


def test_the_lines_exist() -> None:
    assert set(SHARED) <= set(recorded())


@pytest.fixture(scope="module")
def shared() -> Iterator[Platform]:
    """One server for all lines: none depends on another."""
    clock = Clock(time.time_ns() // 1_000_000)
    with EmbeddedServer(clock=clock) as server:
        yield Platform(server, clock)


@pytest.mark.parametrize("number", sorted(SHARED))
def test_line(shared: Platform, number: int) -> None:
    platform = shared
    line = recorded()[number]
    app = SHARED[number]
    token = platform.login(app, "10.0.0.5@700") if app else ""
    answer = send(platform, line["request"], token)
    response = line["response"]
    assert answer.status_code == response["status"], line["note"]
    if response["body"] in ("", None):
        assert answer.text == ""
        return
    body, wanted = answer.json(), response["body"]
    assert body.get("code") == wanted.get("code"), answer.text
    # An envelope has the recorded members and no others; a ProblemDetails too.
    assert set(body) == set(wanted), answer.text
    if isinstance(wanted.get("data"), dict):
        assert set(body["data"]) - EXTENSIONS == set(wanted["data"])
    elif "data" in wanted and not isinstance(wanted["data"], list):
        assert body["data"] == wanted["data"]
    if "errors" in wanted:
        assert answer.headers["Content-Type"] == response["headers"]["Content-Type"]
        assert set(body["errors"]) == set(wanted["errors"])
