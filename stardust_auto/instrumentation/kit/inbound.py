"""Requests that the program answers: which one is open, whose trace it goes on with, what it is called, how it ends.

An interface (WSGI, ASGI) opens a span with :func:`open_request`, makes it current while the application runs, notes the status, and
ends the span with the last part of the body. A framework names it by its route. All of them find it by :data:`KEY` in what the interface
calls ``environ`` or ``scope``: the key survives the copies that mounts and middleware make, and a call inside the process has none.

===================  ==========================================  ============================================================
                     WSGI                                        ASGI
===================  ==========================================  ============================================================
entry                ``app(environ, start_response)``            ``await app(scope, receive, send)``, ``type`` is ``http``
headers              ``environ["HTTP_..."]``                     pairs of bytes in ``scope["headers"]``
status               first argument of ``start_response``        message ``http.response.start`` in ``send``
bytes sent           pieces of the body                          messages ``http.response.body`` in ``send``
end                  body used up, closed or dropped             ``more_body`` is false, or the application returns or raises
client is gone       ``close()`` before the end                  ``send`` raises ``OSError``, or the task is cancelled
route                while the framework looks for it            after the application returned, in its ``scope``
span is current      during the call and each piece              during the call: the task's context, nothing else to do
===================  ==========================================  ============================================================
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stardust_auto.process.context import SUPPRESSED
from stardust_auto.tracing.naming import NameCache, PathNames, UnsettledName, operation_name
from stardust_auto.tracing.propagation import extract
from stardust_auto.tracing.redaction import redact_query
from stardust_auto.tracing.span import LiveSpan, SpanContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from stardust_auto.tracing.tracer import Tracer

    R = TypeVar("R", bound="RequestSpan")

#: The only key that is added to ``environ`` or ``scope``, while the request is open.
KEY: Final = "stardust_auto.span"
#: Files that the platform does not trace (protocol.md §5.6).
_STATIC = (".js", ".css", ".map", ".png", ".jpg", ".gif", ".ico", ".svg", ".woff", ".woff2", ".ttf", ".otf", ".eot")
#: Files or pages: traced if a framework has a route for them.
_PAGES = (".html", ".htm")
#: A named group in a Django pattern: ``(?P<id>[0-9]+)``.
_GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()\\]|\\.|\[[^\]]*\])*\)")
_KNOWN_PATHS = 1024
_KNOWN_STATUSES = 256
_QUERY_LIMIT = 1000


class InboundRequest(NamedTuple):
    """A request that this process answered. ``status``: a status line or a number."""

    client: str
    method: str
    path: str
    query: str = ""
    status: str = ""

    def tag(self) -> str:
        """``<client> GET /path?key=?`` and the status."""
        text = f"{self.client} {self.method} {self.path}"
        if self.query:
            text += f"?{redact_query(self.query[:_QUERY_LIMIT])}"
        return f"{text}\r\nstatus: {self.status}" if self.status else text


class PageName(str):
    """The name of a page that may be a static file. A request that still has such a name at its end is not counted."""

    __slots__ = ()


class ServerNames(PathNames):
    """Names by path until the route is known; ``""`` for a static file."""

    def make(self, key: str) -> str:
        return "" if key.lower().endswith(_STATIC) else super().make(key)

    def __missing__(self, key: str) -> str:
        lowered = key.lower()
        if lowered.endswith(_STATIC):
            return NameCache.__missing__(self, key)
        if lowered.endswith(_PAGES):
            return PageName(self.make(key))
        return super().__missing__(key)

    def learn(self, path: str, name: str) -> None:
        """Begin with ``name`` next time, for this very path: what looks like it may be another route."""
        if len(self) < _KNOWN_PATHS:
            self[path] = name


class RouteNames(NameCache):
    """Names by route as the framework writes it: ``/items/<int:id>``, ``^items/(?P<id>[0-9]+)/$``."""

    def make(self, key: str) -> str:
        text = _GROUP.sub(r"<\1>", key.replace("^", "").replace("\\Z", "").rstrip("$"))
        return operation_name(text if text.startswith("/") else f"/{text}")


class Verdicts(dict[Any, "str | None"]):
    """Status (a line or a number) to ``None`` (fine), ``""`` (404: not counted) or the error (protocol.md §5.6)."""

    def __missing__(self, status: Any) -> str | None:
        text = str(status) if isinstance(status, (str, int)) else ""
        verdict: str | None = None
        if text[:3].isascii() and text[:3].isdigit():
            number = int(text[:3])
            if number == 404:
                verdict = ""
            elif number == 400 or number > 404:
                verdict = f"Http Error {text[:100]}"
        if len(self) < _KNOWN_STATUSES and isinstance(status, (str, int, type(None))):
            self[status] = verdict
        return verdict


SERVER_NAMES = ServerNames()
ROUTE_NAMES = RouteNames()
VERDICTS = Verdicts()


class RequestSpan(LiveSpan):
    """A request that the program answers. An interface adds what it knows, and ``describe``.

    Attributes:
        scope: ``environ`` or ``scope``.
        path: the path that it was opened with, mounts included.
        status: a status line, a number, or ``None`` before the answer.
        inherited: flag of the parent; only set where there is one.
    """

    __slots__ = ("inherited", "path", "scope", "status")

    is_request = True

    inherited: int
    path: str
    scope: dict[str, Any]
    status: Any

    def rename(self, route: str) -> None:
        """Take the name of ``route``, which includes where the application is mounted."""
        name, tracer = ROUTE_NAMES[route], self._tracer
        if tracer is not None and self.name != name:
            tracer.rename(self, name, getattr(self, "inherited", 0))
            SERVER_NAMES.learn(self.path, name)

    def end(self, error: BaseException | str | None = None) -> None:
        """End and count, with what the status says: 404 is not counted, 400 and what is above 404 are errors."""
        tracer = self._tracer
        if tracer is None:
            return
        self._tracer = None
        self.scope.pop(KEY, None)
        if error is None:
            error, self._error = self._error or VERDICTS[self.status], None
        elif isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
            error = None
        if error == "" or type(self.name) is PageName or self._generation != tracer.generation:
            tracer.discard(self)  # not found, a static file, or begun before a fork
        else:
            if type(self.name) is UnsettledName:
                self.name = SERVER_NAMES.settle(self.path)
            tracer.record(self.name, self._start, self, None, (), error, self.value, self)


def open_request(
    tracer: Tracer, kind: type[R], path: str, scope: dict[str, Any], parent: Any, header: Callable[[str], str | None]
) -> R | None:
    """The span of a request; ``None`` where there is one already or none is wanted: static files, WebSockets, the agent's own traffic.

    Args:
        header: value of a header by its name, any case.
        parent: the current span of the server's thread or task. Only a span of the program's own is taken as one.
    """
    name = SERVER_NAMES[path]
    if not name or parent is SUPPRESSED or KEY in scope or (header("Upgrade") or "").lower() == "websocket":
        return None
    caller = extract(header)
    if caller is not None:
        parent = caller
    elif type(parent) is SpanContext:  # of whatever started this thread: a request begins a trace of its own
        parent = None
    span = tracer.begin(name, parent, kind)
    if parent is not None:
        span.inherited = parent.flag
    span.scope, span.path, span.status = scope, path, None
    scope[KEY] = span
    return span
