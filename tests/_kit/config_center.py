"""A center that says what a test tells it to: a real HTTP server, so that the real session and client talk to it."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stardust_auto.config import ConfigClient
from stardust_auto.environment.identity import Identity
from stardust_auto.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable


class ScriptedCenter:
    """``state`` is what GetAll answers from, by the rules of protocol.md §6.1; ``script`` entries are answered first.

    An entry is a dict (the ``data`` member), an int (an HTTP status), bytes (a whole body) or a function of the request.
    """

    def __init__(self) -> None:
        self.version = 1
        self.scope: str | None = None
        self.values: dict[str, Any] = {}
        self.next_publish = ""
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.logins = 0
        self.changed = threading.Condition()
        center = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: else each answer waits 40 ms for an acknowledgement

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                center.headers.append((self.path, self.headers))
                if self.path.startswith("/Config/GetAll"):
                    status, payload = center.answer(body)
                elif self.path.startswith("/App/Login"):
                    center.logins += 1
                    token = f"t{center.logins}"
                    status, payload = (
                        200,
                        _ok({"token": token, "expire": 7200, "name": "shop", "time": time.time_ns() // 1_000_000}),
                    )
                else:
                    status, payload = 200, _ok({"period": 60})
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.sessions: list[Session] = []

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        with self.changed:
            self.requests.append(body)
            self.changed.notify_all()
            entry = self.script.pop(0) if self.script else self.data(body)
        if callable(entry):
            entry = entry(body)
        if isinstance(entry, int):
            return entry, b"<html>no</html>"
        if isinstance(entry, bytes):
            return 200, entry
        return 200, _ok(entry)

    def data(self, body: dict[str, Any]) -> dict[str, Any]:
        unchanged = body.get("Version", 0) > 0 and body["Version"] >= self.version
        return {
            "version": self.version,
            "scope": self.scope,
            "sourceIP": "127.0.0.1",
            "nextVersion": 0,
            "nextPublish": self.next_publish,
            "updateTime": "2026-11-24 04:09:06",
            "configs": None if unchanged else dict(self.values),
        }

    def client(self, **options: Any) -> ConfigClient:
        """A client whose pulls the test runs itself, with ``run()``: no background thread."""
        session = Session(Identity(self.url, "shop", "s3cret", push=False))
        self.sessions.append(session)
        return ConfigClient(self.url, "shop", session=session, **options)

    def stop(self) -> None:
        for session in self.sessions:
            session.stop(0.5)
        self._server.shutdown()
        self._server.server_close()


def _ok(data: Any) -> bytes:
    return json.dumps({"code": 0, "data": data}).encode()


def failure(code: int, message: str) -> bytes:
    """A refusal in the platform's envelope, with HTTP 200."""
    return json.dumps({"code": code, "message": message}).encode()


def wait_for(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
