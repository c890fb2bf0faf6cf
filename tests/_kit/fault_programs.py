"""A real program under the launcher, with a fault of the server, the network, the platform's data, the machine or the program.

    PYTHONPATH=tests python -m _kit.fault_programs [WORDS]     # the matrix of docs/reliability.md, or the rows with one of the words

The program makes a query about every 10 ms and notes how long the slowest one took. The fault is there from its start until the program has
logged it (where it logs one), and some seconds more. Then the server is healthy, the program ends, and every call must have arrived or be
counted as dropped. Six invariants hold under every fault; :func:`broken` names those that do not.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _kit.faulty_server import FaultyServer, Handler, Socket, totals
from _kit.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
HERE = Path(__file__).parent
#: Seconds for which a fault goes on after it was noticed.
HOLD = 3.0
PATIENCE = 75.0

PROGRAM = """
import json, sqlite3, sys, threading, time
%s
database = sqlite3.connect(":memory:")
def dropped():
    import gc
    return sum(sum(one.counts.dropped.values()) for one in gc.get_objects() if type(one).__name__ == "StardustExporter")
slowest, count, stop = 0.0, 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.is_set():
    started = time.perf_counter()
    database.execute("select 1").fetchall()
    slowest, count = max(slowest, time.perf_counter() - started), count + 1
    stop.wait(0.01)
with open("/proc/self/status") as file:
    memory = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
lost = dropped()
print(json.dumps({"count": count, "slowest_ms": slowest * 1000, "memory_mb": memory / 1024, "dropped": lost}), flush=True)
"""

#: The wall clock of the program, and with it the agent's own, goes where it wants to: a day ahead, then two back.
JUMPS = """
import itertools
from stardust_auto.process import clock
real, real_ns, turns = time.time, time.time_ns, itertools.count()
def off(): return (0, 86400, -86400)[min(next(turns) // 200, 2)]
time.time = clock.wall_time = lambda: real() + off()
time.time_ns = lambda: real_ns() + off() * 1_000_000_000
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
        self.on_socket = None
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
    """One row of the matrix.

    Attributes:
        answer: what the server does with every call, or with those of ``path`` alone.
        push: what it does with each push socket.
        lines: how many warnings the program may log while the fault lasts.
        text: what they say.
        waits: whether the fault is over only after the program has logged it.
        stores: whether the server stores reports while the fault lasts.
        quick: whether the test suite runs it; the command runs all.
    """

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
    path: str = "*"
    push: Callable[[Socket], None] | None = None
    waits: bool = True
    stores: bool = False
    quick: bool = False


TLS = {"REQUESTS_CA_BUNDLE": str(HERE / "loopback.pem")}
SECURE = "https://127.0.0.1:{port}"
HTML = b"<html>hello</html>"


def status(number: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.reply_bytes(
        b"", number, {name.replace("_", "-"): value for name, value in headers.items()}
    )


def data(**members: Any) -> Callable[[Handler], None]:
    """The healthy answer with other members."""

    def change(handler: Handler, body: bytes) -> None:
        value = json.loads(body)
        if isinstance(value.get("data"), dict):
            value["data"] |= {name: member for name, member in members.items() if name in value["data"]}
        handler.reply_bytes(json.dumps(value).encode())

    return changed(change)


def flood(frame: bytes) -> Callable[[Socket], None]:
    def push(socket: Socket) -> None:
        block = frame * (1 + 65_536 // len(frame))
        while not socket.server.lifted.is_set():  # type: ignore[attr-defined]  # it is a Server
            socket.handler.connection.sendall(block)

    return push


def frames(*sent: bytes) -> Callable[[Socket], None]:
    return lambda socket: socket.handler.connection.sendall(b"".join(sent))


def close_at_once(handler: Handler) -> None:
    handler.connection.close()
    handler.close_connection = True


def endless_100(handler: Handler) -> None:
    while not handler.server.lifted.is_set():  # type: ignore[attr-defined]  # it is a Server
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def endless_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.lifted.is_set():  # type: ignore[attr-defined]  # it is a Server
        handler.wfile.write(b"X-A: b\r\n" * 1000)


#: Everything that an answer can be but the right one.
ANSWERS: dict[str, Callable[[Handler], None]] = {
    "accepts and hangs": hang,
    "one byte a second": drip,
    "closed without an answer": close_at_once,
    "reset in the header": reset_in_header,
    "reset in the body": reset_in_body,
    "HTML": lambda h: h.reply_bytes(HTML),
    "empty answer": lambda h: h.reply_bytes(b""),
    "truncated JSON": lambda h: h.reply_bytes(b'{"code":0,"data":{"ti'),
    "bare array": lambda h: h.reply_json([1, 2]),
    "`data` is null": lambda h: h.reply(None),
    "`data` is a number": lambda h: h.reply_json({"code": 0, "data": 7}),
    "HTTP 200 with `code` 500": lambda h: h.reply(None, 500, "broken"),
    "`code` 401 for ever": lambda h: h.reply(None, 401, "who are you"),
    "`code` 403 for ever": lambda h: h.reply(None, 403, "disabled"),
    "HTTP 404": status(404),
    "HTTP 413": status(413),
    "HTTP 429, Retry-After: 2": status(429, Retry_After="2"),
    "HTTP 500": status(500),
    "HTTP 502": status(502),
    "HTTP 503, Retry-After: 2": status(503, Retry_After="2"),
    "HTTP 504": status(504),
    "redirect in circles": lambda h: h.reply_bytes(b"", 302, {"Location": h.path}),
    "redirect to another host": lambda h: h.reply_bytes(b"", 307, {"Location": "http://localhost:1/x"}),
    "answer of 30 MB": lambda h: h.reply_bytes(b'{"code":0,"data":"' + b"x" * 30_000_000),
    "gzip bomb": lambda h: h.reply_bytes(gzip.compress(b" " * 100_000_000, 1), 200, {"Content-Encoding": "gzip"}),
    "not the gzip that it says": lambda h: h.reply_bytes(b"nope", 200, {"Content-Encoding": "gzip"}),
    "endless 100 Continue": endless_100,
    "endless header": endless_header,
}
_SLOW = ("accepts and hangs", "one byte a second", "endless 100 Continue", "endless header")


def _server_faults() -> Iterator[Fault]:
    quick = {
        "accepts and hangs": "no answer in time",
        "one byte a second": "no answer in time",
        "reset in the header": "cannot be reached",
        "reset in the body": "cannot be reached",
        "HTML": "HTML",
        "truncated JSON": "not JSON",
        "bare array": "bare array",
        "HTTP 200 with `code` 500": "code 500: broken",
        "`code` 401 for ever": "code 401",
        "HTTP 503, Retry-After: 2": "HTTP 503",
        "redirect to another host": "redirects to http://localhost",
        "answer of 30 MB": "larger than",
    }
    for name, answer in ANSWERS.items():
        yield Fault(name, answer, text=quick.get(name, ""), quick=name in quick, waits=name != "empty answer")
    for path, title in (
        ("app/login", "login"),
        ("app/ping", "ping"),
        ("trace/reportraw", "report"),
        ("app/postevents", "events"),
    ):
        for name, answer in ANSWERS.items():
            if path == "app/postevents" and name in _SLOW:
                continue  # as for the report, which is the same code
            quick_one = (path, name) in (
                ("trace/reportraw", "HTTP 502"),
                ("trace/reportraw", "`code` 401 for ever"),
                ("app/ping", "HTML"),
            )
            yield Fault(f"{title} only: {name}", answer, path=path, waits=False, quick=quick_one)


def _data_faults() -> Iterator[Fault]:
    logins: dict[str, dict[str, Any]] = {
        "a token with a line break": {"token": "a\r\nX: y"},
        "a token beyond Latin-1": {"token": "t\u4e2d\ufffd"},
        "a null token": {"token": None},
        "a token of 15 KB": {"token": "x" * 15_000},
        "a token that is a list": {"token": [1]},
    }
    for name, members in logins.items():
        yield Fault(f"login gives {name}", data(**members), path="app/login", waits=False, quick="break" in name)
    pings: dict[str, dict[str, Any]] = {
        "period 0": {"period": 0},
        "period -1": {"period": -1},
        "period 10^18": {"period": 10**18},
        "period as text": {"period": "soon"},
        "server time in 1970": {"serverTime": 1},
        "server time in 2300": {"serverTime": 10**13},
        "server time a year off": {"serverTime": 1_900_000_000_000},
        "10 000 commands": {"commands": [{"id": n, "command": "x"} for n in range(1, 10_001)]},
        "commands that are text": {"commands": "none"},
        "a token with a line break": {"token": "a\r\nX: y"},
    }
    for name, members in pings.items():
        off = "a year" in name
        yield Fault(
            f"ping gives {name}", data(**members), path="app/ping", lines=1 if off else 0, waits=False, stores=not off
        )
    reports: dict[str, dict[str, Any]] = {
        "100 000 excludes": {"excludes": [f"none{n}" for n in range(100_000)]},
        "period 0": {"period": 0},
        "2^31 samples": {"maxSamples": 2**31, "maxErrors": 2**31},
        "negative limits": {"maxSamples": -1, "maxErrors": -1, "timeout": -1, "maxTagLength": -1},
        "limits that are lists": {"maxSamples": [], "timeout": {}, "excludes": 7},
    }
    for name, members in reports.items():
        yield Fault(f"report gives {name}", data(**members), path="trace/reportraw", lines=0, waits=False, stores=True)


def _push_faults() -> Iterator[Fault]:
    text = b"\x81\x01x"
    for name, push in {
        "texts without end": flood(text),
        "commands without end": flood(b'\x81\x19{"Id":0,"Command":"flood"}'),
        "pings without end": flood(b"\x89\x00"),
        "empty fragments without end": flood(b"\x00\x00"),
        "closed at once": lambda socket: socket.close(1000),
        "closed at once with 1001": lambda socket: socket.close(1001),
        "reset at once": lambda socket: socket.reset(),
        "a frame against the protocol": frames(b"\xf1\x01x"),
        "a masked frame": frames(b"\x81\x81abcdx"),
        "a message of 2 MB": frames(b"\x81\x7f" + (2_000_000).to_bytes(8, "big") + b"x" * 2_000_000),
        "a frame of 2^62 bytes": frames(b"\x81\x7f" + (2**62).to_bytes(8, "big")),
        "text that is no UTF-8": frames(b"\x81\x02\xff\xfe"),
        "half a frame, then silence": frames(b"\x81"),
        "JSON nested 50 000 deep": lambda socket: socket.send("{" * 50_000),
        "an unknown command": lambda socket: socket.push("no/such", 9),
    }.items():
        yield Fault(
            f"push: {name}",
            push=push,
            waits=False,
            stores=True,
            quick="without end" in name and "fragments" not in name,
        )
    refusals = (
        "HTTP 404",
        "HTTP 500",
        "HTTP 503, Retry-After: 2",
        "HTML",
        "accepts and hangs",
        "one byte a second",
        "reset in the header",
    )
    for name in refusals:
        yield Fault(f"push: {name}", ANSWERS[name], path="app/notify", waits=False, stores=True)


def _network_faults() -> Iterator[Fault]:
    yield Fault("connection refused", listens=False, text="refused", quick=True)
    yield Fault(
        "name without an address", url="http://platform.test:{port}", prelude=NAMES, text="not known", quick=True
    )
    yield Fault(
        "slow TLS",
        url=SECURE,
        certificate="loopback.pem",
        handshakes=False,
        env=TLS,
        text="no answer in time",
        quick=True,
    )
    yield Fault(
        "bad certificate", url=SECURE, certificate="self_signed.pem", env=TLS, text="(?i)certificate", quick=True
    )
    yield Fault(
        "CA bundle that does not exist",
        url=SECURE,
        certificate="loopback.pem",
        env={"REQUESTS_CA_BUNDLE": "/nowhere"},
        prelude=TRUST,
    )
    elsewhere = "http://platform.test:1,http://127.0.0.1:{port}"
    for name, url, env in (
        ("IPv6 without a server", "http://[::1]:1,http://127.0.0.1:{port}", {}),
        ("first server of the list refuses", "http://127.0.0.1:1,http://127.0.0.1:{port}", {}),
        (
            "first server of the list behind a dead proxy",
            elsewhere,
            {"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"},
        ),
        (
            "first server of the list behind a socks proxy",
            elsewhere,
            {"http_proxy": "socks5://127.0.0.1:1", "no_proxy": "127.0.0.1"},
        ),
    ):
        yield Fault(name, url=url, env=env, lines=0, waits=False, stores=True)


def _program_faults() -> Iterator[Fault]:
    yield Fault("no fault", lines=0, waits=False, stores=True, quick=True)
    yield Fault("clock that jumps by days", prelude=JUMPS, lines=0, waits=False, stores=True, quick=True)
    yield Fault("disk full", prelude=FULL, text="cannot keep", stores=True, quick=True)
    yield Fault(
        "cache folder read-only",
        env={"STARDUST_CACHE_DIR": "/proc/stardust"},
        text="cannot keep",
        stores=True,
        quick=True,
    )
    for name, prelude in {
        "forks every 50 ms": FORKS,
        "calls of 4 threads at once": THREADS,
        "spans with odd names and values": ODD,
        "a collection of garbage every ms": GARBAGE,
        "warnings are errors": "import warnings; warnings.simplefilter('error')",
        "its own logging raises": LOGGING,
        "stdout and stderr are lines of a slow pipe": "import time; time.sleep(0.2)",
    }.items():
        yield Fault(f"program: {name}", prelude=prelude, lines=0, waits=False, stores=True)
    for name, change in {
        "members in another case": other_case,
        "gzip": lambda h, body: h.reply_bytes(gzip.compress(body), 200, {"Content-Encoding": "gzip"}),
    }.items():
        yield Fault(name, changed(change), lines=0, waits=False, stores=True, quick=True)
    yield Fault(
        "brotli, which was not asked for",
        changed(lambda h, body: h.reply_bytes(b"\x8b\x08\x80" + body[:9], 200, {"Content-Encoding": "br"})),
        text="refuses|cannot be reached",
        quick=True,
    )


#: A child that ends at once, again and again.
FORKS = """
import os
def fork():
    while not stop.is_set():
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0); stop.wait(0.05)
import warnings; warnings.simplefilter("ignore")
stop = threading.Event()
threading.Thread(target=lambda: (time.sleep(0.2), fork()), daemon=True).start()
"""
THREADS = """
def more():
    own = sqlite3.connect("file:other?mode=memory", uri=True)
    while True: list(range(1000)); time.sleep(0.001)
for _ in range(4): threading.Thread(target=more, daemon=True).start()
"""
ODD = """
def odd():
    from stardust_auto.agent import get_tracer
    class Bad:
        def __str__(self): raise ValueError
    time.sleep(0.5)
    while True:
        for value in (Bad(), "x", 10**400, None, float("nan")):
            with get_tracer().new_span("odd") as span: span.value = value; span.tag = value
        time.sleep(0.01)
threading.Thread(target=odd, daemon=True).start()
"""
GARBAGE = """
import gc
threading.Thread(target=lambda: [(gc.collect(), time.sleep(0.001)) for _ in iter(int, 1)], daemon=True).start()
"""
#: The CA bundle is put right when the fault is over.
TRUST = f"""
import os
def trust():
    while not os.path.exists("resolved"): time.sleep(0.05)
    os.environ["REQUESTS_CA_BUNDLE"] = {str(HERE / "loopback.pem")!r}
threading.Thread(target=trust, daemon=True).start()
"""
#: Handlers of the program's own that cannot write.
LOGGING = """
import logging
logging.Handler.emit = lambda *_: 1 / 0
logging.getLogger().addHandler(logging.Handler())
"""

FAULTS = tuple(
    fault
    for group in (_program_faults, _network_faults, _server_faults, _data_faults, _push_faults)
    for fault in group()
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the program said of itself, what it logged, what reached the server."""

    count: int
    dropped: int
    slowest_ms: float
    memory_mb: float
    code: int
    end_seconds: float
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
                server.answers[fault.path] = fault.answer
            server.on_socket = fault.push
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
        if fault.waits:
            _wait(lambda: any("WARNING" in line for line in lines), "the fault was not noticed")
        elif server is not None:
            met = server
            path = "app/notify" if fault.push is not None else fault.path
            _wait(lambda: bool(met.calls if path == "*" else met.of(path)), "the program did not meet the fault")
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
            _wait(lambda: any(call.at > lifted for call in healthy.of("trace/reportraw")), "no report came")
            recovered = time.monotonic() - lifted
            program.stdin.write("stop\n")
            program.stdin.close()
            said = json.loads(program.stdout.readline())
            stopped = time.monotonic()
            rest = program.stdout.read()
            assert not rest, rest
            code = program.wait(10)
            end = time.monotonic() - stopped
            reader.join(5)
            arrived = _stored(healthy, fault, lifted)
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
        said["dropped"],
        said["slowest_ms"],
        said["memory_mb"],
        code,
        end,
        tuple(line.strip() for line in lines if "WARNING" in line),
        tuple(line.strip() for line in lines if "WARNING" not in line),
        calls,
        seconds,
        recovered,
        arrived,
    )


def _stored(server: Server, fault: Fault, lifted: float) -> int:
    """Calls that the server has kept: each batch once, however often it was sent, and only what was answered well."""
    batches = {
        call.body["BatchId"]: call
        for call in server.of("trace/reportraw")
        if fault.stores or fault.path not in ("*", "trace/reportraw") or call.at > lifted
    }
    return totals(list(batches.values()))["db:memory:Select"] if batches else 0


def broken(fault: Fault, outcome: Outcome) -> list[str]:
    """The invariants that did not hold."""
    found = {
        "output and exit code": outcome.code == 0,
        "no call waits": outcome.slowest_ms < 1000,
        "end within 1 s": outcome.end_seconds < 2.0,  # of which half belongs to a busy machine
        "bounded memory": outcome.memory_mb < 120,
        "no storm": outcome.calls <= 12 + 2 * outcome.seconds,
        "no flood of log": len(outcome.warnings) <= fault.lines + (0 if fault.waits else 1)
        and len(outcome.others) <= 3,
        "no secret in the log": not any(
            "issued-secret" in line or "token-1" in line for line in (*outcome.warnings, *outcome.others)
        ),
        "delivered or counted": outcome.arrived + outcome.dropped == outcome.count,
    }
    return [name for name, holds in found.items() if not holds]


def _wait(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(failure)
        time.sleep(0.02)


def main() -> None:
    """Print the matrix, or the rows with one of the words of the command line in their names."""
    faults = [fault for fault in FAULTS if any(word in fault.name for word in sys.argv[1:] or [""])]
    run(FAULTS[0])  # fills the byte code cache
    print("| Fault | Slowest query | Memory | Connections | Warnings | Back after | End | Counts | Broken |")
    print("|---|---|---|---|---|---|---|---|---|")
    failed = 0
    with ThreadPoolExecutor(int(os.environ.get("FAULT_JOBS", "6"))) as pool:
        outcomes = list(zip(faults, pool.map(_run_safely, faults), strict=True))
    for fault, first in outcomes:
        # Once more, alone: with all of them at once the machine may be what was slow.
        outcome = first if isinstance(first, Outcome) and not broken(fault, first) else _run_safely(fault)
        if isinstance(outcome, str):
            failed += 1
            print(f"| {fault.name} | - | - | - | - | - | - | - | {outcome} |", flush=True)
            continue
        names = broken(fault, outcome)
        failed += bool(names)
        print(
            f"| {fault.name} | {outcome.slowest_ms:.0f} ms | {outcome.memory_mb:.0f} MB | {outcome.calls} in {outcome.seconds:.0f} s "
            f"| {len(outcome.warnings)} | {outcome.recovered_after:.1f} s | {outcome.end_seconds:.2f} s "
            f"| {outcome.arrived} + {outcome.dropped} of {outcome.count} | {', '.join(names) or '0'} |",
            flush=True,
        )
    print(f"\n{len(faults)} faults, {failed} broken")
    sys.exit(bool(failed))


def _run_safely(fault: Fault) -> Outcome | str:
    try:
        return run(fault)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
