"""Servers that fork and reload, as real processes under the launcher."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import Run, Serving, answered, counted, until
from _kit.ports import reserved_port

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

APP = """
import os, sqlite3
sqlite3.connect("boot").execute("select 1").fetchall()   # recorded in the process that loads the application
def app(environ, start_response):
    sqlite3.connect("work").execute("select 1").fetchall()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.mark.case("L9", "L22", "X18")
@pytest.mark.parametrize(
    "options",
    [
        ["sync"],
        ["sync", "--preload"],
        ["gthread", "--threads", "2"],
        ["gthread", "--threads", "2", "--preload"],
        ["gevent"],
        ["gevent", "--preload"],
    ],
)
def test_gunicorn(server: EmbeddedServer, serving: Serving, tmp_path: Path, options: list[str]) -> None:
    # every worker reports, none hangs, nothing is sent twice
    (tmp_path / "shop.py").write_text(APP)
    address = f"127.0.0.1:{reserved_port()}"
    with serving("gunicorn", "-w", "2", "-k", *options, "-b", address, "shop:app") as process:
        url = f"http://{address}/page"
        answered(url, process)
        workers = {answered(url, process) for _ in range(39)}
        assert len(workers) >= 1
        until(lambda: counted(server, "web").get("db:work:Select", 0) == 40)
        until(lambda: counted(server, "web").get("/page", 0) == 40)
        loads = 1 if "--preload" in options else 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        until(lambda: counted(server, "web").get("db:boot:Select", 0) == loads)
        assert (counted(server, "web")["db:work:Select"], counted(server, "web")["/page"]) == (40, 40)


def test_waitress(server: EmbeddedServer, serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    address = f"127.0.0.1:{reserved_port()}"
    with serving("python", "-m", "waitress", f"--listen={address}", "shop:app") as process:
        for _ in range(10):
            answered(f"http://{address}/page", process)
        until(lambda: counted(server, "web").get("/page", 0) == 10)


@pytest.mark.case("L21")
@pytest.mark.parametrize("options", [["--workers", "2"], ["--reload"]])
def test_uvicorns_processes_are_traced(
    server: EmbeddedServer, serving: Serving, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "shop.py").write_text(
        "import sqlite3\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return\n"
        "    sqlite3.connect('work').execute('select 1').fetchall()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'ok'})\n"
    )
    port = str(reserved_port())
    with serving("python", "-m", "uvicorn", *options, "--port", port, "--lifespan", "off", "shop:app") as process:
        for _ in range(10):
            assert answered(f"http://127.0.0.1:{port}/", process) == "ok"
        until(lambda: counted(server, "web").get("db:work:Select", 0) == 10)


@pytest.mark.case("L20")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        ["-m", "unittest", "test_it"],
        ["-m", "pdb", "-c", "break 3", "-c", "continue", "-c", "where", "-c", "continue", "-c", "quit", "app.py"],
        ["-m", "doctest", "-v", "app.py"],
        ["-m", "timeit", "-n", "1", "-r", "1", "pass"],
        ["-m", "coverage", "run", "--source=.", "app.py"],
    ],
    ids=lambda arguments: arguments[1],
)
def test_tools_work_as_ever(launch: Run, run: Run, python: str, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): assert 1 + 1 == 2\n"
    )
    (tmp_path / "app.py").write_text(
        "import sqlite3\ncursor = sqlite3.connect(':memory:').execute('select 1')\nprint(cursor.fetchone())\n"
    )

    def outcome(start: Run) -> tuple[int, str, str, str]:
        done = start([python, *arguments])
        report = run([python, "-m", "coverage", "report", "-m"]).stdout if "coverage" in arguments else ""
        out, err = (re.sub(r"[\d.]+ ?([num]?sec|s)\b", "T", text) for text in (done.stdout, done.stderr))
        return done.returncode, out, err, report

    plain = outcome(run)
    assert plain == outcome(launch)
    assert plain[0] == 0


@pytest.mark.case("L20")
def test_a_profiler_sees_the_program_and_its_output_stays(launch: Run, run: Run, python: str, tmp_path: Path) -> None:
    # it counts what we do in the program's thread, too
    (tmp_path / "app.py").write_text("def work(): return 1\nprint(work())\n")
    for start in (run, launch):
        done = start([python, "-m", "cProfile", "app.py"])
        assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "1", "")
        assert "app.py:1(work)" in done.stdout
