"""SIGTERM keeps the last calls, whichever thread made them and whatever the main thread is at."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import LAUNCHER, QUERIES, counted, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

    Program = Callable[[str], AbstractContextManager[subprocess.Popen[bytes]]]

pytestmark = pytest.mark.case("X9")

#: A web server of the standard library: each request has its thread, and the main thread waits.
THREADING = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        queries("page", 1)
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *args): pass
web = ThreadingHTTPServer(("127.0.0.1", 0), Page)
def visit():
    import urllib.request
    for _ in range(5): urllib.request.urlopen(f"http://127.0.0.1:{web.server_port}/").read()
    online(); print("ready", flush=True)
threading.Thread(target=visit, daemon=True).start()
web.serve_forever()
"""
#: The main thread waits for a lock that is never released.
JOIN = """
def work():
    queries("page", 5); online()  # so that the second at the end is enough on a busy machine
    print("ready", flush=True)
    threading.Event().wait(60)
thread = threading.Thread(target=work); thread.start(); thread.join()
"""


@pytest.fixture
def program(clean: dict[str, str], server: EmbeddedServer, python: str, tmp_path: Path) -> Program:
    """Run a program under the launcher until it has printed ``ready``. It reports once a minute, or when it ends."""

    @contextmanager
    def run(code: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [LAUNCHER, "--server", server.url, "--app", "web", python, "-c", "import threading\n" + QUERIES + code],
            env={**clean, "STARDUST_PERIOD": "60"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n", process.communicate()
            yield process
        finally:
            process.kill()
            process.communicate()

    return run


@pytest.mark.parametrize("code", [THREADING, JOIN], ids=["threading", "join"])
def test_the_first_call_was_in_another_thread(program: Program, server: EmbeddedServer, code: str) -> None:
    with program(code) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
        assert process.communicate() == (b"", b"")
        until(lambda: counted(server, "web").get("db:page:Select", 0) == 5)


def test_the_main_thread_is_in_c_code(program: Program, server: EmbeddedServer) -> None:
    # a query of a minute; Python runs no handler before it is over
    code = """
queries("page", 5); online()
print("ready", flush=True)
sqlite3.connect("x").execute("with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n limit 1").fetchall()
"""
    with program(code) as process:
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
        assert (
            time.monotonic() - started < 6.0
        )  # half a second for the main thread, one for the end; the rest is for a busy machine
        until(lambda: counted(server, "web").get("db:page:Select", 0) == 5)


def test_a_handler_that_the_program_sets_later_is_its_own(program: Program) -> None:
    code = """
queries("page", 1)
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: (print("mine", flush=True), sys.exit(3)))
print("ready", flush=True)
time.sleep(60)
"""
    with program(code) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 3
        assert process.communicate() == (b"mine\n", b"")


def test_nothing_but_signals_of_the_program_is_left_behind(program: Program) -> None:
    # SIGURG is what asks the main thread, and the wake-up descriptor is free for an event loop that looks
    code = """
import signal
thread = threading.Thread(target=queries, args=("page", 1)); thread.start(); thread.join()
print("ready", flush=True)
import asyncio, sys
async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: loop.stop())
    signal.raise_signal(signal.SIGUSR1)
    await asyncio.sleep(20)
try: asyncio.run(main())
except RuntimeError: pass
print(signal.getsignal(signal.SIGURG) is signal.SIG_DFL)
"""
    with program(code) as process:
        assert process.wait(20) == 0
        assert process.communicate() == (b"True\n", b"")
