"""The end of programs that use no agent: what they counted arrives, and they log out."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONLINE = """
import os, sys, time
def online(session):
    deadline = time.monotonic() + 30
    while session.state != "online" and time.monotonic() < deadline: time.sleep(0.01)
"""
SDK = """
from stardust_auto import StardustClient
client = StardustClient(enable_config=False); client.start()
def work(name):
    with client.new_span(name): pass
    online(client.session)
"""
SETTINGS = """
from stardust_auto import StardustSettings, live
class Settings(StardustSettings):
    greeting: str = "hello"
config = live(Settings)
print(config.current.greeting)
"""


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(period=60) as running:
        yield running


def run(server: EmbeddedServer | str, tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "app.py").write_text(ONLINE + code)
    url = server if isinstance(server, str) else server.url
    return subprocess.run(
        [sys.executable, "app.py"],
        env={
            "STARDUST_SERVER": url,
            "STARDUST_APP_ID": "jobs",
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            # Python 3.12 warns of threads at a fork. Ours ends before it, unless it is in the middle of a call.
            "PYTHONWARNINGS": "ignore::DeprecationWarning",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def ask(server: EmbeddedServer, path: str) -> Any:
    reply = requests.get(f"{server.url}{path}", headers={"Authorization": f"Bearer {server.key}"}, timeout=10)
    reply.raise_for_status()
    return reply.json()


def counted(server: EmbeddedServer) -> dict[str, int]:
    return {row["name"]: row["total"] for row in ask(server, "/console/api/apps/jobs/operations?minutes=60")}


def still_online(server: EmbeddedServer) -> list[bool]:
    (app,) = ask(server, "/console/api/apps")
    return [instance["online"] for instance in app["instances"]]


def test_a_program_with_the_sdk_alone(server: EmbeddedServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, SDK + "work('job:one'); sys.exit(3)")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 3)
    assert counted(server) == {"job:one": 1}
    assert not any(still_online(server))


@pytest.mark.case("X9", "X10")
def test_a_child_of_a_program_with_the_sdk_alone(server: EmbeddedServer, tmp_path: Path) -> None:
    # the child reports its own spans without being told to start again; X9: also where it ends by os._exit
    code = (
        "import multiprocessing\nif __name__ == '__main__':\n    work('job:parent')\n    pid = os.fork()\n"
        "    if pid == 0: work('job:forked'); sys.exit()\n    os.waitpid(pid, 0)\n"
        "    child = multiprocessing.get_context('fork').Process(target=work, args=('job:child',)); child.start(); child.join()\n"
        "    work('job:parent')\n"
    )
    done = run(server, tmp_path, SDK + code)
    assert (done.stderr, done.returncode) == ("", 0)
    assert counted(server) == {"job:parent": 2, "job:forked": 1, "job:child": 1}
    assert not any(still_online(server))


def test_a_program_with_nothing_but_live_settings(server: EmbeddedServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, SETTINGS)
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)
    assert still_online(server) == [False]


@pytest.mark.case("X5")
def test_one_budget_for_all_that_has_to_end(tmp_path: Path) -> None:
    # two applications, so two sessions, and a server that hangs: one second, not two
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        code = (
            SDK + "other = StardustClient(app_id='other', enable_config=False); other.start()\nwork = time.sleep(2)\n"
        )
        done = run(url, tmp_path, code + "import atexit; start = time.monotonic()\nprint(time.time(), flush=True)")
        assert time.time() - float(done.stdout) < 1.0 + 0.7
        assert (done.stderr, done.returncode) == ("", 0)
