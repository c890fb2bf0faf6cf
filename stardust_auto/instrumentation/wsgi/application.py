"""One span for one WSGI request: from the call of the application to the end of its body."""

from __future__ import annotations

import operator
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, cast

from stardust_auto.instrumentation.kit.inbound import KEY, SERVER_NAMES, VERDICTS
from stardust_auto.instrumentation.wsgi.body import follow
from stardust_auto.instrumentation.wsgi.span import WsgiSpan, length_of
from stardust_auto.process.context import SUPPRESSED, current_span
from stardust_auto.tracing.propagation import extract
from stardust_auto.tracing.span import SpanContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.kit.patches import Patches

_current: Any = current_span.get
_enter: Any = current_span.set
_leave: Any = current_span.reset
#: The headers that ``inbound.open_request`` asks for.
_HEADERS: Final = {
    "traceparent": "HTTP_TRACEPARENT",
    "Request-Id": "HTTP_REQUEST_ID",
    "Eagleeye-Traceid": "HTTP_EAGLEEYE_TRACEID",
    "TraceId": "HTTP_TRACEID",
    "Upgrade": "HTTP_UPGRADE",
}


def header_of(environ: dict[str, Any]) -> Callable[[str], str | None]:
    """Look headers up in ``environ``."""
    return lambda name: environ.get(_HEADERS[name])


def responder(patches: Patches, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for ``plain``, the ``__call__(self, environ, start_response)`` of an application.

    Budget: the steps of ``inbound.open_request`` and ``RequestSpan.end`` stand here in one piece, since each call would be paid for by
    every request (0.5 us of 2.5; CPython 3.11, 2026-11-25). ``test_the_fast_way_and_the_plain_way_agree`` compares the two.
    """

    def respond(self: Any, environ: Any, start_response: Any) -> Any:
        tracer = patches.tracer or patches.resume()
        if tracer is None:
            return plain(self, environ, start_response)
        span = None
        try:
            path = environ.get("PATH_INFO") or "/"
            script = environ.get("SCRIPT_NAME")
            if script:
                path = script + path
            name = SERVER_NAMES[path]
            parent: Any = _current()
            if (
                name
                and parent is not SUPPRESSED
                and KEY not in environ
                and not ("HTTP_UPGRADE" in environ and environ["HTTP_UPGRADE"].lower() == "websocket")
            ):
                if (
                    "HTTP_TRACEPARENT" in environ
                    or "HTTP_REQUEST_ID" in environ
                    or "HTTP_EAGLEEYE_TRACEID" in environ
                    or "HTTP_TRACEID" in environ
                ):
                    parent = extract(header_of(environ)) or parent
                elif type(parent) is SpanContext:  # of whatever started this thread
                    parent = None
                environ[KEY] = span = tracer.begin(name, parent, WsgiSpan)
                if parent is not None:
                    span.inherited = parent.flag
                span.scope, span.path = environ, path
                span.status = span.complete = span.headers = None
                span.start_response = start_response
        except Exception as fault:  # noqa: BLE001 - the integration's own code, or an odd environ; counted
            patches.fault(fault)
        if span is None:
            return plain(self, environ, start_response)
        token = _enter(span)
        try:
            body = plain(self, environ, span.started)
        except BaseException as error:
            span.end(error)
            raise
        finally:
            _leave(token)
        try:
            if "CONTENT_LENGTH" in environ:
                span.value = length_of(environ["CONTENT_LENGTH"])
            kind = type(body)
            if kind is list or kind is tuple:
                span.value += len(body[0]) if len(body) == 1 else sum(map(len, body))
            elif not span.complete:
                return follow(body, span, environ.get("wsgi.file_wrapper"))
            if (
                VERDICTS[span.status] is span._error is None
                and type(span.name) is str
                and span._generation == tracer.generation
            ):
                span._tracer = None
                environ.pop(KEY, None)
                tracer.record(span.name, span._start, span, None, (), None, span.value, span)
                return body
        except Exception as fault:  # noqa: BLE001 - the integration's own code, or a body that is none; counted
            patches.fault(fault)
        span.end()
        return body

    return respond


# Calls its first argument with the others; in C where there is such a function.
_call: Any = getattr(operator, "call", lambda application, *args: application(*args))
_ENTRY_CODE: Any = getattr(responder(cast("Any", None), _call), "__code__", None)


def traced_application(patches: Patches, app: Any) -> Any:
    """``app`` under spans; itself if it traces itself (a framework's), or is no WSGI application (asynchronous, no callable)."""
    if not callable(app):
        return app
    code = getattr(app, "__code__", None) or getattr(type(app).__call__, "__code__", None)
    if code is _ENTRY_CODE or (code is not None and code.co_flags & 0x80):
        return app
    return under_spans(patches, app)


def under_spans(patches: Patches, app: Any) -> Callable[..., Any]:
    """What a server may call in place of ``app``."""
    return MethodType(responder(patches, _call), app)
