"""A process whose threads and sockets gevent has replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from gevent.event import Event
from stardust_auto import StardustSettings, live

class Shop(StardustSettings):
    pool: int = 1

config = live(Shop)
ticks = []

def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)

gevent.spawn(tick)
print(config.current.pool, flush=True)
changed = Event()

@config.on_change(lambda s: s.pool)
def told(old, new):
    print(old, new, flush=True)
    changed.set()

assert changed.wait(20)
print(len(ticks) > 0, config.status.state, flush=True)
config.close()
"""


@pytest.mark.case("C68")
@pytest.mark.timeout(60)
def test_a_monkey_patched_process_follows_the_center(tmp_path: Path) -> None:
    with EmbeddedServer() as server:
        headers = {"Authorization": f"Bearer {server.key}"}

        def publish(pool: str) -> None:
            place = f"{server.url}/console/api/config/shop"
            items = {"scope": "", "items": {"pool": pool}}
            requests.put(place, json=items, headers=headers, timeout=10).raise_for_status()
            requests.post(f"{place}/publish", json={}, headers=headers, timeout=10).raise_for_status()

        publish("2")
        environ = {
            **os.environ,
            "STARDUST_SERVER": server.url,
            "STARDUST_APP_ID": "shop",
            "STARDUST_CACHE_DIR": str(tmp_path),
        }
        command = [sys.executable, "-c", PROGRAM]
        with subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            publish("3")
            rest, errors = process.stdout.read(), process.stderr.read()
            assert (first, rest, process.wait(20)) == ("2\n", "2 3\nTrue VALID\n", 0), errors
