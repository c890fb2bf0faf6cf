"""The transport under every fault of a server: bounded in time and memory, one clear error, recovery at the next call."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from _kit.faulty_server import FaultyServer, Handler
from _kit.ports import reserved_port

from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.privacy import Secret
from stardust_auto.transport.http import MAX_BODY, Request, Transport, explain
from stardust_auto.transport.servers import Server, ServerList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = Secret("planted-token-7f3a")
PING = Request("POST", "App/Ping", b"{}", "application/json")


@pytest.fixture
def ask(server: FaultyServer) -> Iterator[Callable[..., Any]]:
    server.token = TOKEN.reveal()
    transport = Transport(ServerList(server.url), "test")

    def call(timeout: float = 5.0, request: Request = PING) -> Any:
        return transport.call(request, TOKEN, timeout).data

    yield call
    transport.close()


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does with each connection what ``talk`` does."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(connection)
            threading.Thread(target=run, args=(connection,), daemon=True).start()

    def run(connection: socket.socket) -> None:
        try:
            talk(connection)
        except OSError:
            return  # the client gave up, as it should

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in open_sockets:
            connection.close()


def drip(head: bytes, byte: bytes = b"x") -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head)
        for _ in range(600):
            connection.sendall(byte)
            time.sleep(0.05)

    return talk


def hang(connection: socket.socket) -> None:
    connection.recv(65536)
    time.sleep(30)


@pytest.mark.case("C34")
@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(hang, id="accepts-and-hangs"),
        pytest.param(drip(b""), id="drips-in-status-line"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX-A: "), id="drips-in-header"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"), id="drips-in-body"),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="drips-in-chunks"
        ),
        pytest.param(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="drips-100-continue"),
    ],
)
def test_one_deadline_for_the_whole_call(talk: Callable[[socket.socket], None]) -> None:
    with raw_server(talk) as url:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="in time") as caught:
            Transport(ServerList(url), "test").call(PING, TOKEN, 0.6)
        assert 0.4 < time.monotonic() - started < 1.2
        assert caught.value.may_have_arrived


def test_slow_tls_is_bounded() -> None:
    with raw_server(hang) as url:
        started = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            Transport(ServerList(url.replace("http", "https")), "test").call(PING, TOKEN, 0.5)
        assert time.monotonic() - started < 1.2
        assert not caught.value.may_have_arrived  # so it may be sent to another server


@pytest.mark.case("X23", "C39")
def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        Path(__file__).parents[1] / "_kit" / "self_signed.pem"
    )  # made for this test, valid until 2124

    def talk(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True)

    with raw_server(talk) as url, pytest.raises(UnavailableError, match=r"(?i)certificate") as caught:
        Transport(ServerList(url.replace("http", "https")), "test").call(PING, TOKEN, 3)
    assert not caught.value.may_have_arrived


def test_refused_connection() -> None:
    with pytest.raises(UnavailableError, match="refused") as caught:
        Transport(ServerList(f"http://127.0.0.1:{reserved_port()}"), "test").call(PING, TOKEN, 3)
    assert not caught.value.may_have_arrived


def test_unknown_host() -> None:
    with pytest.raises(UnavailableError) as caught:
        Transport(ServerList("http://no-such-host.invalid:6600"), "test").call(PING, TOKEN, 5)
    assert not caught.value.may_have_arrived


FAULTS: dict[str, tuple[Callable[[Handler], None], type[StardustError], str]] = {
    "reset before the header": (lambda h: h.reset(), UnavailableError, "reset by peer"),
    "html": (lambda h: h.reply_bytes(b"<html>hello</html>", 200, {"Content-Type": "text/html"}), BadReplyError, "HTML"),
    "truncated json": (lambda h: h.reply_bytes(b'{"code":0,"data":{"ti'), BadReplyError, "not JSON"),
    "bare array": (lambda h: h.reply_json([1, 2]), BadReplyError, "bare array"),
    "200 with code 500": (lambda h: h.reply(None, 500, "broken"), ApiError, "code 500: broken"),
    "404": (lambda h: h.reply_bytes(b"", 404), BadReplyError, "HTTP 404"),
    "500": (lambda h: h.reply_bytes(b"oops", 500), UnavailableError, "HTTP 500"),
    "problem details": (
        lambda h: h.reply_json({"title": "bad", "errors": {"$.Time": ["no int"]}}, 400),
        BadReplyError,
        "HTTP 400: bad no int",
    ),
    "30 MB": (lambda h: h.reply_bytes(b'{"code":0,"data":"' + b"x" * 30_000_000), BadReplyError, "larger than 8 MiB"),
    "gzip bomb": (
        lambda h: h.reply_bytes(gzip.compress(b" " * 200_000_000, 1), 200, {"Content-Encoding": "gzip"}),
        BadReplyError,
        "larger than 8 MiB",
    ),
    "broken gzip": (
        lambda h: h.reply_bytes(b"\x1f\x8bnope", 200, {"Content-Encoding": "gzip"}),
        BadReplyError,
        "not what it says it is",
    ),
    "redirect in circles": (lambda h: h.reply_bytes(b"", 302, {"Location": h.path}), BadReplyError, "circles"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_and_recovery(server: FaultyServer, ask: Callable[..., Any], fault: str) -> None:
    answer, kind, text = FAULTS[fault]
    server.answers["app/ping"] = answer
    started = time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        ask()
    assert time.monotonic() - started < 4
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # nothing of the request, with its token, hangs on the error
    del server.answers["app/ping"]
    assert ask()["period"] == 60


def test_reset_in_the_body(server: FaultyServer, ask: Callable[..., Any]) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        handler.reset()

    server.answers["app/ping"] = answer
    with pytest.raises(UnavailableError) as caught:
        ask()
    assert caught.value.may_have_arrived
    del server.answers["app/ping"]
    assert ask()["period"] == 60


def test_other_case_and_gzip_are_read(server: FaultyServer, ask: Callable[..., Any]) -> None:
    def answer(handler: Handler) -> None:
        assert handler.headers["Accept-Encoding"] == "gzip"  # protocol.md §12.1 row 18: only what we can decode
        handler.reply_bytes(gzip.compress(b'{"CODE":0,"Data":{"Period":9}}'), 200, {"Content-Encoding": "gzip"})

    server.answers["app/ping"] = answer
    assert ask() == {"Period": 9}


@pytest.mark.parametrize("value", ["7", "999999", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
def test_retry_after(server: FaultyServer, ask: Callable[..., Any], value: str) -> None:
    server.answers["app/ping"] = lambda handler: handler.reply_bytes(b"", 503, {"Retry-After": value})
    with pytest.raises(UnavailableError, match="HTTP 503") as caught:
        ask()
    assert caught.value.retry_after == {"7": 7.0, "999999": 600.0, "soon": None}.get(value, 0.0)
    assert not caught.value.may_have_arrived


@pytest.mark.case("C39")
def test_a_redirect_to_another_host_never_gets_the_token(server: FaultyServer, ask: Callable[..., Any]) -> None:
    with FaultyServer() as other:
        target = other.url.replace("127.0.0.1", "localhost")
        server.answers["app/ping"] = lambda handler: handler.reply_bytes(b"", 307, {"Location": target + "/App/Ping"})
        with pytest.raises(BadReplyError, match="http://localhost, which is not followed"):
            ask()
        assert other.calls == []


def test_a_redirect_on_the_same_host_is_followed(server: FaultyServer, ask: Callable[..., Any]) -> None:
    server.answers["app/ping"] = lambda handler: handler.reply_bytes(b"", 307, {"Location": "/moved"})
    server.answers["moved"] = lambda handler: handler.reply(handler.call_body)
    assert ask(request=Request("POST", "App/Ping", b'{"a":1}', "application/json")) == {"a": 1}


def test_failover_and_return_to_the_first() -> None:  # protocol.md §8.3
    now = [100.0]
    with FaultyServer() as first, FaultyServer() as second:
        first.token = second.token = TOKEN.reveal()
        servers = ServerList([first.url, second.url], clock=lambda: now[0])
        transport = Transport(servers, "test")
        first.answers["app/ping"] = lambda handler: handler.reply_bytes(b"", 503)
        assert transport.call(PING, TOKEN, 5).server == Server(second.url)
        assert servers.active.url == second.url
        transport.call(PING, TOKEN, 5)
        assert first.count("app/ping") == 1  # shielded for a minute
        del first.answers["app/ping"]
        now[0] += 61
        assert transport.call(PING, TOKEN, 5).server == Server(first.url)
        # Nothing that may have arrived is repeated elsewhere, unless it does no harm.
        first.answers["app/ping"] = lambda handler: handler.reset()
        with pytest.raises(UnavailableError):
            transport.call(Request("POST", "App/Ping", b"{}", "application/json", repeatable=False), TOKEN, 5)
        assert second.count("app/ping") == 2
        # All shielded: all are tried again.
        servers.failed(Server(second.url))
        del first.answers["app/ping"]
        assert transport.call(PING, TOKEN, 5).server == Server(first.url)
        transport.close()


def test_an_error_code_is_an_answer_not_a_reason_to_switch() -> None:
    with FaultyServer() as first, FaultyServer() as second:
        first.answers["app/ping"] = lambda handler: handler.reply(None, 403, "no")
        with pytest.raises(ApiError):
            Transport(ServerList([first.url, second.url]), "test").call(PING, TOKEN, 5)
        assert second.calls == []


def test_server_list_entries() -> None:
    servers = ServerList("main=3*http://User:pw@Host:6600/base/, https://b#token=x;http://b:1")
    assert [server.url for server in servers.all] == ["http://Host:6600/base", "https://b", "http://b:1"]
    assert servers.all[0].websocket_url == "ws://Host:6600/base/App/Notify"
    assert servers.all[1].websocket_url == "wss://b/App/Notify"
    with pytest.raises(ValueError, match="scheme"):
        ServerList("localhost:6600")


@pytest.mark.case("X22", "C39")
def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer() as proxy:
        proxy.answers["*"] = lambda handler: handler.reply({"via": handler.path})
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        data = Transport(ServerList("http://platform.invalid:6600"), "test").call(PING, TOKEN, 5).data
        assert data == {"via": "http://platform.invalid:6600/App/Ping"}
        monkeypatch.setenv("no_proxy", "platform.invalid")
        with pytest.raises(UnavailableError):
            Transport(ServerList("http://platform.invalid:6600"), "test").call(PING, TOKEN, 5)


def test_a_netrc_entry_does_not_replace_the_token(
    server: FaultyServer, ask: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask()
    assert server.calls[-1].headers["Authorization"] == f"Bearer {TOKEN.reveal()}"


def test_our_traffic_is_not_the_applications(
    server: FaultyServer, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A test suite that patches requests must not see us, nor a log that shows urllib3's debug lines."""

    def patched(*_: object, **__: object) -> None:
        raise AssertionError("our call went through the application's patch")

    monkeypatch.setattr(requests.Session, "send", patched)
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", patched)
    monkeypatch.setattr(requests.Session, "get_adapter", patched)
    caplog.set_level("DEBUG")
    assert ask()["period"] == 60
    assert [record for record in caplog.records if record.name.startswith("urllib3")] == []


def test_errors_are_explained_in_one_line() -> None:
    assert explain(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert explain(requests.ConnectionError(TimeoutError())) == "no answer in time"
    assert "\n" not in explain(ValueError("a\nb" * 500))
    assert len(explain(ValueError("a\nb" * 500))) < 250
    assert MAX_BODY == 8 << 20
