"""The floor of the technique: plain closures that do all a Stardust tracer must do, and nothing else.

Name, parent and trace id, error capture, a lock, samples, traceparent in and out, the close of a WSGI body; one context variable, set and
reset around each call; ids from ``getrandbits``; names from a dictionary. No excludes, no route names, no redaction, no fork or
fault safety, no off switch: what stardust_auto adds on top of this is its own cost (``tracing.py`` prints the ratio).
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextvars import ContextVar

now, bits = time.perf_counter_ns, random.getrandbits
current: ContextVar[tuple[int, int] | None] = ContextVar("floor", default=None)
names: dict[object, str] = {}


class Aggregate:
    __slots__ = ("cost", "errors", "least", "lock", "most", "samples", "total")

    def __init__(self):
        self.lock = threading.Lock()
        self.total = self.errors = self.cost = self.most = 0
        self.least = 1 << 62
        self.samples = []


aggregates: dict[str, Aggregate] = {}


def finish(name, start, trace, span, parent, tag, error=None):
    cost = now() - start
    one = aggregates.get(name)
    if one is None:
        one = aggregates.setdefault(name, Aggregate())
    with one.lock:
        one.total = total = one.total + 1
        one.cost += cost
        if cost > one.most:
            one.most = cost
        if cost < one.least:
            one.least = cost
        if error is not None:
            one.errors += 1
        if total <= 1 or (error is not None and one.errors <= 10):
            one.samples.append((f"{trace:032x}", f"{span:016x}", parent, str(tag), repr(error), time.time_ns()))


def leaf(plain, name_of):
    """A method whose calls have nothing below them."""

    def call(self, *args, **kwargs):
        name = names.get(args[0])
        if name is None:
            name = names[args[0]] = name_of(args[0])
        above = current.get()
        trace, parent = above if above is not None else (bits(128), 0)
        span = bits(64)
        token = current.set((trace, span))
        start = now()
        try:
            result = plain(self, *args, **kwargs)
        except BaseException as error:
            current.reset(token)
            finish(name, start, trace, span, parent, args[0], error)
            raise
        current.reset(token)
        finish(name, start, trace, span, parent, args[0])
        return result

    return call


def sql_name(sql):
    return f"db:floor:{sql.split(None, 1)[0]}"


class Cursor(sqlite3.Cursor):
    __slots__ = ()
    execute = leaf(sqlite3.Cursor.execute, sql_name)
    executemany = leaf(sqlite3.Cursor.executemany, sql_name)


class Connection(sqlite3.Connection):
    __slots__ = ()

    def cursor(self):
        return sqlite3.Connection.cursor(self, Cursor)

    def execute(self, *args):
        return sqlite3.Connection.cursor(self, Cursor).execute(*args)

    def executemany(self, *args):
        return sqlite3.Connection.cursor(self, Cursor).executemany(*args)


def redis_command(plain):
    return leaf(plain, lambda command: f"redis:floor:{command.upper()}")


def redis_pipeline(plain):
    def execute(self, raise_on_error=True):
        stack = self.command_stack
        if not stack:
            return plain(self, raise_on_error)
        above = current.get()
        trace, parent = above if above is not None else (bits(128), 0)
        span = bits(64)
        token = current.set((trace, span))
        start = now()
        try:
            result = plain(self, raise_on_error)
        except BaseException as error:
            current.reset(token)
            finish("redis:floor:PIPELINE", start, trace, span, parent, len(stack), error)
            raise
        current.reset(token)
        finish("redis:floor:PIPELINE", start, trace, span, parent, len(stack))
        return result

    return execute


def requests_send(plain):
    def send(self, request, **kwargs):
        url = request.url.partition("?")[0]
        name = names.get(url)
        if name is None:
            name = names[url] = "/".join(url.split("/")[:4])
        above = current.get()
        trace, parent = above if above is not None else (bits(128), 0)
        span = bits(64)
        if "traceparent" not in request.headers:
            request.headers["traceparent"] = f"00-{trace:032x}-{span:016x}-01"
        token = current.set((trace, span))
        start = now()
        try:
            response = plain(self, request, **kwargs)
        except BaseException as error:
            current.reset(token)
            finish(name, start, trace, span, parent, url, error)
            raise
        current.reset(token)
        finish(name, start, trace, span, parent, url, response.reason if response.status_code >= 400 else None)
        return response

    return send


class Closing:
    __slots__ = ("body", "done", "step")

    def __init__(self, body, done):
        self.body, self.done = body, done

    def __iter__(self):
        return iter(self.body)

    def close(self):
        try:
            if hasattr(self.body, "close"):
                self.body.close()
        finally:
            self.done(None)


def wsgi(app):
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        name = names.get(path)
        if name is None:
            name = names[path] = path
        header = environ.get("HTTP_TRACEPARENT")
        if header is not None:
            _, trace_text, parent_text, _ = header.split("-")
            trace, parent = int(trace_text, 16), int(parent_text, 16)
        else:
            trace, parent = bits(128), 0
        span = bits(64)
        state = [None]

        def started(status, headers, *rest):
            state[0] = status
            return start_response(status, headers, *rest)

        def done(error):
            status = state[0]
            if error is None and status is not None and status >= "400":
                error = status
            finish(name, start, trace, span, parent, path, error)

        token = current.set((trace, span))
        start = now()
        try:
            body = app(environ, started)
        except BaseException as error:
            done(error)
            raise
        finally:
            current.reset(token)
        if type(body) is list:
            done(None)
            return body
        return Closing(body, done)

    return application
