"""A center that says what a test tells it to: a real HTTP server, so that the real session and client talk to it."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stardust_auto.config import ConfigClient
from stardust_auto.environment.identity import Identity
from stardust_auto.errors import UnavailableError
from stardust_auto.process.clock import Clock
from stardust_auto.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ManualClock(Clock):
    """Time that moves when a test says so. ``jump`` moves the wall clock alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.jump = 0.0
        self._epoch = time.time() - self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return int(self.wall() * 1e9)

    def wall(self) -> float:
        return self._epoch + self.now + self.jump


class ScriptedCenter:
    """``state`` is what GetAll answers from, by the rules of protocol.md §6.1; ``script`` entries are answered first.

    An entry is a dict (the ``data`` member), an int (an HTTP status), bytes (a whole body) or a function of the request.
    """

    def __init__(self) -> None:
        self.version = 1
        self.scope: str | None = None
        self.values: dict[str, Any] = {}
        self.next_publish = ""
        #: Whether answers say that they are whole, as those of the embedded server do.
        self.coherent = False
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
            **({"coherent": True} if self.coherent else {}),
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


class TornCenter:
    """GetAll of a StarServer: the version and the rows come from two caches of 10 s that expire apart (protocol.md §12.7).

    A reader that finds a cache expired gets the stale entry all the same, and has it read anew behind its back. The program that publishes
    writes to the database, past the server. It is a session for the client under test: no socket, so that a test can try many phases.
    """

    CACHE_SECONDS = 10.0
    app_id = "shop"
    client_id = "127.0.0.1@1"
    server = "http://starserver"
    clock_offset_ms = 0

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked = 0
        self.account = self.connection = self.commands = self  # the parts of a session that a client uses
        self.connection = self  # the parts of a session that a client uses
        self.features: frozenset[str] = frozenset()
        #: Events that the client posted: kind, name, remark.
        self.events: list[tuple[str, str, str]] = []
        #: So many requests fail.
        self.failures = 0
        self._version = 0
        self._rows: dict[str, tuple[str, int]] = {}
        self._shared: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        """Both caches are fresh."""
        self._load_version()
        self._load_rows()

    def age(self, version: float, rows: float) -> None:
        """Both caches are current and so many seconds old."""
        self.reload()
        self._version_at, self._rows_at = self.clock.now - version, self.clock.now - rows

    def _load_version(self) -> None:
        self._cached_version, self._version_at = self._version, self.clock.now

    def _load_rows(self) -> None:
        self._cached_rows, self._cached_shared, self._rows_at = dict(self._rows), dict(self._shared), self.clock.now

    def publish(self, values: Mapping[str, str]) -> None:
        """Rows are changed in place; those that changed carry the new version."""
        self._version += 1
        self._rows = {
            key: row if (row := self._rows.get(key)) is not None and row[0] == value else (value, self._version)
            for key, value in values.items()
        }

    def share(self, values: Mapping[str, str]) -> None:
        """A global application publishes: no version of ours moves."""
        self._shared = dict(values)

    def answer_to(self, version: int) -> dict[str, Any]:
        """The ``data`` of GetAll for a client that says it has ``version``."""
        current = self._cached_version
        own = {key: value for key, (value, row_version) in self._cached_rows.items() if row_version <= current}
        configs = None if version > 0 and version >= current else {**self._cached_shared, **own}
        if self.clock.now - self._version_at >= self.CACHE_SECONDS:
            self._load_version()
        if self.clock.now - self._rows_at >= self.CACHE_SECONDS:
            self._load_rows()
        return {"version": current, "scope": None, "nextVersion": 0, "nextPublish": "", "configs": configs}

    def call(self, path: str, body: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise UnavailableError("no server answers")
        return self.answer_to(body.get("Version", 0))

    def post_event(self, kind: str, name: str, remark: str) -> None:
        self.events.append((kind, name, remark))

    def wake(self, task: object) -> None:
        """The test runs the client itself."""

    def client(self, **options: Any) -> ConfigClient:
        """A client whose pulls the test runs itself, with ``run()``."""
        client = ConfigClient(self.server, "shop", session=self, **options)  # type: ignore[arg-type]  # all of a session that it needs
        client._running = True
        return client
