"""A real program under the launcher, with a server that misbehaves and then does not. Serves ``test_protocol_faults.py``.

    python tests/_kit/fault_programs.py        # one after the other: the table of docs/reliability.md

The program makes a query about every 10 ms and notes how long the slowest one took. The fault is there from its start until
the program has said so in one line of log and three seconds more; then the server is healthy, and all that was counted since the
start of the program must arrive.
"""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _kit.faulty_server import FaultyServer, Handler, totals
from _kit.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable

LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
HERE = Path(__file__).parent
#: Seconds for which a fault goes on after it was noticed.
HOLD = 3.0
PATIENCE = 75.0

PROGRAM = """
import json, sqlite3, sys, threading, time
%s
database = sqlite3.connect(":memory:")
slowest, count, stop = 0.0, 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.is_set():
    started = time.perf_counter()
    database.execute("select 1").fetchall()
    slowest, count = max(slowest, time.perf_counter() - started), count + 1
    stop.wait(0.01)
with open("/proc/self/status") as file:
    memory = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(json.dumps({"count": count, "slowest_ms": slowest * 1000, "memory_mb": memory / 1024}))
"""

#: The wall clock of the program, and with it the agent's own, goes where it wants to: a day ahead, then two back.
JUMPS = """
import itertools
from stardust_auto.agent import current
from stardust_auto.process import clock
real, real_ns, turns = time.time, time.time_ns, itertools.count()
def off(): return (0, 86400, -86400)[min(next(turns) // 200, 2)]
time.time = lambda: real() + off()
time.time_ns = lambda: real_ns() + off() * 1_000_000_000
clock.wall_time, current().tracer.wall = time.time, time.time_ns
"""
#: A name that has no address until the file is there, for the program and for the agent.
NAMES = """
import os, socket
from stardust_auto.process import sockets
resolve = socket.getaddrinfo
def lookup(host, *rest, **more):
    if host != "platform.test": return resolve(host, *rest, **more)
    if not os.path.exists("resolved"): raise socket.gaierror(-2, "Name or service not known")
    return resolve("127.0.0.1", *rest, **more)
socket.getaddrinfo = sockets._original["getaddrinfo"] = lookup
"""
#: No file can grow any more, as on a full disk.
FULL = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"


class Server(FaultyServer):
    """Healthy from the moment of ``lift`` on; with TLS if it has a certificate."""

    def __init__(self, port: int = 0, certificate: str = "") -> None:
        super().__init__(port)
        self.lifted = threading.Event()
        self.handshakes = not certificate
        self.context = _context(certificate) if certificate else None
        self.connections = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        if self.context is not None:
            if not self.handshakes:
                self.lifted.wait(PATIENCE)
                return
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def lift(self) -> None:
        """The fault is over."""
        self.answers.clear()
        self.handshakes = True
        if self.context is not None:
            self.context = _context("loopback.pem")
        self.lifted.set()


def _context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / certificate)
    return context


def hang(handler: Handler) -> None:
    handler.server.lifted.wait(PATIENCE)  # type: ignore[attr-defined]  # it is a Server


def drip(handler: Handler) -> None:
    """One byte a second."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b" " * 500:
        handler.wfile.write(bytes([byte]))
        if handler.server.lifted.wait(1):  # type: ignore[attr-defined]  # it is a Server
            handler.close_connection = True
            return


def reset_in_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    handler.reset()


def reset_in_body(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"code":0')
    handler.reset()


def changed(change: Callable[[Handler, bytes], None]) -> Callable[[Handler], None]:
    """The healthy answer, written otherwise."""

    def answer(handler: Handler) -> None:
        if handler.call_path == "app/notify":
            handler.server.default(handler)
            return
        handler.reply_json = lambda value, *_: change(handler, json.dumps(value).encode())  # type: ignore[method-assign]
        handler.server.default(handler)
        del handler.reply_json  # the connection is kept, and with it this object

    return answer


def other_case(handler: Handler, body: bytes) -> None:
    def pascal(value: Any) -> Any:
        return {k[:1].upper() + k[1:]: pascal(v) for k, v in value.items()} if isinstance(value, dict) else value

    handler.reply_bytes(json.dumps(pascal(json.loads(body))).encode())


@dataclass(frozen=True, slots=True)
class Fault:
    """``answer`` is what the server does with every call; ``lines`` how many warnings the program may write."""

    name: str
    answer: Callable[[Handler], None] | None = None
    lines: int = 1
    text: str = ""
    url: str = "http://127.0.0.1:{port}"
    certificate: str = ""
    listens: bool = True
    handshakes: bool = True
    prelude: str = ""
    env: dict[str, str] = field(default_factory=dict)


TLS = {"REQUESTS_CA_BUNDLE": str(HERE / "loopback.pem")}
SECURE = "https://127.0.0.1:{port}"
FAULTS = (
    Fault("no fault", lines=0),
    Fault("connection refused", listens=False, text="refused"),
    Fault("name without an address", url="http://platform.test:{port}", prelude=NAMES, text="not known"),
    Fault("accepts and hangs", hang, text="no answer in time"),
    Fault("one byte a second", drip, text="no answer in time"),
    Fault("reset in the header", reset_in_header, text="cannot be reached"),
    Fault("reset in the body", reset_in_body, text="cannot be reached"),
    Fault("HTML", lambda h: h.reply_bytes(b"<html>hello</html>"), text="HTML"),
    Fault("truncated JSON", lambda h: h.reply_bytes(b'{"code":0,"data":{"ti'), text="not JSON"),
    Fault("bare array", lambda h: h.reply_json([1, 2]), text="bare array"),
    Fault("members in another case", changed(other_case), lines=0),
    Fault("HTTP 200 with `code` 500", lambda h: h.reply(None, 500, "broken"), text="code 500: broken"),
    Fault("`code` 401 for ever", lambda h: h.reply(None, 401, "who are you"), text="code 401"),
    Fault("HTTP 503, Retry-After: 2", lambda h: h.reply_bytes(b"", 503, {"Retry-After": "2"}), text="HTTP 503"),
    Fault(
        "gzip",
        changed(lambda h, body: h.reply_bytes(gzip.compress(body), 200, {"Content-Encoding": "gzip"})),
        lines=0,
    ),
    Fault(
        "brotli, which was not asked for",
        changed(lambda h, body: h.reply_bytes(b"\x8b\x08\x80" + body[:9], 200, {"Content-Encoding": "br"})),
        text="refuses|cannot be reached",
    ),
    Fault(
        "redirect to another host",
        lambda h: h.reply_bytes(b"", 307, {"Location": "http://localhost:1/x"}),
        text="redirects to http://localhost",
    ),
    Fault("answer of 30 MB", lambda h: h.reply_bytes(b'{"code":0,"data":"' + b"x" * 30_000_000), text="larger than"),
    Fault("slow TLS", url=SECURE, certificate="loopback.pem", handshakes=False, env=TLS, text="no answer in time"),
    Fault("bad certificate", url=SECURE, certificate="self_signed.pem", env=TLS, text="(?i)certificate"),
    Fault("clock that jumps by days", prelude=JUMPS, lines=0),
    Fault("disk full", prelude=FULL, text="cannot keep"),
    Fault("cache folder read-only", env={"STARDUST_CACHE_DIR": "/proc/stardust"}, text="cannot keep"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the program said of itself, what it logged, what reached the server."""

    count: int
    slowest_ms: float
    memory_mb: float
    code: int
    warnings: tuple[str, ...]
    others: tuple[str, ...]
    calls: int
    seconds: float
    recovered_after: float
    arrived: int


def run(fault: Fault) -> Outcome:
    """From the start of the program to its end."""
    with tempfile.TemporaryDirectory() as folder:
        port = reserved_port()
        server = Server(port, fault.certificate) if fault.listens else None
        if server is not None:
            server.handshakes = fault.handshakes
            if fault.answer is not None:
                server.answers["*"] = fault.answer
            server.__enter__()
        try:
            return _run(fault, server, port, folder)
        finally:
            if server is not None:
                server.lift()
                server.close()


def _run(fault: Fault, server: Server | None, port: int, folder: str) -> Outcome:
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("STAR", "PYTHON", "COV", "REQUESTS"))}
    environ = {
        **kept,
        "STARDUST_SERVER": fault.url.format(port=port),
        "STARDUST_APP_ID": "faults",
        "STARDUST_PERIOD": "1",
        "STARDUST_LOG_LEVEL": "info",
        "STARDUST_CACHE_DIR": os.path.join(folder, "cache"),
        "PYTHONPYCACHEPREFIX": os.path.join(tempfile.gettempdir(), "stardust-faults-bytecode"),
        **fault.env,
    }
    started = time.monotonic()
    program = subprocess.Popen(
        [LAUNCHER, sys.executable, "-c", PROGRAM % fault.prelude],
        env=environ,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    assert program.stderr is not None
    assert program.stdout is not None
    assert program.stdin is not None
    reader = threading.Thread(target=lines.extend, args=(program.stderr,), daemon=True)
    reader.start()
    try:
        if fault.lines:
            _wait(lambda: any("WARNING" in line for line in lines), "the fault was not noticed")
        time.sleep(HOLD)
        seconds, calls = time.monotonic() - started, server.connections if server is not None else 0
        with open(os.path.join(folder, "resolved"), "w"):
            lifted = time.monotonic()
        late = None
        if server is None:
            server = late = Server(port)
            late.__enter__()
        healthy = server
        healthy.lift()
        try:
            _wait(lambda: bool(healthy.of("trace/reportraw")) and bool(totals(healthy.calls)), "no report came")
            recovered = time.monotonic() - lifted
            program.stdin.write("stop\n")
            program.stdin.close()
            said = json.loads(program.stdout.read())
            code = program.wait(10)
            reader.join(5)
            arrived = sum(_stored(healthy).values())
        finally:
            if late is not None:
                late.close()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()
    return Outcome(
        said["count"],
        said["slowest_ms"],
        said["memory_mb"],
        code,
        tuple(line.strip() for line in lines if "WARNING" in line),
        tuple(line.strip() for line in lines if "WARNING" not in line),
        calls,
        seconds,
        recovered,
        arrived,
    )


def _stored(server: Server) -> dict[str, int]:
    """What the server has kept: each batch once, however often it was sent, and only what was answered well."""
    batches: dict[str, Any] = {call.body["BatchId"]: call for call in server.of("trace/reportraw")}
    return totals(list(batches.values()))


def _wait(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(failure)
        time.sleep(0.02)


def main() -> None:
    """Print the table."""
    print("| Fault | Slowest query | Memory | Connections | Warnings | Back after | Counts |")
    print("|---|---|---|---|---|---|---|")
    run(FAULTS[0])  # fills the byte code cache
    base = 0.0
    for fault in FAULTS:
        outcome = run(fault)
        base = base or outcome.memory_mb
        print(
            f"| {fault.name} | {outcome.slowest_ms:.1f} ms | {outcome.memory_mb - base:+.1f} MB "
            f"| {outcome.calls} in {outcome.seconds:.0f} s | {len(outcome.warnings)} | {outcome.recovered_after:.1f} s "
            f"| {outcome.arrived} of {outcome.count} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
