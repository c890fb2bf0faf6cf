"""Live settings in the workers of real servers: read in the master, kept by each child, and followed by each child."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import requests
from _kit.activation_kit import CELERY, LAUNCHER, Run, Serving, answered, until
from _kit.ports import reserved_port

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

SHOP = """
import os
from stardust_auto import StardustSettings, live

class Shop(StardustSettings):
    greeting: str = "default"

config = live(Shop)
in_master = config.current.greeting

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{in_master} {config.current.greeting} {os.getpid()}".encode()]
"""

TASKS = (
    SHOP
    + CELERY
    + """
@app.task
def greet():
    return f"{in_master} {config.current.greeting} {os.getpid()}"
"""
)
ASK = "import tasks; print(*[one.get(timeout=60) for one in [tasks.greet.delay() for _ in range(6)]], sep=chr(10))"


def publish(server: EmbeddedServer, greeting: str) -> None:
    place = f"{server.url}/console/api/config/web"
    headers = {"Authorization": f"Bearer {server.key}"}
    items = {"scope": "", "items": {"greeting": greeting}}
    requests.put(place, json=items, headers=headers, timeout=10).raise_for_status()
    requests.post(f"{place}/publish", json={}, headers=headers, timeout=10).raise_for_status()


@pytest.mark.case("C65")
@pytest.mark.parametrize(
    ("command", "end"),
    [
        (["gunicorn", "--preload", "-w", "2", "shop:application", "-b"], signal.SIGTERM),
        (["uwsgi", "--master", "--processes", "2", "--wsgi-file", "shop.py", "--http-socket"], signal.SIGINT),
    ],
    ids=["gunicorn", "uwsgi"],
)
def test_workers_keep_what_their_master_read_and_follow_the_center(
    server: EmbeddedServer, serving: Serving, tmp_path: Path, command: list[str], end: int
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    publish(server, "first")
    address = f"127.0.0.1:{reserved_port()}"
    with serving(*command, address, end=end) as process:
        assert answered(f"http://{address}/", process).split()[:2] == ["first", "first"]
        publish(server, "second")

        def all_follow() -> bool:
            answers = [answered(f"http://{address}/", process).split() for _ in range(20)]
            assert {answer[0] for answer in answers} == {"first"}, "read once, in the master"
            return {answer[1] for answer in answers} == {"second"}

        until(all_follow)


@pytest.mark.case("C65")
def test_celery_workers_follow_the_center(
    server: EmbeddedServer, serving: Serving, run: Run, python: str, tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    publish(server, "first")

    def greetings() -> set[str]:
        asked = run([LAUNCHER, "--server", server.url, "--app", "web", python, "-c", ASK], timeout=90)
        assert asked.returncode == 0, asked.stderr
        lines = [line.split() for line in asked.stdout.splitlines()]
        assert {line[0] for line in lines} == {"first"}
        return {line[1] for line in lines}

    pool = ["--pool", "prefork", "-c", "2", "--without-gossip", "--without-mingle"]
    with serving("celery", "-A", "tasks", "worker", *pool):
        assert greetings() == {"first"}
        publish(server, "second")
        until(lambda: greetings() == {"second"})
