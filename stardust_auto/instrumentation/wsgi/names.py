"""What a WSGI request is called, whose trace it belongs to, and what its status means (protocol.md §5.2, §5.6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stardust_auto.tracing.naming import NameCache, PathNames, operation_name
from stardust_auto.tracing.propagation import extract

if TYPE_CHECKING:
    from stardust_auto.tracing.span import SpanContext

#: Files that the platform does not trace.
_STATIC = (
    ".html",
    ".htm",
    ".js",
    ".css",
    ".map",
    ".png",
    ".jpg",
    ".gif",
    ".ico",
    ".svg",
    ".woff",
    ".woff2",
    ".ttf",
    ".otf",
    ".eot",
)
_HEADERS = {
    "traceparent": "HTTP_TRACEPARENT",
    "Request-Id": "HTTP_REQUEST_ID",
    "Eagleeye-Traceid": "HTTP_EAGLEEYE_TRACEID",
    "TraceId": "HTTP_TRACEID",
}
_GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()\\]|\\.|\[[^\]]*\])*\)")


class _ServerNames(PathNames):
    """Names by path until the route is known; ``""`` for a static file."""

    def __init__(self) -> None:
        super().__init__()
        self._routes: dict[str, str] = {}

    def make(self, key: str) -> str:
        if key.lower().endswith(_STATIC):
            return ""
        name = super().make(key)
        return self._routes.get(name, name)

    def learn(self, path: str, name: str) -> None:
        """Begin with ``name`` next time, for ``path`` and for what looks like it: another number is likely the same route."""
        if len(self) < 1024:
            self[path] = name
        self._routes[super().make(path)] = name


class _RouteNames(NameCache):
    """Names by route as the framework writes it: ``/items/<int:id>``, ``^items/(?P<id>[0-9]+)/$``."""

    def make(self, key: str) -> str:
        text = _GROUP.sub(r"<\1>", key.replace("^", "").replace("\\Z", "").rstrip("$"))
        return operation_name(text if text.startswith("/") else f"/{text}")


class _Verdicts(dict[Any, "str | None"]):
    """Status line -> ``None`` (fine), ``""`` (404: not counted) or the error."""

    def __missing__(self, status: Any) -> str | None:
        code = status[:3] if isinstance(status, str) else ""
        verdict: str | None = None
        if code.isascii() and code.isdigit():
            number = int(code)
            if number == 404:
                verdict = ""
            elif number == 400 or number > 404:
                verdict = f"Http Error {status[:100]}"
        if len(self) < 256 and isinstance(status, (str, type(None))):
            self[status] = verdict
        return verdict


SERVER_NAMES = _ServerNames()
ROUTE_NAMES = _RouteNames()
VERDICTS = _Verdicts()


def inbound(environ: dict[str, Any]) -> SpanContext | None:
    """The caller's context, from the headers of the platform."""
    return extract(lambda header: environ.get(_HEADERS[header]))
