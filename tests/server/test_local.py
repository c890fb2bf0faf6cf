"""The server as a process: found, started once, stopped (stardust_auto/server/local.py, __main__.py)."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests
from _kit.server_platform import DIRECT
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from stardust_auto.server import local
from stardust_auto.server.local import (
    LocalServer,
    _environment,
    address_file,
    ensure_local_server,
    find_key,
    read_local_server,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state folder of the user is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server; whatever runs there is stopped."""
    path = tmp_path / "project" / ".stardust"
    yield path
    server = read_local_server(path)
    if server is not None:
        stop(server.pid)


def stop(pid: int) -> None:
    process = psutil.Process(pid)
    process.send_signal(signal.SIGTERM)
    wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Until the process has ended; nobody may have collected it where the first process is no init."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_started_once_and_found_again(folder: Path) -> None:
    server = ensure_local_server(folder)
    assert requests.get(f"{server.url}/Api?state=1", timeout=5).json()["code"] == 0
    assert server.console_url == f"{server.url}/console/#key={server.key}"
    assert ensure_local_server(folder) == server
    assert read_local_server(folder) == server
    assert server.pid not in {
        child.pid for child in psutil.Process().children(recursive=True)
    }  # a program counts its own
    assert server.key not in repr(server)
    assert server.app_secret not in repr(server)
    login = {"AppId": "demo", "Secret": server.app_secret}
    assert requests.post(f"{server.url}/App/Login", json=login, timeout=5).json()["code"] == 0
    stranger = {"AppId": "demo", "Secret": "guessed"}
    assert requests.post(f"{server.url}/App/Login", json=stranger, timeout=5).json()["code"] == 403
    for path in folder.iterdir():
        if path.name != ".gitignore":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_launchers_at_once_get_the_same_server(folder: Path) -> None:
    code = (
        "import sys; from stardust_auto.server.local import ensure_local_server; "
        "server = ensure_local_server(sys.argv[1]); print(server.url, server.pid)"
    )

    def launch(_number: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(launch, range(4)))
    assert len(answers) == 1


def test_a_server_that_is_gone_is_replaced_and_keeps_its_data(folder: Path) -> None:
    first = ensure_local_server(folder)
    body = {"AppId": "demo", "ClientId": "a@1", "Secret": first.app_secret}
    token = requests.post(f"{first.url}/App/Login", json=body, timeout=5).json()["data"]["token"]
    psutil.Process(first.pid).kill()  # no chance to tidy up: server.json is stale now
    wait_gone(first.pid)
    assert (folder / "server.json").exists()
    assert read_local_server(folder) is None
    second = ensure_local_server(folder)
    assert second.key == first.key
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.post(f"{second.url}/App/Ping", json={}, headers=headers, timeout=5).json()["code"] == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}', '{"url": "http://127.0.0.1:1", "key": "k", "pid": "x"}'])
def test_a_broken_description_is_no_server(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "server.json").write_text(text, encoding="utf-8")
    assert read_local_server(folder) is None


def test_a_taken_port_is_no_obstacle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as taken:  # not 6600: another run of the tests may take and leave it at any time
        port = taken.getsockname()[1]
        monkeypatch.setattr(local, "DEFAULT_PORT", port)
        assert not ensure_local_server(folder).url.endswith(f":{port}")


def test_the_environment_of_the_server_is_not_that_of_the_program() -> None:
    import stardust_auto

    site = os.path.join(os.path.dirname(stardust_auto.__file__), "activation", "site")
    environ = {
        "STARDUST_SERVER": "http://x",
        "stardust_secret": "s",
        "StarServer": "http://x",
        "STARAPPID": "a",
        "PYTHONPATH": os.pathsep.join([site, "relative", "/absolute"]),
        "HOME": "/root",
    }
    kept = _environment(environ)
    assert kept.pop("PYTHONPATH") == os.pathsep.join([os.path.abspath("relative"), "/absolute"])
    assert kept == {"HOME": "/root", "STARDUST_ENABLED": "0", "STARDUST_AUTO": "0"}


def test_modules_of_the_working_directory_do_not_get_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parent.mkdir(parents=True)
    for name in ("json", "sqlite3", "starlette", "logging"):
        (folder.parent / f"{name}.py").write_text("raise SystemExit('hidden by the program')\n", encoding="utf-8")
    monkeypatch.chdir(folder.parent)
    assert ensure_local_server(folder).url


def test_a_launcher_without_standard_streams(folder: Path) -> None:
    code = (
        "import os, sys; folder, out = sys.argv[1:]; os.closerange(0, 3)\n"
        "from stardust_auto.server.local import ensure_local_server\n"
        "url = ensure_local_server(folder).url; open(out, 'w').write(url)"
    )
    out = folder.parent / "out"
    folder.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code, str(folder), str(out)], check=True, timeout=60)
    assert requests.get(out.read_text(), timeout=5).status_code == 200


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "stardust.db").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"stopped at once: the server cannot start: .*stardust\.db"):
        ensure_local_server(folder)


def test_a_file_that_is_no_database(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "stardust.db").write_text("not a database " * 1000, encoding="utf-8")
    with pytest.raises(
        RuntimeError, match=r"stopped at once: the server cannot start: .*stardust\.db: file is not a database"
    ):
        ensure_local_server(folder)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="file"):
        ensure_local_server(tmp_path / "file" / ".stardust")


class Impostor(BaseHTTPRequestHandler):
    """Another program at the port of a server that is gone; it would like the key."""

    heard: list[str] = []  # noqa: RUF012 - shared on purpose

    def do_GET(self) -> None:
        self.heard.append(f"{self.path} {self.headers}")
        body = b'{"proof": "0000"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def test_the_key_is_not_given_to_whoever_answers(tmp_path: Path, folder: Path) -> None:
    impostor = ThreadingHTTPServer(("127.0.0.1", 0), Impostor)
    thread = threading.Thread(target=impostor.serve_forever)
    thread.start()
    try:
        port = impostor.server_address[1]
        description = {"url": f"http://127.0.0.1:{port}", "key": "planted-key", "pid": os.getpid()}
        write_private(address_file("127.0.0.1", port), description)
        write_private(folder / "server.json", description)
        assert find_key(f"http://127.0.0.1:{port}") is None
        assert read_local_server(folder) is None
        assert Impostor.heard
        assert not any("planted-key" in text for text in Impostor.heard)
    finally:
        impostor.shutdown()
        thread.join()
        impostor.server_close()
    with pytest.raises(ConnectionRefusedError):  # nobody there: a stranger may be by the next call
        find_key(f"http://127.0.0.1:{port}")
    assert find_key("http://127.0.0.1:notaport") is None
    assert find_key("nonsense") is None


def test_the_key_is_found_by_the_address(folder: Path) -> None:
    server = ensure_local_server(folder)
    assert find_key(server.url) == server.key
    assert find_key(server.url.replace("127.0.0.1", "localhost")) == server.key


def run(tmp_path: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """`python -m stardust_auto.server`, and the line that it says when it accepts connections."""
    arguments = [
        sys.executable,
        "-m",
        "stardust_auto.server",
        "--data",
        str(tmp_path / "data"),
        "--port",
        "0",
        *options,
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    return process, process.stderr.readline()


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process, line = run(tmp_path)
    assert line.startswith("stardust_auto server: http://127.0.0.1:")
    url = line.split()[2]
    assert requests.get(f"{url}/", timeout=5).status_code == 200  # one line, and it does accept connections
    login = requests.post(f"{url}/App/Login", json={"AppId": "demo"}, timeout=5).json()
    push_url = url.replace("http:", "ws:") + "/App/Notify"
    with pytest.raises(InvalidStatus), connect(push_url, **DIRECT):
        pass  # refused, which is not worth a line of log
    header = {"Authorization": f"Bearer {login['data']['token']}"}
    with connect(push_url, additional_headers=header, **DIRECT) as push:
        started = time.monotonic()
        process.send_signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            push.recv(10)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Dispose")
        out, err = finish(process)
    assert time.monotonic() - started < 5
    assert (process.returncode, out, err) == (0, "", "")
    assert not (tmp_path / "data" / "server.json").exists()
    assert not list((tmp_path / "state" / "stardust-auto" / "servers").iterdir())
    assert not (tmp_path / "data" / "stardust.db-wal").exists()  # closed, not torn off


def test_it_stops_by_itself_when_idle(tmp_path: Path) -> None:
    process, _ = run(tmp_path, "--idle-exit", "0.3")
    assert finish(process) == ("", "")
    assert process.returncode == 0


def test_one_server_for_one_folder(tmp_path: Path) -> None:
    process, _ = run(tmp_path)
    try:
        second, line = run(tmp_path)
        finish(second)
        assert second.returncode == 1
        assert line == f"another server is using {tmp_path / 'data'}\n"
    finally:
        process.terminate()
        finish(process)


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process, line = run(tmp_path, "--port", str(taken.getsockname()[1]))
        _, rest = finish(process)
    assert process.returncode == 1
    assert line.startswith("the server cannot start: ")
    assert rest == ""


def test_wrong_arguments(tmp_path: Path) -> None:
    process, _ = run(tmp_path, "--port", "x")
    finish(process)
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("password", "options", "missing"),
    [
        ("", (), "a console password (STARDUST_CONSOLE_PASSWORD, at least 12 characters) and closed registration"),
        ("too short", ("--no-register",), "a console password"),
        ("a long enough password", (), "closed registration (--no-register"),
    ],
)
def test_a_server_that_others_can_reach_needs_a_password_and_closed_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str, options: tuple[str, ...], missing: str
) -> None:
    monkeypatch.setenv("STARDUST_CONSOLE_PASSWORD", password)
    process, line = run(tmp_path, "--host", "0.0.0.0", *options)
    assert "0.0.0.0 can be reached from the network" in line
    assert missing in line
    assert process.wait(10) == 2
    finish(process)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process, line = run(tmp_path, "--port", str(port))
        assert f"port {port} of 127.0.0.1 is taken" in line
        assert "--port 0" in line
        assert process.wait(10) == 1
        finish(process)


def test_an_open_server_says_so_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_CONSOLE_PASSWORD", "a long enough password")
    process, line = run(tmp_path, "--host", "0.0.0.0", "--no-register", "--app-secret", "for-all-of-them")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("WARNING: this server is open to the network on 0.0.0.0")
    url = line.split()[2]
    assert find_key(url) is not None
    process.terminate()
    finish(process)


def test_the_policy_options(tmp_path: Path) -> None:
    process, line = run(tmp_path, "--period", "3", "--max-samples", "7", "--no-register", "--allow-host", "star")
    try:
        url = line.split()[2]
        refused = requests.post(f"{url}/App/Login", json={"AppId": "demo"}, timeout=5).json()
        assert refused["code"] == 403
        key = json.loads((tmp_path / "data" / "server.json").read_text())["key"]
        header = {"Authorization": f"Bearer {key}", "Host": "star"}
        created = requests.post(f"{url}/console/api/apps/demo", json={"create": True}, headers=header, timeout=5).json()
        assert (created["name"], created["period"], created["max_samples"]) == ("demo", 3, 7)
    finally:
        process.terminate()
        finish(process)


def test_local_is_standard_library_only() -> None:
    code = (
        "import sys, stardust_auto.server.local; "
        "print([n for n in ('starlette', 'uvicorn', 'jinja2', 'jwt', 'requests', 'anyio', 'sqlite3', 'asyncio') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_local_server_is_a_value() -> None:
    assert LocalServer("u", "c", "k") == LocalServer("u", "c", "k")
