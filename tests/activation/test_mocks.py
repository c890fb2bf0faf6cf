"""Tests of the program that put something in the place of the network, the clocks or the threads: ours is not in their books, and works
on.

Every program here is in such a state from before its first traced call until the agent has logged in, which is when it loads most of
itself. What it prints, among it all calls that its stand-ins saw, is the same as without us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import LAUNCHER, QUERIES, Run, counted

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

#: ``settled()``: until the agent is online, with nothing of what is replaced here. The first line of a program is its imports.
WAIT = """
import threading
_pause = threading.Event()
def settled():
    from stardust_auto.agent import current
    for _ in range(3000):
        if current() is None or current().session.state == "online": return
        _pause.wait(0.01)
    print("not online")
"""

RESPONSES = """
import requests, responses, sqlite3
with responses.RequestsMock() as mock:
    mock.add("GET", "http://example.com/x", body="a")
    print(requests.get("http://example.com/x").text); queries("one"); settled()
    print([call.request.url for call in mock.calls])
"""
REQUESTS_MOCK = """
import requests, requests_mock, sqlite3
with requests_mock.Mocker() as mock:
    mock.get("http://example.com/x", text="a")
    print(requests.get("http://example.com/x").text); queries("one"); settled()
    print([request.url for request in mock.request_history])
"""
VCR = """
import http.server, requests, sqlite3, threading, vcr
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b"a")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler); threading.Thread(target=server.serve_forever, daemon=True).start()
with vcr.use_cassette("cassette.yaml", record_mode="new_episodes") as cassette:
    print(requests.get(f"http://127.0.0.1:{server.server_port}/x").text); queries("one"); settled()
print([request.path for request in cassette.requests], open("cassette.yaml").read().count("uri:"))
"""
HTTPRETTY = """
import httpretty, requests, sqlite3
with httpretty.enabled():
    httpretty.register_uri(httpretty.GET, "http://example.com/x", body="a")
    print(requests.get("http://example.com/x").text); queries("one"); settled()
    print([request.url for request in httpretty.latest_requests()])
"""
#: Whatever a test may count the calls of; the counts are taken before anything of the test's own is called.
MOCK = """
import requests, socket, sqlite3, time, unittest.mock as mock, urllib3
names = ["time.time", "time.monotonic", "time.sleep", "threading.Thread", "socket.create_connection", "socket.getaddrinfo",
    "requests.Session", "requests.Request", "requests.adapters.HTTPAdapter.send", "urllib3.PoolManager",
    "urllib3.connectionpool.HTTPConnectionPool.urlopen", "urllib3.connection.HTTPConnection", "http.client.HTTPConnection"]
queries("none", 0)
patchers = [mock.patch(name) for name in names] + [mock.patch("socket.socket", side_effect=RuntimeError("no sockets here"))]
mocks = [patcher.start() for patcher in patchers]
queries("one"); settled()
calls = [one.call_count for one in mocks]
mock.patch.stopall()
print(calls)
"""
#: A script of the clock: whoever else asks takes a line out of it.
SCRIPTED_CLOCK = """
import sqlite3, time, unittest.mock as mock
with mock.patch("time.time", side_effect=[1.0, 2.0]), mock.patch("time.monotonic", side_effect=[3.0, 4.0]):
    print(time.time(), time.monotonic()); queries("one"); settled(); print(time.time(), time.monotonic())
"""
#: It replaces the clocks in the modules that have them; what is reported meanwhile has the time of the world.
FREEZEGUN = """
import datetime, freezegun, sqlite3, time
with freezegun.freeze_time("2012-01-14"):
    queries("one"); settled()
    from stardust_auto.agent import current
    if current() is not None: current().flush(20)
    print(datetime.datetime.now(), time.time())
"""
#: What our imports warn of would be in its list, and what they ask to ignore is forgotten with each block.
WARNINGS = """
import sqlite3, warnings
queries("one"); seen = []
def pause(seconds):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always"); threading.Event().wait(seconds)
    seen.extend(str(one.message) for one in caught)
_pause.wait = pause
settled(); print(seen)
"""
ERRORS = WARNINGS.replace("always", "error")


@pytest.mark.case("R30")
@pytest.mark.parametrize(
    "program",
    [RESPONSES, REQUESTS_MOCK, VCR, HTTPRETTY, MOCK, SCRIPTED_CLOCK, FREEZEGUN, WARNINGS, ERRORS],
    ids=[
        "responses",
        "requests-mock",
        "vcrpy",
        "httpretty",
        "mock",
        "scripted-clock",
        "freezegun",
        "warnings",
        "errors",
    ],
)
def test_a_stand_in_sees_the_programs_calls_only(
    run: Run, server: EmbeddedServer, python: str, tmp_path: Path, program: str
) -> None:
    code = QUERIES + WAIT + program
    plain = run([python, "-c", code])
    assert plain.stderr == ""
    (tmp_path / "cassette.yaml").unlink(missing_ok=True)
    traced = run([LAUNCHER, "--server", server.url, "--app", "mocks", python, "-c", code])
    assert (traced.stdout, traced.stderr, traced.returncode) == (plain.stdout, plain.stderr, plain.returncode)
    assert counted(server, "mocks")["db:one:Select"] == 5


@pytest.mark.case("R30")
def test_what_kept_us_from_starting_may_be_over(run: Run, server: EmbeddedServer, python: str) -> None:
    # what a test puts somewhere is gone after the test
    code = (
        "import sys; broken = []\n"
        "class Stub:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'stardust_auto.export.stardust' and not broken: broken.append(name); raise ZeroDivisionError\n"
        "sys.meta_path.insert(0, Stub())\n"
        "queries('one')\n"
        "while not broken: _pause.wait(0.01)\n"
        "_pause.wait(0.2); queries('two'); settled()"
    )
    done = run([LAUNCHER, "--server", server.url, "--app", "mocks", python, "-c", QUERIES + WAIT + code])
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert counted(server, "mocks") == {"db:one:Select": 5, "db:two:Select": 5}


@pytest.mark.case("R30")
def test_pytest_rewrites_none_of_our_modules(run: Run, server: EmbeddedServer, python: str, tmp_path: Path) -> None:
    # it does so with each distribution that brings a plugin, and the agent is loaded in a thread
    (tmp_path / "test_it.py").write_text(
        QUERIES + WAIT + "def test_it():\n"
        "    import sys; queries('one'); settled()\n"
        "    ours = {name: type(module.__loader__).__name__ for name, module in sys.modules.items() if name.startswith('stardust_auto.')}\n"
        "    print(len(ours) > 30, [name for name, loader in ours.items() if 'Rewriting' in loader])\n"
    )
    command = [python, "-m", "pytest", "-qs", "-p", "no:cacheprovider", "test_it.py"]
    done = run([LAUNCHER, "--server", server.url, "--app", "mocks", *command])
    assert done.stdout.splitlines()[0] == "True ['stardust_auto.pytest_plugin']", done.stdout
