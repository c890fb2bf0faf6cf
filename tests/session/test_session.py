"""Login, token, heartbeat, states, stop: against a real server with injected faults."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import LAUNCHER
from _kit.faulty_server import FaultyServer, Handler
from _kit.hand_clock import HandClock
from _kit.ports import reserved_port

from stardust_auto.environment.identity import Identity
from stardust_auto.errors import ApiError, BadReplyError, UnavailableError
from stardust_auto.process import backoff
from stardust_auto.process.clock import SYSTEM_CLOCK, Clock
from stardust_auto.session.account import Account
from stardust_auto.session.connection import Connection
from stardust_auto.session.session import Session
from stardust_auto.transport.http import json_request
from stardust_auto.transport.servers import ServerList
from stardust_auto.wire.proof import md5_hex, proves

if TYPE_CHECKING:
    from pathlib import Path

NewSession = Callable[..., Session]


class Silent:
    """Events that nobody needs."""

    def on_online(self, *, again: bool) -> None:
        return

    def on_failed(self, wait: float) -> None:
        return

    def on_doubt(self) -> None:
        return

    def on_commands(self, commands: object) -> None:
        return


def connection_to(url: str, tmp_path: Path, secret: str | None = None, clock: Clock = SYSTEM_CLOCK) -> Connection:
    identity = Identity(url, "demo", secret, client_id="10.0.0.5@1", cache_dir=str(tmp_path / "cache"))
    servers = ServerList(identity.servers, clock)
    return Connection(servers, Account(servers.all[0], identity), Silent(), clock)


def wait_until(condition: Callable[[], bool], timeout: float = 8.0) -> None:
    """For states that have no event of their own."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_login_then_ping_at_once(server: FaultyServer, new_session: NewSession) -> None:  # protocol.md §12.4
    session = new_session(server.url, secret="plain-secret", version="v1.2-rc1", app_name="Demo")
    session.start()
    server.wait_for("app/postevents")
    assert [call.path for call in server.calls[:2]] == ["app/login", "app/ping"]
    login, ping = server.calls[0], server.calls[1]
    assert proves(login.body["Secret"], md5_hex("plain-secret"), time.time())
    assert login.body["Secret"].startswith("$md5$")
    assert (login.body["AppId"], login.body["AppName"], login.body["Version"]) == ("demo", "Demo", "1.2")
    assert login.body["Compile"] >= 1_735_689_600_000  # §2.8: so that times of commands are UTC
    assert login.body["ClientId"].endswith(f"@{os.getpid()}")
    assert "Authorization" not in login.headers
    assert ping.headers["Authorization"] == "Bearer token-1"
    assert all(call.query == "" for call in server.calls)  # the token is never in a URL
    assert ping.headers["User-Agent"].startswith("stardust-auto/")
    assert (session.state, session.account.client_id) == ("online", login.body["ClientId"])


def test_metrics_of_a_ping(server: FaultyServer, new_session: NewSession) -> None:  # protocol.md §2.5
    session = new_session(server.url)
    session.start()
    body = server.wait_for("app/ping").body
    assert body["Id"] == os.getpid()
    for name, low, high in (
        ("ProcessorTime", 1, 10**9),
        ("WorkingSet", 10**6, 10**12),
        ("Threads", 1, 10**5),
        ("Handles", 3, 10**6),
        ("GCCount", 0, 10**6),
        ("Connections", 0, 10**5),
    ):
        assert type(body[name]) is int
        assert low <= body[name] <= high, name
    assert abs(body["Time"] - time.time() * 1000) < 60_000
    assert f"127.0.0.1:{server.port}" in body["Listens"]
    assert time.strptime(body["StartTime"], "%Y-%m-%d %H:%M:%S")


def test_issued_credentials_are_kept_and_used_at_the_next_start(
    server: FaultyServer, new_session: NewSession, tmp_path: Path
) -> None:
    first = new_session(server.url, secret="configured")
    first.start()
    server.wait_for("app/ping")
    first.stop()
    (saved,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert json.loads(saved.read_text())["secret"] == server.secret
    second = new_session(server.url, secret="configured")
    second.start()
    server.wait_for("app/login", 2)
    assert proves(server.of("app/login")[1].body["Secret"], md5_hex(server.secret), time.time())


def test_refused_kept_credentials_give_way_to_the_configured_ones(
    server: FaultyServer, new_session: NewSession, tmp_path: Path
) -> None:
    first = new_session(server.url, secret="configured")
    first.start()
    server.wait_for("app/ping")
    first.stop()

    def strict(handler: Handler) -> None:
        if proves(handler.call_body["Secret"], md5_hex("configured"), time.time()):
            handler.reply({"code": None, "secret": None, "name": "demo", "token": server.token, "serverTime": 0})
        else:
            handler.reply(None, 403, "wrong secret")

    server.answers["app/login"] = strict
    second = new_session(server.url, secret="configured")
    second.start()
    server.wait_for("app/ping", 2)
    assert server.count("app/login") == 3
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_application_that_is_disabled_for_a_while_keeps_its_secret(
    server: FaultyServer, new_session: NewSession, tmp_path: Path
) -> None:
    first = new_session(server.url)
    first.start()
    server.wait_for("app/ping")
    first.stop()
    for code in (403, 500):
        server.answers["app/login"] = lambda handler, code=code: handler.reply(None, code, "disabled")  # type: ignore[misc]  # bound now
        with pytest.raises(ApiError):
            new_session(server.url).call("x")
        (saved,) = (tmp_path / "cache").iterdir()
        assert server.secret in saved.read_text()
    del server.answers["app/login"]
    new_session(server.url).call("App/Ping", {})
    assert proves(server.of("app/login")[-1].body["Secret"], md5_hex(server.secret), time.time())


@pytest.mark.parametrize("spoil", ["not json", "wide rights", "link", "other key", "folder missing"])
def test_spoilt_credential_files_are_ignored(
    server: FaultyServer, new_session: NewSession, tmp_path: Path, spoil: str
) -> None:
    first = new_session(server.url, secret="configured")
    first.start()
    server.wait_for("app/ping")
    first.stop()
    (saved,) = (tmp_path / "cache").iterdir()
    if spoil == "not json":
        saved.write_text("{")
    elif spoil == "wide rights":
        saved.chmod(0o644)
    elif spoil == "link":
        saved.rename(tmp_path / "elsewhere.json")
        saved.symlink_to(tmp_path / "elsewhere.json")
    elif spoil == "other key":
        saved.write_text(saved.read_text().replace("demo", "other"))
    else:
        saved.unlink()
        saved.parent.rmdir()
    second = new_session(server.url, secret="configured")
    second.start()
    server.wait_for("app/login", 2)
    assert proves(server.of("app/login")[1].body["Secret"], md5_hex("configured"), time.time())


def test_a_cache_folder_that_cannot_be_written(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stardust_auto")
    session = new_session(server.url, cache_dir="/proc/nowhere")
    session.start()
    server.wait_for("app/ping")
    assert len([line for line in caplog.messages if "cannot keep issued credentials" in line]) == 1


def test_a_full_disk(
    server: FaultyServer,
    new_session: NewSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    new_session(server.url).call("App/Ping", {})
    assert list((tmp_path / "cache").iterdir()) == []
    assert len([line for line in caplog.messages if "No space left on device" in line]) == 1


def test_the_salt_follows_the_servers_clock(tmp_path: Path) -> None:
    """Our clock is an hour off: the Date header of the refusal tells, and the second attempt gets through."""
    with FaultyServer() as server:

        def strict(handler: Handler) -> None:
            if proves(handler.call_body["Secret"], md5_hex("s3cret"), time.time()):
                server.default(handler)
            else:
                handler.reply(None, 403, "wrong secret")

        server.answers["app/login"] = strict
        connection = connection_to(server.url, tmp_path, "s3cret", clock=HandClock(wall=time.time() - 3600))
        connection.beat()
        assert server.count("app/login") == 2
        assert abs(connection.clock_offset_ms - 3_600_000) < 5000
        assert abs(connection.now_ms() - time.time() * 1000) < 5000


def test_token_is_swapped_when_a_ping_brings_one(tmp_path: Path) -> None:  # protocol.md §2.4
    clock = HandClock()
    with FaultyServer() as server:

        def swap(handler: Handler) -> None:
            server.token = "token-2"
            handler.reply({"serverTime": 0, "period": 7, "token": "token-2", "commands": None})

        server.answers["app/ping"] = swap
        connection = connection_to(server.url, tmp_path, clock=clock)
        connection.beat()
        assert (connection.period, connection.ping_due_in) == (7, 7.0)
        del server.answers["app/ping"]
        clock.now += 7
        assert connection.ping_due_in == 0
        connection.beat()
        assert server.of("app/ping")[-1].headers["Authorization"] == "Bearer token-2"


def test_one_login_and_one_retry_on_401(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url)
    server.answers["my/path"] = lambda h: (
        h.reply("done") if h.headers["Authorization"] == "Bearer token-2" else h.reply(None, 401, "expired")
    )
    session.call("App/Ping", {"Time": 1})
    server.token = "token-2"
    assert session.call("my/path", {}) == "done"
    assert server.count("app/login") == 2
    assert server.count("my/path") == 2


@pytest.mark.case("X4", "C31")
def test_a_401_loop_is_no_loop(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url)
    server.answers["my/path"] = lambda handler: handler.reply(None, 401, "never")
    with pytest.raises(ApiError, match="code 401: never"):
        session.call("my/path", {})
    assert server.count("my/path") == 2
    assert server.count("app/login") == 2
    for _ in range(10):  # the login did not help: this path alone is refused
        with pytest.raises(ApiError):
            session.call("my/path", {})
    assert (server.count("my/path"), server.count("app/login"), session.state) == (12, 2, "online")
    server.answers["app/ping"] = lambda handler: handler.reply(None, 401, "never")
    with pytest.raises(ApiError):
        session.connection.beat()
    before = len(server.calls)
    with pytest.raises(UnavailableError, match="refused, next attempt in"):
        session.call("my/path", {})
    assert len(server.calls) == before  # no hammering


def test_a_path_that_fails_alone_does_not_make_the_session_flap(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stardust_auto")
    session = new_session(server.url)
    task = Recorder()
    session.add_task(task)
    session.start()
    server.wait_for("app/ping")
    server.answers["trace/reportraw"] = lambda handler: handler.reply_bytes(b"", 503)
    for _ in range(50):
        with pytest.raises(UnavailableError, match="HTTP 503"):
            session.call("trace/reportraw", {})
        assert session.state == "online"
    time.sleep(1.2)
    assert [record.levelname for record in caplog.records] == ["INFO"]  # connected
    assert server.count("app/ping") <= 4  # at most one a second finds out
    assert task.runs.acquire(timeout=1)
    assert not task.runs.acquire(timeout=0.1)  # woken by nothing


@pytest.mark.parametrize("token", ["a\r\nX: y", "t\u00f6ken\u4e2d", "\ufffd", "two words", "\0"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_for_ever(
    tmp_path: Path, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    with FaultyServer() as server:
        good, server.token = server.token, token
        connection = connection_to(server.url, tmp_path, clock=clock)
        with pytest.raises(BadReplyError, match="no header can carry"):
            connection.beat()
        assert token not in caplog.text
        assert repr(token)[1:-1] not in caplog.text
        server.token = good
        clock.now += 60
        connection.beat()
        assert connection.online
        server.answers["app/ping"] = lambda h: h.reply({"serverTime": 0, "period": 7, "token": token, "commands": None})
        connection.beat()
        del server.answers["app/ping"]
        connection.beat()  # the old token is kept
        assert server.count("app/login") == 2


def test_a_server_that_is_back_gets_one_attempt_at_the_end_whatever_the_back_off_says(new_session: NewSession) -> None:
    port = reserved_port()
    session = new_session(f"http://127.0.0.1:{port}", clock=HandClock())
    session.worker.start = lambda: False  # type: ignore[method-assign]  # the test drives it

    class Task(Recorder):
        def finish(self, deadline: float) -> None:
            session.call("my/path", {}, timeout=1)

    session.add_task(Task())
    session.start()
    with pytest.raises(UnavailableError):
        session.call("my/path", {})
    with FaultyServer(port) as server:
        server.answers["my/path"] = lambda handler: handler.reply("done")
        with pytest.raises(UnavailableError, match="next attempt"):
            session.call("my/path", {})
        assert session.stop(2.0)
        assert server.count("my/path") == 1
        assert server.count("app/logout") == 1


def test_403_to_a_ping_means_log_in(tmp_path: Path) -> None:  # protocol.md §1.5
    with FaultyServer() as server:
        connection = connection_to(server.url, tmp_path)
        connection.beat()
        server.token = "token-2"
        server.answers["app/ping"] = lambda h: (
            server.default(h) if h.headers["Authorization"] == "Bearer token-2" else h.reply(None, 403, "disabled")
        )
        connection.beat()
        assert (server.count("app/login"), connection.online) == (2, True)


def test_500_is_worth_one_login_while_the_token_has_never_worked(tmp_path: Path) -> None:  # protocol.md §12.2
    with FaultyServer() as server:
        connection = connection_to(server.url, tmp_path)
        server.answers["app/ping"] = lambda h: h.reply(None, 500, "The input is not a valid Base-64 string")
        with pytest.raises(ApiError):
            connection.beat()
        assert server.count("app/login") == 1
        del server.answers["app/ping"]

    with FaultyServer() as server:
        connection = connection_to(server.url, tmp_path)
        connection.beat()
        server.answers["my/path"] = lambda h: h.reply(None, 500, "unresolved reference")
        for _ in range(2):
            with pytest.raises(ApiError):
                connection.call(json_request("my/path", {}), 5)
        assert (server.count("app/login"), server.count("my/path")) == (1, 2)  # the token is not to blame
        assert connection.online


def test_null_token_is_a_refusal_without_hammering(
    server: FaultyServer, new_session: NewSession, tmp_path: Path
) -> None:
    server.answers["app/login"] = lambda handler: handler.reply(
        {"code": "demo", "secret": "given-secret", "name": "demo", "token": None, "serverTime": 0}
    )
    session = new_session(server.url)
    with pytest.raises(ApiError, match="not enabled"):
        session.call("x")
    assert session.state == "refused"
    assert server.count("app/login") == 1
    (saved,) = (tmp_path / "cache").iterdir()  # §2.2 step 6: issued all the same
    assert "given-secret" in saved.read_text()


def test_the_servers_spelling_of_the_application_is_used(server: FaultyServer, new_session: NewSession) -> None:
    server.answers["app/login"] = lambda handler: handler.reply(
        {"code": "Demo", "secret": "s-e-c", "name": "Demo", "token": server.token, "serverTime": 0}
    )
    session = new_session(server.url, app_id="DEMO")
    session.call("App/Ping", {})
    assert session.account.app_id == "Demo"


@pytest.mark.case("X3")
def test_back_off_is_full_jitter_and_resets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "generator", SimpleNamespace(random=lambda: 0.0))
    clock = HandClock()
    waits: list[float] = []
    port = reserved_port()
    connection = connection_to(f"http://127.0.0.1:{port}", tmp_path, clock=clock)
    for _ in range(5):
        with pytest.raises(UnavailableError):
            connection.beat()
        with pytest.raises(UnavailableError, match="next attempt"):
            connection.beat()
        waits.append(connection.wait)
        clock.now += connection.wait
    assert waits == pytest.approx([5, 10, 20, 30, 30])
    with FaultyServer(port):
        connection.beat()
    assert (connection.online, connection.wait) == (True, 0.0)
    with pytest.raises(UnavailableError):
        clock.now += 60
        connection.beat()
    assert connection.wait == pytest.approx(5)


@pytest.mark.parametrize("step", ["app/login", "app/ping"])
def test_a_login_without_an_answer_is_no_call_that_may_have_arrived(tmp_path: Path, step: str) -> None:
    # docs/reliability.md: what was not sent is kept, and sent later
    with FaultyServer() as server:
        hanging = threading.Event()
        server.answers[step] = lambda handler: hanging.wait(20)
        session = Session(Identity(server.url, "demo", cache_dir=str(tmp_path), push=False))
        with pytest.raises(UnavailableError) as caught:
            session.call("Trace/ReportRaw", data=b"x", timeout=0.5, repeatable=False)
        hanging.set()
        assert not caught.value.may_have_arrived
        assert server.count("trace/reportraw") == 0


@pytest.mark.case("X4")
def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    clock = HandClock()
    with FaultyServer() as server:
        server.answers["*"] = lambda handler: handler.reply_bytes(b"", 503, {"Retry-After": "120"})
        connection = connection_to(server.url, tmp_path, clock=clock)
        with pytest.raises(UnavailableError):
            connection.beat()
        assert connection.wait == 120


def test_one_line_for_each_change_of_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stardust_auto")
    clock = HandClock()
    port = reserved_port()
    connection = connection_to(f"http://127.0.0.1:{port}", tmp_path, clock=clock)

    def beats(count: int) -> None:
        for _ in range(count):
            clock.now += 60
            try:
                connection.beat()
            except (UnavailableError, ApiError):
                continue

    beats(3)
    with FaultyServer(port) as server:
        beats(3)
        server.answers["*"] = lambda handler: handler.reply(None, 403, "not you")
        beats(3)
        server.answers.clear()
        beats(1)
    beats(3)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            f"http://127.0.0.1:{port} cannot be reached: Connection refused; trying again in the background",
        ),
        ("INFO", f"http://127.0.0.1:{port} is back after 180 s"),
        ("WARNING", f"http://127.0.0.1:{port} refuses application demo: code 403: not you"),
        ("INFO", f"http://127.0.0.1:{port} is back after 180 s"),
        (
            "WARNING",
            f"http://127.0.0.1:{port} cannot be reached: Connection refused; trying again in the background",
        ),
    ]


def test_one_slow_call_is_no_lost_server(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stardust_auto")
    session = new_session(server.url)
    session.start()
    server.wait_for("app/ping")
    server.answers["slow/path"] = lambda handler: handler.reset()
    for round_number in (2, 3, 4):
        with pytest.raises(UnavailableError):
            session.call("slow/path", {})
        server.wait_for("app/ping", round_number)  # asked at once what is the matter
    assert session.state == "online"
    assert [record.levelname for record in caplog.records] == ["INFO"]  # connected, and nothing else


def test_nothing_reaches_stderr_unless_logging_is_configured() -> None:
    import subprocess
    import sys

    code = (
        "from stardust_auto.environment.identity import Identity\n"
        "from stardust_auto.session.session import Session\n"
        f"session = Session(Identity('http://127.0.0.1:{reserved_port()}', 'demo', push=False))\n"
        "try: session.call('x')\n"
        "except Exception as error: assert 'refused' in str(error), error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


class Recorder:
    """A task that notes its runs."""

    name = "recorder"

    def __init__(self) -> None:
        self.runs = threading.Semaphore(0)
        self.finished = threading.Event()
        self.threads: set[str] = set()

    def run(self) -> float | None:
        self.threads.add(threading.current_thread().name)
        self.runs.release()
        return None

    def finish(self, deadline: float) -> None:
        self.finished.set()


def test_tasks_are_woken_when_the_server_is_back(new_session: NewSession) -> None:
    port = reserved_port()
    session = new_session(f"http://127.0.0.1:{port}")
    task = Recorder()
    session.add_task(task)
    session.start()
    assert task.runs.acquire(timeout=5)
    wait_until(lambda: session.state == "lost")
    with FaultyServer(port) as server:
        server.wait_for("app/ping", timeout=15)
        assert task.runs.acquire(timeout=5)
        assert session.stop()
        assert task.finished.is_set()
        assert task.threads == {"stardust"}
        assert server.wait_for("app/logout").query == "reason=stop"
        assert [e["Name"] for call in server.of("app/postevents") for e in call.body] == ["start", "stop"]


@pytest.mark.parametrize("budget", [0.3, 1.0])
def test_stop_is_bounded_while_the_server_hangs(budget: float, new_session: NewSession) -> None:
    release = threading.Event()
    with FaultyServer() as server:
        server.answers["app/ping"] = lambda handler: release.wait(20)  # type: ignore[assignment,return-value]  # a hang
        session = new_session(server.url)
        session.start()
        server.wait_for("app/ping")
        started = time.monotonic()
        assert session.stop(budget) is False
        assert time.monotonic() - started < budget + 0.2
        assert session.state == "stopped"
        release.set()


@pytest.mark.case("C67")
def test_stop_without_a_thread_flushes_inline(server: FaultyServer, new_session: NewSession) -> None:
    """As late in interpreter shutdown, where no thread can be started any more."""
    session = new_session(server.url)
    task = Recorder()
    session.add_task(task)
    session.worker.start = lambda: False  # type: ignore[method-assign]  # "can't start new thread"
    session.start()
    session.call("App/Ping", {})
    assert session.stop()
    assert task.finished.is_set()
    assert server.count("app/logout") == 1


def test_start_stop_start(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url)
    for round_number in (1, 2, 3):
        session.start()
        session.start()
        server.wait_for("app/ping", round_number)
        assert session.stop()
        with pytest.raises(UnavailableError, match="stopped"):
            session.call("x")
    assert server.count("app/login") == 3


def test_one_session_per_servers_and_application(server: FaultyServer) -> None:
    first = Session.acquire(Identity(server.url, "demo", push=False))
    assert Session.acquire(Identity((server.url + "/",), "DEMO")) is first
    other = Session.acquire(Identity(server.url, "other", push=False))
    assert other is not first
    assert first.release()
    assert other.release()
    assert first.state == "new"
    first.release()
    assert Session.acquire(Identity(server.url, "demo", push=False)) is not first


def test_no_thread_before_start_and_one_after(server: FaultyServer, new_session: NewSession) -> None:
    before = set(threading.enumerate())
    session = new_session(server.url)
    assert set(threading.enumerate()) == before
    session.start()
    server.wait_for("app/ping")
    assert [thread.name for thread in set(threading.enumerate()) - before if "request" not in thread.name] == [
        "stardust"
    ]


def test_status_and_repr(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url, secret="planted", client_id="me#1")
    session.call("App/Ping", {})
    assert session.status.state == "online"
    assert session.status.client_id == "me-1"
    assert "planted" not in f"{session!r}{session.status!r}{vars(session)!r}{vars(session.connection)!r}"


def test_who_logs_in_says_its_name_version_and_node(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url, app_name="The shop", version="v7-rc1", node_code="node7")
    session.call("App/Ping", {})
    login = server.of("app/login")[0].body
    assert (login["AppName"], login["Version"], login["NodeCode"]) == ("The shop", "7.0", "node7")


def test_a_user_without_a_home_keeps_issued_credentials_elsewhere(
    server: FaultyServer, new_session: NewSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(*_: object, **__: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_cache_dir", homeless)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    session = new_session(server.url, cache_dir=None)
    session.call("App/Ping", {})
    assert session.state == "online"
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert server.secret in next(folder.iterdir()).read_text()


def test_a_program_without_a_free_descriptor_is_told_nothing_on_stderr(tmp_path: Path) -> None:
    """It has not configured logging: a line of ours must not reach it through logging's last resort."""
    import subprocess
    import sys

    code = (
        "import os, resource, sqlite3, time\n"
        "database = sqlite3.connect(':memory:')\n"
        "used = max(int(name) for name in os.listdir('/proc/self/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used, 4096))\n"
        "for _ in range(75):\n"
        "    database.execute('select 1')\n"
        "    time.sleep(0.02)\n"
        "print('done')\n"
    )
    command = [LAUNCHER, "--server", "http://127.0.0.1:1", "--app", "x"]
    done = subprocess.run(
        [*command, sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
