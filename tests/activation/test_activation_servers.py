"""Servers that fork and reload, as real processes under the launcher (tracing.md L8, L9, L20 to L22)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from activation_kit import Run, Serving, answered, counted, until
from ports import reserved_port

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
    # tracing.md L9, L22: every worker reports, none hangs, nothing is sent twice
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


@pytest.mark.parametrize("options", [["--workers", "2"], ["--reload"]])
def test_uvicorns_processes_are_traced(
    server: EmbeddedServer, serving: Serving, tmp_path: Path, options: list[str]
) -> None:
    # tracing.md L21
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


@pytest.mark.parametrize("tool", ["pytest", "pdb", "cProfile", "timeit", "unittest"])
def test_tools_work_as_ever(launch: Run, run: Run, python: str, tmp_path: Path, tool: str) -> None:
    # tracing.md L20
    (tmp_path / "test_it.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): assert 1 + 1 == 2\n"
    )
    (tmp_path / "app.py").write_text(
        "import sqlite3\nprint(sqlite3.connect(':memory:').execute('select 1').fetchone())\n"
    )
    arguments = {
        "pytest": ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        "pdb": ["-m", "pdb", "-c", "continue", "-c", "quit", "app.py"],
        "cProfile": ["-m", "cProfile", "app.py"],
        "timeit": ["-n", "1", "pass"],
        "unittest": ["-m", "unittest", "test_it"],
    }[tool]
    if tool == "timeit":
        arguments = ["-m", "timeit", *arguments]
    plain, traced = run([python, *arguments]), launch([python, *arguments])
    assert traced.returncode == plain.returncode
    assert traced.stdout.split()[:1] == plain.stdout.split()[:1]
