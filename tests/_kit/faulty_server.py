"""A real HTTP server that speaks enough of the protocol, and every fault on demand. Serves the tests of this folder."""

from __future__ import annotations

import gzip
import json
import logging
import queue
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

# The server's own log would show what the tests look for in the client's.
_nobody = logging.Logger("nobody", logging.CRITICAL + 1)  # noqa: LOG001 - not in the tree, so no handler gets it

Answer = Callable[["Handler"], object]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two packets: else each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    server: FaultyServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        return

    def do_GET(self) -> None:
        self.handle_call()

    def do_POST(self) -> None:
        self.handle_call()

    def handle_call(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body: Any = None
        if raw:
            plain = gzip.decompress(raw) if self.headers.get("Content-Type") == "application/x-gzip" else raw
            body = json.loads(plain)
        self.call_path = self.path.partition("?")[0].strip("/").lower()
        self.call_body = body
        self.server.record(self, body)
        answer = self.server.answers.get(self.call_path) or self.server.answers.get("*")
        if answer is not None:
            answer(self)
        else:
            self.server.default(self)

    def reply(self, data: Any, code: int = 0, message: str | None = None) -> None:
        self.reply_json({"code": code, "message": message} if code else {"code": 0, "data": data})

    def reply_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.reply_bytes(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def reply_bytes(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Reset the connection (RST), not a clean end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


class Call:
    def __init__(self, path: str, method: str, query: str, headers: dict[str, str], body: Any, at: float) -> None:
        self.path, self.method, self.query, self.headers, self.body, self.at = path, method, query, headers, body, at

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class Socket:
    """The server's end of a push socket."""

    def __init__(self, handler: Handler, server: FaultyServer) -> None:
        self.handler, self.server = handler, server
        self.token = handler.headers["Authorization"]
        self.texts: queue.Queue[str] = queue.Queue()
        self.answers_pings = True
        self.close_code: int | None = None
        self.ended = threading.Event()
        self._protocol = ServerProtocol(logger=_nobody)
        head = "".join(f"{name}: {value}\r\n" for name, value in handler.headers.items())
        self._protocol.receive_data(f"{handler.requestline}\r\n{head}\r\n".encode())
        (request,) = self._protocol.events_received()
        assert isinstance(request, Request)
        self._protocol.send_response(self._protocol.accept(request))

    def serve(self) -> None:
        self._flush()
        self.server.opened(self)
        self.handler.close_connection = True
        try:
            if self.server.on_socket is not None:
                self.server.on_socket(self)
            while data := self.handler.connection.recv(65536):
                self._protocol.receive_data(data)
                for event in self._protocol.events_received():
                    self._take(event)
                self._flush()
        except OSError:
            return
        finally:
            self.ended.set()

    def _take(self, frame: Any) -> None:
        if frame.opcode is Opcode.TEXT:
            text = frame.data.decode()
            self.texts.put(text)
            if text == "Ping" and self.answers_pings:
                self._protocol.send_text(b"Pong")
        elif frame.opcode is Opcode.CLOSE and self._protocol.close_rcvd is not None:
            self.close_code = self._protocol.close_rcvd.code

    def send(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        self._flush()

    def push(self, command: str, number: int, **members: Any) -> None:
        """A command, as StarServer pushes it: PascalCase, empty text for times that are not set."""
        frame = {"Id": number, "Command": command, "Argument": "", "StartTime": "", "Expire": "", "Status": 0} | members
        self.send(json.dumps(frame))

    def close(self, code: int = 1001) -> None:
        self._protocol.send_close(code, "Dispose")
        self._flush()

    def reset(self) -> None:
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.connection.shutdown(socket.SHUT_RD)
        self.handler.connection.close()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.handler.connection.sendall(data)


class FaultyServer(ThreadingHTTPServer):
    """Answers like a healthy server until ``answers[path]`` (lower case, or ``*``) says otherwise."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers: dict[str, Answer] = {}
        self.calls: list[Call] = []
        self.period = 60
        self.secret = "issued-secret-42"
        self.token = "token-1"
        self.commands: list[dict[str, Any]] | None = None
        self.excludes: list[str] | None = None
        self.echo_batches = False
        self.clock_offset = 0.0
        self.accept_sockets = True
        self.sockets: list[Socket] = []
        #: What happens to each push socket once it is open.
        self.on_socket: Callable[[Socket], None] | None = None
        self._connections: list[socket.socket] = []
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # clients that give up are what the tests are about

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gone, as a killed server is: kept connections end, too."""
        self.shutdown()
        self.server_close()
        for connection in tuple(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def record(self, handler: Handler, body: Any) -> None:
        path, _, query = handler.path.partition("?")
        with self._arrived:
            self.calls.append(
                Call(path.strip("/").lower(), handler.command, query, dict(handler.headers), body, time.monotonic())
            )
            self._arrived.notify_all()

    def count(self, path: str) -> int:
        return len(self.of(path))

    def of(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path.lower()]

    def wait_for(self, path: str, times: int = 1, timeout: float = 10.0) -> Call:
        with self._arrived:
            if not self._arrived.wait_for(lambda: self.count(path) >= times, timeout):
                raise AssertionError(f"{path} came {self.count(path)} of {times} times; calls: {self.calls}")
            return self.of(path)[times - 1]

    def wait_for_socket(self, number: int = 1, timeout: float = 10.0) -> Socket:
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.sockets) >= number, timeout):
                raise AssertionError(f"{len(self.sockets)} of {number} sockets; calls: {self.calls}")
            return self.sockets[number - 1]

    def opened(self, socket: Socket) -> None:
        with self._arrived:
            self.sockets.append(socket)
            self._arrived.notify_all()

    def default(self, handler: Handler) -> None:
        now = int((time.time() + self.clock_offset) * 1000)
        path = handler.call_path
        if path != "app/login" and handler.headers.get("Authorization") != f"Bearer {self.token}":
            handler.reply(None, 401, "token refused")
        elif path == "app/login":
            handler.reply(
                {"code": handler.call_body["AppId"], "secret": self.secret, "name": "x", "token": self.token}
                | {"expire": 7200, "time": 0, "serverTime": now}
            )
        elif path == "app/ping":
            handler.reply(
                {"time": 0, "serverTime": now, "period": self.period, "token": None, "newServer": None}
                | {"commands": self.commands}
            )
        elif path == "trace/reportraw":
            data: dict[str, Any] = {
                "period": 60,
                "maxSamples": 1,
                "maxErrors": 10,
                "timeout": 5000,
                "maxTagLength": 1024,
            }
            data |= {"requestTagLength": 1024, "enableMeter": True, "excludes": self.excludes}
            if self.echo_batches:
                data["batchId"] = handler.call_body["BatchId"]
            handler.reply(data)
        elif path in ("app/commandreply", "app/postevents"):
            handler.reply(1)
        elif path == "app/logout":
            handler.reply({"name": "x", "token": None})
        elif path == "app/notify" and self.accept_sockets:
            Socket(handler, self).serve()
        else:
            handler.reply_bytes(b"", 404)


def totals(calls: list[Call]) -> dict[str, int]:
    """Spans per name in the reports among ``calls``."""
    found: dict[str, int] = defaultdict(int)
    for call in calls:
        if call.path == "trace/reportraw":
            for builder in call.body["Builders"]:
                found[builder["Name"]] += builder["Total"]
    return dict(found)
