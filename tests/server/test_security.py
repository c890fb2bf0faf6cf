"""What a stranger, a neighbour on the port and a careless administrator can do."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from stardust_auto.server import EmbeddedServer, connections, local
from stardust_auto.server.local import address_file, find_key, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _kit.server_platform import Clock, Platform


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state folder of the user is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A web server of somebody else on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_port_that_answers_with_a_reset_does_not_get_the_key() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    write_private(address_file("127.0.0.1", port), {"url": f"http://127.0.0.1:{port}", "key": "planted", "pid": 1})

    def reset() -> None:
        client, _ = listener.accept()
        client.recv(10_000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()

    thread = threading.Thread(target=reset)
    thread.start()
    assert find_key(f"http://127.0.0.1:{port}") is None
    thread.join()
    listener.close()


def test_a_proof_that_is_relayed_from_the_real_server_is_worth_nothing(platform: Platform) -> None:
    class Relay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = requests.get(platform.url + self.path, timeout=5)
            self.send_response(reply.status_code)
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            return

    key = platform.server.key
    own = urlsplit(platform.url).port
    write_private(address_file("127.0.0.1", own or 0), {"url": platform.url, "key": key, "pid": 1})
    assert find_key(platform.url) == key
    with listening(Relay) as port:
        write_private(address_file("127.0.0.1", port), {"url": f"http://127.0.0.1:{port}", "key": key, "pid": 1})
        assert find_key(f"http://127.0.0.1:{port}") is None


LARGE = b"[" + b"{}," * 9_000_000 + b"{}]"


@pytest.mark.parametrize(
    "path", ["/App/Login", "/OAuth/Token", "/App/Ping", "/Trace/ReportRaw", "/Config/GetAll", "/console/login"]
)
def test_nobody_makes_the_server_take_memory_before_a_login(platform: Platform, path: str) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.monotonic()
    with contextlib.suppress(requests.ConnectionError):  # the server closes while the body is being sent
        reply = requests.post(platform.url + path, data=LARGE, headers={"Content-Type": "application/json"}, timeout=20)
        assert reply.status_code == 413 or reply.json()["code"] == 401
    assert time.monotonic() - began < 1
    assert process.memory_info().rss - before < 100_000_000


def test_a_small_body_that_would_unpack_to_a_large_one_is_refused_at_once(platform: Platform) -> None:
    token = platform.login()
    bomb = gzip.compress(b'{"Builders":[' + b"{}," * 9_000_000 + b"{}]}")
    assert len(bomb) < 60_000
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-gzip"}
    began = time.monotonic()
    reply = platform.http.post(f"{platform.url}/Trace/ReportRaw", data=bomb, headers=headers, timeout=20).json()
    assert reply["code"] == 500
    assert time.monotonic() - began < 1
    plain = b'{"Builders":[' + b"{}," * 1_000_000 + b"{}]}"
    reply = platform.http.post(f"{platform.url}/Trace/ReportRaw", data=plain, headers=headers, timeout=20).json()
    assert "elements" in reply["message"]


@pytest.mark.parametrize("value", ["1e999", "nan", "-inf", 1e400])
def test_a_number_that_is_none_does_not_break_the_list_of_applications(platform: Platform, value: Any) -> None:
    token = platform.login()
    body = f'{{"CpuUsage": {value if isinstance(value, float) else chr(34) + value + chr(34)}}}'.replace(
        "inf}", "1e999}"
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    reply = platform.http.post(f"{platform.url}/App/Ping", data=body, headers=headers, timeout=5)
    assert "internal error" not in reply.text
    assert platform.admin("GET", "apps")[0]["name"] == "demo"


def test_a_request_that_does_not_get_whole_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with EmbeddedServer() as server, contextlib.ExitStack() as stack:
        port = urlsplit(server.url).port or 0
        for begun in (
            b"",
            b"GET / HTTP/1.1\r\nHost: loc",
            b"POST /App/Ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
        ):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            client.sendall(begun)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""
        with requests.Session() as http:  # a connection between two requests stays
            assert http.get(f"{server.url}/Api", timeout=5).ok
            time.sleep(0.5)
            http.adapters["http://"].max_retries = 0  # type: ignore[attr-defined]
            assert http.get(f"{server.url}/Api", timeout=5).ok


def test_silent_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.connection_class, "__defaults__", (lambda: 20,))
    with EmbeddedServer() as server, contextlib.ExitStack() as stack:
        port = urlsplit(server.url).port or 0
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(60)]
        assert requests.get(f"{server.url}/Api", timeout=5).ok
        with contextlib.suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""


def test_a_session_ends_with_the_sign_out_also_for_a_copy_of_the_cookie(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, requests.Session() as http:
        http.post(f"{server.url}/console/login", data={"key": server.key}, timeout=5)
        copy = {name.rpartition("_")[0]: value for name, value in http.cookies.items()}
        name, value = next(iter(http.cookies.items()))
        page = http.get(f"{server.url}/console/", timeout=5).text
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
        assert token is not None
        assert copy
        http.post(f"{server.url}/console/logout", data={"form_token": token[1]}, timeout=5)
        assert requests.get(f"{server.url}/console/api/apps", cookies={name: value}, timeout=5).status_code == 401
    with EmbeddedServer(tmp_path) as server:  # also after a restart
        name = f"stardust_console_{server.services.port}"
        assert requests.get(f"{server.url}/console/api/apps", cookies={name: value}, timeout=5).status_code == 401


def test_the_console_password_is_as_good_as_the_key() -> None:
    with EmbeddedServer(console_password="correct horse battery") as server, requests.Session() as http:
        assert http.post(f"{server.url}/console/login", data={"key": "correct horse battery"}, timeout=5).ok
        assert http.get(f"{server.url}/console/api/apps", timeout=5).status_code == 200


def test_a_program_with_the_application_secret_may_register_where_registration_is_closed() -> None:
    with EmbeddedServer(auto_register=False, app_secret="for-all-of-them") as server:
        for secret, code in (("", 403), ("guessed", 403), ("for-all-of-them", 0)):
            login = {"AppId": "shop", "Secret": secret, "ClientId": "a@1"}
            assert requests.post(f"{server.url}/App/Login", json=login, timeout=5).json()["code"] == code


def test_a_deleted_application_is_gone_with_its_data(platform: Platform, clock: Clock) -> None:
    token = platform.login()
    platform.report(token, platform.builder())
    platform.publish("demo", greeting="hello")
    assert platform.admin("DELETE", "apps/demo") == {"deleted": "demo"}
    assert platform.admin("GET", "apps") == []
    assert platform.admin("GET", "traces") == []
    platform.admin("GET", "config/demo", status=404)
    assert platform.post("/App/Ping", {}, token).json()["code"] == 403
    platform.login()
    assert platform.admin("GET", "config/demo")["effective"] == {}
    assert platform.operations() == {}


def test_secrets_are_masked_on_pages(platform: Platform) -> None:
    platform.publish("demo", **{"db:password": "planted-1", "url": "pg://joe:planted-2@db/x", "plain": "shown"})
    platform.publish("demo", **{"db:password": "planted-3"})
    platform.admin("PUT", "config/demo", {"items": {"api_key": "planted-4"}})
    with requests.Session() as http:
        http.post(f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=5)
        text = http.get(f"{platform.url}/console/config/demo", timeout=5).text
        assert "shown" in text
        assert "planted" not in text
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', text)
        assert token is not None
        unchanged = {
            "form_token": token[1],
            "key": "db:password",
            "scope": "",
            "value": "",
            "comment": "",
            "action": "set",
            "veiled": "1",
        }
        http.post(f"{platform.url}/console/config/demo/stage", data=unchanged, timeout=5)
    item = next(item for item in platform.admin("GET", "config/demo")["items"] if item["key"] == "db:password")
    assert (item["value"], item["pending"]) == ("planted-3", False)


@pytest.mark.parametrize("path", ["/console/nowhere", "/console/apps/x/y/z", "/console/static/nothing.css"])
def test_an_unknown_page_has_the_headers_of_all_pages(platform: Platform, path: str) -> None:
    reply = requests.get(platform.url + path, timeout=5)
    assert reply.status_code == 404
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert 'href="/console/"' in reply.text


def test_wrong_keys_are_slow_and_logged(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    def guess(number: int) -> int:
        headers = {"Authorization": f"Bearer guess-{number}"}
        return requests.get(f"{platform.url}/console/api/apps", headers=headers, timeout=10).status_code

    began = time.monotonic()
    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(guess, range(10))) == {401}
    assert time.monotonic() - began > 0.9
    assert "a wrong administrator's key from 127.0.0.1" in caplog.text
    assert "guess-" not in caplog.text


def test_a_read_writes_nothing(platform: Platform) -> None:
    platform.login("demo")
    platform.server.store.instances.write()
    before = _changes(platform)
    with requests.Session() as http:
        http.post(f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=5)
        for path in ("/console/", "/console/config", "/console/config/demo", "/console/apps/demo", "/console/traces"):
            assert http.get(platform.url + path, timeout=5).ok
    assert _changes(platform) == before


def _changes(platform: Platform) -> int:
    with platform.server.store.database.write() as db:
        return int(db.total_changes)


def test_the_proof_needs_a_nonce_of_some_length(platform: Platform) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", platform.server.services.port, timeout=5)
    connection.request("GET", "/console/proof?nonce=short")
    assert connection.getresponse().status == 400
    connection.close()
    assert local.find_key("http://127.0.0.1:1") is None
