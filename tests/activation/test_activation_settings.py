"""Live settings in the workers of real servers: read in the master, kept by each child, and followed by each child (config.md case 65)."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
import requests
from activation_kit import LAUNCHER, SCRIPTS, answered, until
from ports import reserved_port

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
    + """
import celery
folder = os.path.abspath("queue")
os.makedirs(folder, exist_ok=True)
app = celery.Celery("tasks", broker="filesystem://", backend="file://" + folder)
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder}
app.conf.worker_prefetch_multiplier = 1
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


@pytest.mark.parametrize(
    "command",
    [
        ["gunicorn", "--preload", "-w", "2", "-b", "{address}", "shop:application"],
        ["uwsgi", "--master", "--processes", "2", "--http-socket", "{address}", "--wsgi-file", "shop.py"],
    ],
    ids=["gunicorn", "uwsgi"],
)
def test_workers_keep_what_their_master_read_and_follow_the_center(
    server: EmbeddedServer, clean: dict[str, str], tmp_path: Path, command: list[str]
) -> None:
    # config.md case 65
    (tmp_path / "shop.py").write_text(SHOP)
    publish(server, "first")
    address = f"127.0.0.1:{reserved_port()}"
    arguments = [part.format(address=address) for part in command[1:]]
    process = subprocess.Popen(
        [LAUNCHER, "--server", server.url, "--app", "web", os.path.join(SCRIPTS, command[0]), *arguments],
        env=clean,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert answered(f"http://{address}/", process).split()[:2] == ["first", "first"]
        publish(server, "second")

        def all_follow() -> bool:
            answers = [answered(f"http://{address}/", process).split() for _ in range(20)]
            assert {answer[0] for answer in answers} == {"first"}, "read once, in the master"
            return {answer[1] for answer in answers} == {"second"}

        until(all_follow)
    finally:
        process.kill()
        process.wait(10)


def test_celery_workers_follow_the_center(
    server: EmbeddedServer, clean: dict[str, str], python: str, tmp_path: Path
) -> None:
    # config.md case 65
    (tmp_path / "tasks.py").write_text(TASKS)
    publish(server, "first")
    launched = [LAUNCHER, "--server", server.url, "--app", "web"]
    worker = subprocess.Popen(
        [
            *(*launched, os.path.join(SCRIPTS, "celery"), "-A", "tasks", "worker", "--pool", "prefork", "-c", "2"),
            *("--without-gossip", "--without-mingle"),
        ],
        env=clean,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def greetings() -> set[str]:
        asked = subprocess.run(
            [*launched, python, "-c", ASK], env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=90
        )
        assert asked.returncode == 0, asked.stderr
        lines = [line.split() for line in asked.stdout.splitlines()]
        assert {line[0] for line in lines} == {"first"}
        return {line[1] for line in lines}

    try:
        assert greetings() == {"first"}
        publish(server, "second")
        until(lambda: greetings() == {"second"})
    finally:
        worker.terminate()
        worker.wait(30)
