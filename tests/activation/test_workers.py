"""uWSGI and Celery, as real processes under the launcher: every worker reports, none hangs, nothing is sent twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import CELERY, LAUNCHER, QUERIES, SCRIPTS, Run, Serving, answered, arrived, counted, until
from _kit.ports import reserved_port

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

#: The decorators of uWSGI put their hook in the place of whatever was there before.
SHOP = (
    QUERIES
    + """
import os, sys, flask
queries("boot", 1)
from uwsgidecorators import postfork
@postfork
def forked(): sys.forked = True
app = application = flask.Flask(__name__)
@app.get("/page/<number>")
def page(number):
    queries("work", 1)
    return str(getattr(sys, "forked", False))
"""
)


def idle(port: int) -> bool:
    """Whether no worker is busy, by the statistics of uWSGI."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile() as file:
        return all(worker["status"] == "idle" for worker in json.load(file)["workers"])


@pytest.mark.case("X10", "W30")
@pytest.mark.parametrize("options", [[], ["--enable-threads"], ["--lazy-apps"], ["--threads", "2"]])
def test_uwsgi(server: EmbeddedServer, serving: Serving, tmp_path: Path, options: list[str]) -> None:
    # uWSGI forks without Python's hooks, and handles signals without Python
    (tmp_path / "shop.py").write_text(SHOP)
    port, stats = reserved_port(), reserved_port()
    arguments = [
        "--master",
        "--http-socket",
        f"127.0.0.1:{port}",
        "--processes",
        "2",
        "--wsgi-file",
        "shop.py",
        *options,
    ]
    with serving("uwsgi", *arguments, "--stats", f"127.0.0.1:{stats}", end=signal.SIGINT) as process:
        answers = [answered(f"http://127.0.0.1:{port}/page/{number}", process) for number in range(30)]
        # Where each worker loads the program itself, that is after the fork.
        assert set(answers) == {str("--lazy-apps" not in options)}, "whether the program's own hook has run"
        expected = {"db:work:Select": 30, "/page/<number>": 30}
        until(lambda: expected.items() <= counted(server, "web").items())
        answered(f"http://127.0.0.1:{port}/page/last", process)
        until(lambda: idle(stats))  # a worker that is still busy with its answer would end without Python's atexit
        process.send_signal(signal.SIGINT)  # to uWSGI that is the signal to end
        assert process.wait(15) == 0
        expected = {"db:work:Select": 31, "/page/<number>": 31}
        if "--lazy-apps" in options:  # otherwise the master has counted it, which uWSGI ends without Python's atexit
            expected["db:boot:Select"] = 2
        arrived(server, "web", expected)


#: Celery has the system kill a worker (PR_SET_PDEATHSIG) when the thread ends that has forked it. That of a replaced worker ends early in a
#: warm shutdown: its last calls may be lost, and if it was waiting for a task, it keeps the lock of all workers, and Celery never ends.
#: That is so without us as well; here it would hide what is ours.
TASKS = (
    QUERIES
    + CELERY
    + """
import celery.platforms
celery.platforms.set_pdeathsig = lambda name: None
app.conf.worker_max_tasks_per_child = 3
queries("boot", 1)
@app.task
def work():
    queries("work", 1)
    online()  # a second of grace at the end may be too short for a login on a machine that is busy (docs/reliability.md)
    return os.getpid()
"""
)
ASK = "import tasks; print(*{one.get(timeout=60) for one in [tasks.work.delay() for _ in range(11)]})"


@pytest.mark.case("X9")
def test_celery_with_workers_that_are_replaced(
    server: EmbeddedServer, serving: Serving, run: Run, python: str, tmp_path: Path
) -> None:
    # a worker that has done its tasks ends by os._exit
    (tmp_path / "tasks.py").write_text(TASKS)
    pool = ["--pool", "prefork", "-c", "2", "--without-gossip", "--without-mingle"]
    with serving("celery", "-A", "tasks", "worker", *pool) as worker:
        asked = run([python, "-c", ASK], timeout=90)
        assert len(asked.stdout.split()) >= 4, asked.stderr
        worker.send_signal(signal.SIGTERM)
        # billiard's own: a worker that answers before its parent has noted it (``_on_ready_counters``) waits 30 s in vain, without us too.
        assert worker.wait(75) == 0
        arrived(server, "web", {"db:work:Select": 11, "db:boot:Select": 1, "mq:tasks.work:Consume": 11})


@pytest.mark.case("X5")
@pytest.mark.parametrize("away", ["refusing", "hanging"])
def test_gunicorn_ends_as_fast_with_a_server_that_is_away(
    request: pytest.FixtureRequest, clean: dict[str, str], tmp_path: Path, away: str
) -> None:
    (tmp_path / "shop.py").write_text(QUERIES + "import flask\napp = flask.Flask('shop')\napp.get('/')(lambda: 'ok')\n")

    def ends_after(*launcher: str) -> float:
        port = reserved_port()
        process = subprocess.Popen(
            [*launcher, os.path.join(SCRIPTS, "gunicorn"), "-w", "2", "-b", f"127.0.0.1:{port}", "shop:app"],
            env={**clean, "STARDUST_PERIOD": "1"},
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(10):
                assert answered(f"http://127.0.0.1:{port}/", process) == "ok"
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            return time.monotonic() - start
        finally:
            process.kill()
            process.wait(10)

    url = request.getfixturevalue(away)
    assert ends_after(LAUNCHER, "--server", url) < ends_after() + 1.0 + 0.7  # the load of the machine is in it
