"""The push socket against a real WebSocket server (protocol.md §2.8, §12.4)."""

from __future__ import annotations

import inspect
import json
import logging
import queue
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import websockets.sync.server
from _kit.hand_clock import HandClock
from _kit.ports import reserved_port
from websockets.utils import accept_key

from stardust_auto.privacy import Secret
from stardust_auto.process import backoff
from stardust_auto.process.background import Worker
from stardust_auto.session.push import Push
from stardust_auto.session.session import Session
from stardust_auto.transport import websocket

if TYPE_CHECKING:
    from _kit.faulty_server import FaultyServer


NewSession = Callable[..., Session]


def test_ping_first_then_the_socket_then_commands(server: FaultyServer, new_session: NewSession) -> None:
    ran = threading.Event()
    session = new_session(server.url, push=True)
    session.commands.register("config/publish", lambda command: ran.set())
    session.start()
    connected = server.wait_for_socket()
    paths = [call.path for call in server.calls if call.path != "app/postevents"]
    assert paths[:3] == ["app/login", "app/ping", "app/notify"]
    assert connected.token == "Bearer token-1"
    started = time.monotonic()
    connected.push("config/publish", 23, Expire="2999-11-24T05:26:32Z")
    assert ran.wait(5)
    assert time.monotonic() - started < 0.5
    assert server.wait_for("app/commandreply").body == {"Id": 23, "Status": 2, "Data": ""}
    # The same command comes with the next Ping, too: dropped by its id.
    connected.push("config/publish", 23)
    connected.push("no/such", 24)
    assert server.wait_for("app/commandreply", 2).body["Id"] == 24
    assert session.status.push


def test_text_ping_each_period_and_pong(server: FaultyServer, new_session: NewSession) -> None:
    server.period = 1
    session = new_session(server.url, push=True)
    session.start()
    connected = server.wait_for_socket()
    assert connected.texts.get(timeout=5) == "Ping"
    connected.send("Ping")
    texts = [connected.texts.get(timeout=5), connected.texts.get(timeout=5)]
    assert "Pong" in texts


def test_odd_frames_do_no_harm(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url, push=True)
    session.start()
    connected = server.wait_for_socket()
    for text in ("event#topic#me#{}", "Pong", "", "[1]", "{", "{}", '{"Id":1}', "\ufffd", "{" * 50_000, "x" * 900_000):
        connected.send(text)
    connected.push("no/such", 9)
    assert server.wait_for("app/commandreply").body["Id"] == 9
    assert len(server.sockets) == 1


@pytest.mark.case("C35")
def test_after_reconnecting_every_task_looks_for_itself(server: FaultyServer, new_session: NewSession) -> None:
    runs: queue.Queue[bool] = queue.Queue()

    class Task:
        name = "config"

        def run(self) -> float | None:
            runs.put(session.status.push)
            return None

        def finish(self, deadline: float) -> None:
            return

    def wait_for_a_run_with_the_socket() -> None:
        # The run at the start may come before the socket is open, or with it: two wake-ups of a task that waits are one run.
        while not runs.get(timeout=10):
            continue

    session = new_session(server.url, push=True)
    session.add_task(Task())
    session.start()
    wait_for_a_run_with_the_socket()
    server.wait_for_socket().close(1000)
    server.wait_for_socket(2)
    wait_for_a_run_with_the_socket()


def test_a_second_instance_with_our_identity(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The first socket is reset without a close frame: take another identity instead of fighting (§12.4)."""
    caplog.set_level(logging.WARNING, "stardust_auto")
    session = new_session(server.url, push=True, client_id="10.0.0.5@1")
    session.start()
    server.wait_for_socket().reset()
    server.wait_for("app/login", 2)
    second = server.wait_for_socket(2)
    identities = [call.body["ClientId"] for call in server.of("app/login")]
    assert identities[0] == "10.0.0.5@1"
    assert identities[1].startswith("10.0.0.5@1-")
    assert len([line for line in caplog.messages if "another instance uses the identity" in line]) == 1
    second.reset()  # whatever that was: no third identity within minutes
    server.wait_for_socket(3)
    assert server.count("app/login") == 2


def test_stop_closes_with_a_frame(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url, push=True)
    session.start()
    connected = server.wait_for_socket()
    while not session.status.push:
        time.sleep(0.01)
    assert session.stop()
    assert connected.ended.wait(5)
    assert connected.close_code == 1001


def test_a_refused_upgrade_leads_to_a_new_login(server: FaultyServer, new_session: NewSession) -> None:
    """HTTP 200 with code 401 in the body, chunked (§12.1 row 4); the Ping then finds the token refused, too."""
    session = new_session(server.url, push=True)

    def refuse(handler: Any) -> None:
        server.token = "token-2"
        del server.answers["app/notify"]
        body = json.dumps({"code": 401, "message": "expired"}).encode()
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        handler.close_connection = True

    server.answers["app/notify"] = refuse
    session.start()
    assert server.wait_for_socket().token == "Bearer token-2"
    assert server.count("app/login") == 2


def test_a_server_without_the_socket_is_asked_rarely(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stardust_auto")
    server.accept_sockets = False
    server.period = 1
    session = new_session(server.url, push=True)
    session.start()
    server.wait_for("app/ping", 4)
    assert server.count("app/notify") == 1
    assert len([line for line in caplog.messages if "no push from this server" in line]) == 1
    assert session.state == "online"


class Host:
    """Stands for the connection of a session, and notes what a push socket says."""

    def __init__(self, url: str, clock: HandClock) -> None:
        self.servers = SimpleNamespace(active=SimpleNamespace(websocket_url=url))
        self.token: Secret | None = Secret("planted-token-7f3a")
        self.online, self.leaving, self.period = True, False, 60
        self.commands: list[str | None] = []
        self.losses: list[bool] = []
        self.opens = 0
        self.push = Push(
            self,  # type: ignore[arg-type]  # it stands for the connection
            Worker(clock.monotonic),
            clock,
            on_command=lambda command: self.commands.append(command.command),
            on_open=self.opened,
            on_lost=self.losses.append,
        )

    def opened(self) -> None:
        self.opens += 1


def drive(push: Push, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline
        push.run()
        time.sleep(0.005)


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


@pytest.fixture
def longest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No jitter: each wait is as long as it may be."""
    monkeypatch.setattr(backoff, "generator", SimpleNamespace(random=lambda: 0.0))


def serve(handle: Callable[..., Any], **options: Any) -> Any:
    running = websockets.sync.server.serve(handle, "127.0.0.1", 0, **options)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    return running


def url_of(running: Any) -> str:
    return f"ws://127.0.0.1:{running.socket.getsockname()[1]}/App/Notify"


@pytest.mark.usefixtures("longest_waits")
@pytest.mark.parametrize(("code", "wait"), [(1001, 60.0), (1012, 60.0), (1000, 4.0), (1011, 4.0)])
def test_when_to_come_back(clock: HandClock, code: int, wait: float) -> None:
    with serve(lambda connection: connection.close(code, "Dispose")) as running:
        host = Host(url_of(running), clock)
        drive(host.push, lambda: bool(host.losses))
        assert host.losses == [False]
        assert host.push.run() == wait  # not before


@pytest.mark.usefixtures("longest_waits")
def test_a_socket_that_is_closed_at_once_makes_no_storm(clock: HandClock) -> None:
    """Each opening used to wake every task, each loss to send a Ping, and the back-off began again each time."""
    opened: list[float] = []

    def handle(connection: Any) -> None:
        opened.append(clock.now)
        connection.close(1000)

    with serve(handle) as running:
        host = Host(url_of(running), clock)
        end = clock.now + 600
        while clock.now < end:
            sockets = len(opened)
            drive(host.push, lambda: len(opened) > sockets and host.push._socket is None)  # noqa: B023 - run at once
            clock.now += host.push.run() or 0.0
    assert len(opened) < 20
    assert host.opens <= 2
    assert len(host.losses) <= 2


def test_a_socket_that_has_lived_for_a_while_begins_the_back_off_again(clock: HandClock) -> None:
    with serve(lambda connection: connection.recv()) as running:
        host = Host(url_of(running), clock)
        host.push._backoff.failed()
        host.push._backoff.failed()
        drive(host.push, lambda: host.push.connected and host.push._opened_at is not None)
        assert host.opens == 0
        clock.now += 11
        host.push.run()
        assert (host.opens, host.push._backoff.failures) == (1, 0)
        host.push.finish(0.0)


def raw(talk: Callable[[socket.socket], None]) -> socket.socket:
    """A server that completes the handshake by hand, and then does what ``talk`` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536).decode()
            key = next(line for line in request.splitlines() if line.lower().startswith("sec-websocket-key")).split()[1]
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
            )
            try:
                talk(connection)
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()
    return listener


def flood(frame: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        block = frame * (1 + 65536 // len(frame))
        while True:
            connection.sendall(block)

    return talk


@pytest.mark.parametrize(
    "frame", [b"\x81\x01x", b'\x81\x18{"Id":0,"Command":"flood"}'[:26], b"\x89\x00"], ids=["texts", "commands", "pings"]
)
def test_a_server_that_sends_without_end_is_read_in_turns_and_cut_off(clock: HandClock, frame: bytes) -> None:
    with raw(flood(frame)) as listener:
        host = Host(f"ws://127.0.0.1:{listener.getsockname()[1]}/App/Notify", clock)
        tracemalloc.start()
        longest = turns = 0.0
        while not host.losses:
            started = time.process_time()
            wait = host.push.run()
            longest, turns = max(longest, time.process_time() - started), turns + 1
            assert turns < 5000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000
    assert longest < 1.0  # a turn, with tracemalloc watching
    assert wait == 600  # not asked again soon


def test_a_frame_that_breaks_the_protocol_ends_the_socket(clock: HandClock) -> None:
    """The server does not hang up; the socket must not be taken for alive until it has been silent for minutes."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"\xf1\x01x")
        time.sleep(20)

    with raw(talk) as listener:
        host = Host(f"ws://127.0.0.1:{listener.getsockname()[1]}/App/Notify", clock)
        drive(host.push, lambda: bool(host.losses))
        assert not host.push.connected


def test_a_proxy_that_drips_its_answer_is_bounded(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(listener: socket.socket) -> None:
        client, _ = listener.accept()
        client.recv(4096)
        for byte in b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 1000:
            try:
                client.sendall(bytes([byte]))
            except OSError:
                return
            time.sleep(0.05)

    monkeypatch.setattr(websocket, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        host = Host("ws://platform.invalid:6600/App/Notify", clock)
        started = time.monotonic()
        host.push.run()
        assert time.monotonic() - started < 1.5
        assert host.losses == [False]


def test_silence_means_another_connection(clock: HandClock) -> None:
    """No close frame, no reset: three silent periods (§2.8)."""
    gone = threading.Event()
    # Servers of websockets below 15 send no pings by themselves, and have no word to forbid it.
    silent = (
        {"ping_interval": None} if "ping_interval" in inspect.signature(websockets.sync.server.serve).parameters else {}
    )
    with serve(lambda connection: gone.wait(20), **silent) as running:
        host = Host(url_of(running), clock)
        push = host.push
        drive(push, lambda: host.opens == 1)
        clock.now += 179
        push.run()
        assert host.losses == []
        clock.now += 2
        push.run()
        assert host.losses == [False]
        assert not push.connected
        gone.set()


def test_a_connection_that_hangs_in_the_handshake(clock: HandClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = Host(f"ws://127.0.0.1:{listener.getsockname()[1]}/App/Notify", clock)
        push = host.push
        assert push.run() == 5
        clock.now += 5.1
        push.run()
        assert host.losses == [False]


@pytest.mark.usefixtures("longest_waits")
def test_refused_connections_are_spaced_out(clock: HandClock) -> None:
    push = Host(f"ws://127.0.0.1:{reserved_port()}/x", clock).push
    waits = []
    for _ in range(7):
        waits.append(push.run() or 0)
        clock.now += waits[-1]
    assert waits == [4, 8, 16, 32, 60, 60, 60]


def test_fragments_and_protocol_pings(clock: HandClock) -> None:
    def handle(connection: Any) -> None:
        assert connection.ping().wait(5)
        connection.send(['{"Id":1,', '"Command":"a"}'])  # an iterable is sent as fragments
        connection.send('{"Id":2,"Command":"b"}')
        connection.recv()

    with serve(handle) as running:
        host = Host(url_of(running), clock)
        push = host.push
        drive(push, lambda: len(host.commands) == 2)
        assert host.commands == ["a", "b"]
        push.finish(0.0)


def test_a_message_beyond_the_limit_ends_the_connection(clock: HandClock) -> None:
    def handle(connection: Any) -> None:
        connection.send("x" * 2_000_000)
        connection.recv()

    with serve(handle) as running:
        host = Host(url_of(running), clock)
        push = host.push
        drive(push, lambda: bool(host.losses))


def test_through_a_proxy(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    connects: list[bytes] = []

    with serve(lambda connection: connection.send('{"Id":1,"Command":"a"}')) as running:
        port = running.socket.getsockname()[1]

        def tunnel(listener: socket.socket) -> None:
            client, _ = listener.accept()
            connects.append(client.recv(4096))
            upstream = socket.create_connection(("127.0.0.1", port))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for source, target in ((client, upstream), (upstream, client)):
                threading.Thread(target=pump, args=(source, target), daemon=True).start()

        def pump(source: socket.socket, target: socket.socket) -> None:
            while data := source.recv(4096):
                target.sendall(data)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=tunnel, args=(listener,), daemon=True).start()
            monkeypatch.setenv("http_proxy", f"http://user:pw@127.0.0.1:{listener.getsockname()[1]}")
            monkeypatch.setenv("no_proxy", "")
            host = Host("ws://platform.invalid:6600/App/Notify", clock)
            push = host.push
            drive(push, lambda: host.commands == ["a"])
        assert connects[0].startswith(b"CONNECT platform.invalid:6600 ")
        assert b"Proxy-Authorization: Basic dXNlcjpwdw==" in connects[0]
        assert b"planted-token" not in connects[0]


def test_the_token_is_not_logged(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    caplog.set_level(logging.WARNING, "websockets.server")  # the test's own
    with serve(lambda connection: connection.close(1000)) as running:
        host = Host(url_of(running), clock)
        push = host.push
        drive(push, lambda: bool(host.losses))
    assert "planted-token" not in " ".join(record.getMessage() for record in caplog.records)
