"""The transport under every fault of a server: bounded in time and memory, one clear error, recovery at the next call."""

from __future__ import annotations

import gzip
import http.client
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from _kit.faulty_server import FaultyServer, Handler
from _kit.hand_clock import HandClock
from _kit.ports import reserved_port

from stardust_auto.environment.identity import Identity
from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.privacy import Secret
from stardust_auto.process import sockets
from stardust_auto.transport.http import MAX_BODY, HttpClient, Request, explain
from stardust_auto.transport.network import proxy_for
from stardust_auto.transport.servers import Server, ServerList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = Secret("planted-token-7f3a")
PING = Request("POST", "App/Ping", b"{}", "application/json", is_probe=True)
#: It must not be carried out twice.
ONCE = Request("POST", "App/Ping", b"{}", "application/json", repeatable=False)


@pytest.fixture
def ask(server: FaultyServer) -> Iterator[Callable[..., Any]]:
    server.token = TOKEN.reveal()
    transport = HttpClient(ServerList([server.url]), "test")

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
            HttpClient(ServerList([url]), "test").call(PING, TOKEN, 0.6)
        assert 0.4 < time.monotonic() - started < 1.2
        assert caught.value.may_have_arrived


def test_slow_tls_is_bounded() -> None:
    with raw_server(hang) as url:
        started = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            HttpClient(ServerList([url.replace("http", "https")]), "test").call(PING, TOKEN, 0.5)
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
        HttpClient(ServerList([url.replace("http", "https")]), "test").call(PING, TOKEN, 3)
    assert not caught.value.may_have_arrived


def test_refused_connection() -> None:
    with pytest.raises(UnavailableError, match="refused") as caught:
        HttpClient(ServerList([f"http://127.0.0.1:{reserved_port()}"]), "test").call(PING, TOKEN, 3)
    assert not caught.value.may_have_arrived


def test_unknown_host() -> None:
    with pytest.raises(UnavailableError) as caught:
        HttpClient(ServerList(["http://no-such-host.invalid:6600"]), "test").call(PING, TOKEN, 5)
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
    clock = HandClock()
    with FaultyServer() as first, FaultyServer() as second:
        first.token = second.token = TOKEN.reveal()
        servers = ServerList([first.url, second.url], clock)
        transport = HttpClient(servers, "test")
        first.answers["app/ping"] = lambda handler: handler.reply_bytes(b"", 503)
        assert transport.call(PING, TOKEN, 5).server == Server(second.url)
        assert servers.active.url == second.url
        transport.call(PING, TOKEN, 5)
        assert first.count("app/ping") == 1  # shielded for a minute
        del first.answers["app/ping"]
        clock.now += 61
        assert transport.call(PING, TOKEN, 5).server == Server(first.url)
        # Nothing that may have arrived is repeated elsewhere, unless it does no harm.
        first.answers["app/ping"] = lambda handler: handler.reset()
        with pytest.raises(UnavailableError):
            transport.call(ONCE, TOKEN, 5)
        assert second.count("app/ping") == 2
        # All shielded: all are tried again.
        servers.failed(Server(second.url))
        del first.answers["app/ping"]
        assert transport.call(PING, TOKEN, 5).server == Server(first.url)
        transport.close()


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (lambda h: h.reply_bytes(b'{"code":0,"da'), 0),  # the first server has it; its answer was cut
        (lambda h: h.reply_bytes(b"<html>log in to the hotel</html>"), 1),
        (lambda h: h.reply_bytes(b"", 404), 1),
        (lambda h: h.reply_bytes(b"", 502), 1),
        (lambda h: h.reply_bytes(b"", 504), 0),
        (lambda h: h.reply_bytes(b"", 500), 0),
    ],
)
def test_what_may_have_arrived_is_not_offered_to_the_next_server(answer: Callable[[Handler], None], asked: int) -> None:
    with FaultyServer() as first, FaultyServer() as second:
        second.token = TOKEN.reveal()
        first.answers["app/ping"] = answer
        transport = HttpClient(ServerList([first.url, second.url]), "test")
        with suppress(StardustError):
            transport.call(ONCE, TOKEN, 5)
        assert second.count("app/ping") == asked


def test_only_a_probe_finds_out_whether_a_server_is_back() -> None:
    """A report to a server that still hangs would be lost."""
    clock = HandClock()
    with FaultyServer() as first, FaultyServer() as second:
        first.token = second.token = TOKEN.reveal()
        transport = HttpClient(ServerList([first.url, second.url], clock), "test")
        first.answers["app/ping"] = lambda handler: handler.reply_bytes(b"", 503)
        transport.call(PING, TOKEN, 5)
        del first.answers["app/ping"]
        clock.now += 61
        assert transport.call(ONCE, TOKEN, 5).server == Server(second.url)
        assert transport.call(PING, TOKEN, 5).server == Server(first.url)
        assert transport.call(ONCE, TOKEN, 5).server == Server(first.url)


def test_an_error_code_is_an_answer_not_a_reason_to_switch() -> None:
    with FaultyServer() as first, FaultyServer() as second:
        first.answers["app/ping"] = lambda handler: handler.reply(None, 403, "no")
        with pytest.raises(ApiError):
            HttpClient(ServerList([first.url, second.url]), "test").call(PING, TOKEN, 5)
        assert second.calls == []


def test_server_list_entries() -> None:
    servers = ServerList(
        Identity("main=3*http://User:pw@Host:6600/base/, https://b#token=x;http://b:1", "demo").servers
    )
    assert [server.url for server in servers.all] == ["http://Host:6600/base", "https://b", "http://b:1"]
    assert servers.all[0].websocket_url == "ws://Host:6600/base/App/Notify"
    assert servers.all[1].websocket_url == "wss://b/App/Notify"
    with pytest.raises(ValueError, match="scheme"):
        Identity("localhost:6600", "demo")


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer() as proxy:
        proxy.answers["*"] = lambda handler: handler.reply({"via": handler.path})
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        data = HttpClient(ServerList(["http://platform.invalid:6600"]), "test").call(PING, TOKEN, 5).data
        assert data == {"via": "http://platform.invalid:6600/App/Ping"}
        monkeypatch.setenv("no_proxy", "platform.invalid")
        with pytest.raises(UnavailableError):
            HttpClient(ServerList(["http://platform.invalid:6600"]), "test").call(PING, TOKEN, 5)


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("http://10.1.2.3:6600", "10.0.0.0/8", None),
        ("http://10.1.2.3:6600", "192.168.0.0/16, 10.1.2.3", None),
        ("http://star.example.com", ".example.com", None),
        ("http://star.example.com", "example.com", None),
        ("http://star.example.com:6600", "example.com:6600", None),
        ("http://star.example.com", "*", None),
        ("http://star.example.com", "other.com, 10.0.0.0/8, nonsense/9", "http://proxy:3128"),
        ("https://star.example.com", "", "http://secure:3128"),
        ("http://[::1]:6600", "", "http://proxy:3128"),
    ],
)
def test_which_proxy(monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, expected: str | None) -> None:
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("https_proxy", "http://secure:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_for(url) == expected


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(UnavailableError, match="not supported"):
        HttpClient(ServerList(["https://platform.invalid"]), "test").call(PING, TOKEN, 5)


def test_a_proxy_that_drips_its_answer_to_connect_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(drip(b"HTTP/1.1 200 OK\r\nX-A: ")) as url:
        monkeypatch.setenv("https_proxy", url)
        monkeypatch.setenv("no_proxy", "")
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="in time"):
            HttpClient(ServerList(["https://platform.invalid"]), "test").call(PING, TOKEN, 0.6)
        assert time.monotonic() - started < 1.2


def test_an_answer_of_the_resolver_that_comes_too_late_serves_the_next_call(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = TOKEN.reveal()
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def slow(host: str, port: int, *rest: Any) -> Any:
        if host != "platform.test" or rest[-1] == socket.AI_NUMERICHOST:
            return resolve(host, port, *rest)
        asked.append(host)
        time.sleep(0.8)
        return resolve("127.0.0.1", port, *rest)

    monkeypatch.setitem(sockets._original, "getaddrinfo", slow)
    transport = HttpClient(ServerList([f"http://platform.test:{server.port}"]), "test")
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="in time") as caught:
        transport.call(PING, TOKEN, 0.3)
    assert time.monotonic() - started < 0.6
    assert not caught.value.may_have_arrived
    assert transport.call(PING, TOKEN, 0.9).data["period"] == 60
    assert asked == ["platform.test"]


def test_one_connection_is_kept_and_a_dead_one_is_noticed() -> None:
    port = reserved_port()
    with FaultyServer(port) as first:
        first.token = TOKEN.reveal()
        transport = HttpClient(ServerList([first.url]), "test")
        for _ in range(3):
            transport.call(PING, TOKEN, 5)
        assert len(first._connections) == 1
    with FaultyServer(port) as second:
        second.token = TOKEN.reveal()
        assert transport.call(ONCE, TOKEN, 5).data["period"] == 60  # not sent into the dead connection
        transport.close()


def test_a_proxy_that_refuses_a_large_body_before_it_has_read_it() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.3)

    request = Request("POST", "Trace/ReportRaw", b"x" * 20_000_000, "application/x-gzip", repeatable=False)
    with raw_server(talk) as url, pytest.raises(StardustError) as caught:
        HttpClient(ServerList([url]), "test").call(request, TOKEN, 5)
    assert not caught.value.may_have_arrived  # type: ignore[attr-defined]  # either kind has it


def test_an_endless_row_of_100_continue_ends_early() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    used = time.process_time()
    with raw_server(talk) as url, pytest.raises(UnavailableError):
        HttpClient(ServerList([url]), "test").call(PING, TOKEN, 5)
    assert time.process_time() - used < 1.0


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
    monkeypatch.setattr(http.client, "HTTPConnection", patched)
    monkeypatch.setattr(http.client, "HTTPResponse", patched)
    monkeypatch.setattr(socket, "create_connection", patched)
    caplog.set_level("DEBUG")
    assert ask()["period"] == 60
    assert [record for record in caplog.records if record.name.startswith("urllib3")] == []


def test_errors_are_explained_in_one_line() -> None:
    assert explain(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert explain(TimeoutError()) == "no answer in time"
    assert "\n" not in explain(ValueError("a\nb" * 500))
    assert len(explain(ValueError("a\nb" * 500))) < 250
    assert MAX_BODY == 8 << 20
