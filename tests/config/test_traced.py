"""A program under the launcher: what the center changes is in its traces, and its requests say which version they had."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import requests

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys, threading, urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server
from stardust_auto import StardustSettings, live

class Shop(StardustSettings):
    pool: int = 1

class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass

config = live(Shop)
changed = threading.Event()
config.on_change(lambda s: s.pool, lambda old, new: changed.set())

def app(environ, start_response):
    start_response("200 OK", [])
    return [str(config.current.pool).encode()]

server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(config.current.pool, flush=True)
assert changed.wait(20)
with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/buy") as reply:
    print(reply.read().decode(), flush=True)
server.shutdown()
"""


def test_changes_are_spans_and_requests_name_the_version(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with EmbeddedServer() as server:
        headers = {"Authorization": f"Bearer {server.key}"}

        def console(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
            reply = requests.request(method, f"{server.url}/console/api/{path}", json=body, headers=headers, timeout=10)
            reply.raise_for_status()
            return reply.json()

        def publish(pool: str) -> None:
            console("PUT", "config/shop", {"scope": "", "items": {"pool": pool}})
            console("POST", "config/shop/publish", {})

        publish("2")
        launcher = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
        command = [launcher, "--server", server.url, "--app", "shop", sys.executable, "program.py"]
        environ = {**os.environ, "STARDUST_CACHE_DIR": str(tmp_path / "cache")}
        with subprocess.Popen(
            command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "2\n"
            publish("3")
            output, errors = process.stdout.read(), process.stderr.read()
            assert (output, process.wait(20)) == ("3\n", 0), errors
        spans = [
            span
            for trace in console("GET", "traces?app=shop&limit=50")
            for span in console("GET", f"traces/{trace['trace_id']}")["spans"]
        ]
        tags = {span["name"]: span["tag"] for span in spans}
        assert tags["config:publish"] == "Shop shop v3 applied: pool"
        assert tags["/buy"].splitlines()[-1] == "config: shop v3"
