"""What the tests of this room share besides fixtures."""

from __future__ import annotations

import os
import sysconfig
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    import subprocess
    from contextlib import AbstractContextManager

    from stardust_auto.server import EmbeddedServer

SCRIPTS = sysconfig.get_path("scripts")
LAUNCHER = os.path.join(SCRIPTS, "stardust-auto")
#: Whether the agent is active, as a program can find out without importing anything.
PROBE = """
import sys
agent = sys.modules.get("stardust_auto.agent")
print("active" if agent is not None and agent.active_options() is not None else "absent")
"""

#: For programs: five statements against a database whose file gives the operation its name; and to wait until the server knows this
#: process, since on a busy machine the second for the exit is short for all that together.
QUERIES = """
import sqlite3
def queries(name, count=5):
    connection = sqlite3.connect(name)
    for _ in range(count): connection.execute("select 1").fetchall()
    connection.close()

def online(seconds=30):
    import time
    from stardust_auto.agent import current
    deadline = time.monotonic() + seconds
    while current() and current().session.state != "online" and time.monotonic() < deadline: time.sleep(0.01)
"""

#: A Celery application whose tasks and results are files, so that it needs no broker.
CELERY = """
import celery, os
folder = os.path.abspath("queue")
os.makedirs(folder, exist_ok=True)
app = celery.Celery("tasks", broker="filesystem://", backend="file://" + folder)
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder}
app.conf.worker_prefetch_multiplier = 1
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Serving = Callable[..., "AbstractContextManager[subprocess.Popen[bytes]]"]


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for what must happen, however busy the machine is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def counted(server: EmbeddedServer, app: str) -> dict[str, int]:
    """What the server has counted for an application, by operation."""
    reply = requests.get(
        f"{server.url}/console/api/apps/{app}/operations",
        params={"minutes": "60"},
        headers={"Authorization": f"Bearer {server.key}"},
        timeout=10,
    )
    if reply.status_code == 404:
        return {}
    reply.raise_for_status()
    return {row["name"]: row["total"] for row in reply.json()}


def arrived(server: EmbeddedServer, app: str, expected: dict[str, int]) -> None:
    """Wait until the server has counted exactly this for an application."""
    deadline = time.monotonic() + 40.0
    while (now := counted(server, app)) != expected:
        assert time.monotonic() < deadline, f"{now} arrived, not {expected}"
        time.sleep(0.1)


def answered(url: str, process: subprocess.Popen[Any]) -> str:
    """What the server at ``url`` answers, as soon as it does."""
    deadline = time.monotonic() + 40
    while True:
        try:
            return requests.get(url, timeout=20).text
        except requests.ConnectionError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
