"""The push socket against a real WebSocket server (protocol.md §2.8, §12.4)."""

from __future__ import annotations

import inspect
import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import websockets.sync.server
from _kit.ports import reserved_port

from stardust_auto.privacy import Secret
from stardust_auto.process.background import Worker
from stardust_auto.session.push import Push
from stardust_auto.session.session import Session

if TYPE_CHECKING:
    from _kit.faulty_server import FaultyServer

    from stardust_auto.wire.messages import Command

NewSession = Callable[..., Session]


def test_ping_first_then_the_socket_then_commands(server: FaultyServer, new_session: NewSession) -> None:
    ran = threading.Event()
    session = new_session(server.url, push=True)
    session.register_command("config/publish", lambda command: ran.set())
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
    """What a push socket needs, held by the test; no session around it."""

    def __init__(self, url: str, worker: Worker) -> None:
        self.url = url
        self.worker = worker
        self.push: Push | None = None
        self.period = 60
        self.token: Secret | None = Secret("planted-token-7f3a")
        self.commands: list[str | None] = []
        self.losses: list[bool] = []
        self.opens = 0

    def push_url(self) -> str:
        return self.url

    def push_token(self) -> Secret | None:
        return self.token

    def push_period(self) -> int:
        return self.period

    def user_agent(self) -> str:
        return "test"

    def watch_push(self, sock: socket.socket | None) -> None:
        return

    def push_command(self, command: Command) -> None:
        self.commands.append(command.command)

    def push_opened(self) -> None:
        self.opens += 1

    def push_lost(self, *, reset: bool) -> None:
        self.losses.append(reset)


def drive(push: Push, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline
        push.run()
        time.sleep(0.005)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def serve(handle: Callable[..., None], **options: Any) -> Any:
    running = websockets.sync.server.serve(handle, "127.0.0.1", 0, **options)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    return running


def url_of(running: Any) -> str:
    return f"ws://127.0.0.1:{running.socket.getsockname()[1]}/App/Notify"


@pytest.mark.parametrize(
    ("code", "low", "high"), [(1001, 0.5, 60.0), (1012, 0.5, 60.0), (1000, 0.0, 4.0), (1011, 0.0, 4.0)]
)
def test_when_to_come_back(clock: Clock, code: int, low: float, high: float) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(a: float, b: float) -> float:
        asked.append((a, b))
        return b

    with serve(lambda connection: connection.close(code, "Dispose")) as running:
        host = Host(url_of(running), Worker(clock))
        push = Push(host, clock=clock, uniform=uniform)
        drive(push, lambda: bool(host.losses))
        assert (asked, host.losses) == ([(low, high)], [False])
        assert push.run() == high  # not before


@pytest.mark.case("C35")
def test_silence_means_another_connection(clock: Clock) -> None:
    """No close frame, no reset: three silent periods (§2.8)."""
    gone = threading.Event()
    # Servers of websockets below 15 send no pings by themselves, and have no word to forbid it.
    silent = (
        {"ping_interval": None} if "ping_interval" in inspect.signature(websockets.sync.server.serve).parameters else {}
    )
    with serve(lambda connection: gone.wait(20), **silent) as running:
        host = Host(url_of(running), Worker(clock))
        push = Push(host, clock=clock)
        drive(push, lambda: host.opens == 1)
        clock.now += 179
        push.run()
        assert host.losses == []
        clock.now += 2
        push.run()
        assert host.losses == [False]
        assert not push.connected
        gone.set()


def test_a_connection_that_hangs_in_the_handshake(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = Host(f"ws://127.0.0.1:{listener.getsockname()[1]}/App/Notify", Worker(clock))
        push = Push(host, clock=clock)
        assert push.run() == 5
        clock.now += 5.1
        push.run()
        assert host.losses == [False]


def test_refused_connections_are_spaced_out(clock: Clock) -> None:
    limits: list[float] = []

    def uniform(a: float, b: float) -> float:
        limits.append(b)
        return b

    push = Push(Host(f"ws://127.0.0.1:{reserved_port()}/x", Worker(clock)), clock=clock, uniform=uniform)
    for _ in range(7):
        clock.now += push.run() or 0
    assert limits == [4, 8, 16, 32, 60, 60, 60]


def test_fragments_and_protocol_pings(clock: Clock) -> None:
    def handle(connection: Any) -> None:
        assert connection.ping().wait(5)
        connection.send(['{"Id":1,', '"Command":"a"}'])  # an iterable is sent as fragments
        connection.send('{"Id":2,"Command":"b"}')
        connection.recv()

    with serve(handle) as running:
        host = Host(url_of(running), Worker(clock))
        push = Push(host, clock=clock)
        drive(push, lambda: len(host.commands) == 2)
        assert host.commands == ["a", "b"]
        push.close()


def test_a_message_beyond_the_limit_ends_the_connection(clock: Clock) -> None:
    def handle(connection: Any) -> None:
        connection.send("x" * 2_000_000)
        connection.recv()

    with serve(handle) as running:
        host = Host(url_of(running), Worker(clock))
        push = Push(host, clock=clock)
        drive(push, lambda: bool(host.losses))


def test_through_a_proxy(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
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
            host = Host("ws://platform.invalid:6600/App/Notify", Worker(clock))
            push = Push(host, clock=clock)
            drive(push, lambda: host.commands == ["a"])
        assert connects[0].startswith(b"CONNECT platform.invalid:6600 ")
        assert b"Proxy-Authorization: Basic dXNlcjpwdw==" in connects[0]
        assert b"planted-token" not in connects[0]


def test_the_token_is_not_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    caplog.set_level(logging.WARNING, "websockets.server")  # the test's own
    with serve(lambda connection: connection.close(1000)) as running:
        host = Host(url_of(running), Worker(clock))
        push = Push(host, clock=clock)
        drive(push, lambda: bool(host.losses))
    assert "planted-token" not in " ".join(record.getMessage() for record in caplog.records)
