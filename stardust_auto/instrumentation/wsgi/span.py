"""One span for one WSGI request, from the call of the application to the close of its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stardust_auto.instrumentation.wsgi.body import follow
from stardust_auto.instrumentation.wsgi.names import ROUTE_NAMES, SERVER_NAMES, VERDICTS, inbound
from stardust_auto.process.context import SUPPRESSED, current_span
from stardust_auto.tracing.redaction import redact_query
from stardust_auto.tracing.span import Span, SpanContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.kit.patches import Patches

_current: Any = current_span.get
_enter: Any = current_span.set
_leave: Any = current_span.reset
#: The only key that is added to ``environ``, while the request runs: a wrapper inside a wrapper finds the span there.
KEY = "stardust_auto.span"


class WsgiRequest(NamedTuple):
    """A request that this process answered."""

    client: str
    method: str
    path: str
    query: str = ""
    status: str = ""

    def tag(self) -> str:
        """``<client> GET /path?key=?`` and the status line."""
        text = f"{self.client} {self.method} {self.path}"
        if self.query:
            text += f"?{redact_query(self.query[:1000])}"
        return f"{text}\r\nstatus: {self.status}" if self.status else text


class RequestSpan(Span):
    """A request that the program answers. Takes the place of ``start_response`` by its method :meth:`started`."""

    __slots__ = ("complete", "environ", "inherited", "start_response", "status")

    is_request = True

    #: Set where a framework knows that its body is not made piece by piece.
    complete: bool | None
    environ: dict[str, Any]
    inherited: int  # only where there is a parent
    start_response: Callable[..., Any]
    status: Any

    def started(self, *args: Any, **kwargs: Any) -> Any:
        """``start_response``, called with exactly the application's arguments; its ``write`` is the server's own."""
        write = self.start_response(*args, **kwargs)
        self.status = args[0] if args else kwargs.get("status")
        return write

    def rename(self, route: str) -> None:
        """Take the name of the framework's ``route``, below where the application is mounted."""
        environ, tracer = self.environ, self._tracer
        script = environ.get("SCRIPT_NAME")
        name = ROUTE_NAMES[script + route if script else route]
        if tracer is not None and self.name != name:
            tracer.rename(self, name, getattr(self, "inherited", 0))
            path = environ.get("PATH_INFO") or "/"
            SERVER_NAMES.learn(script + path if script else path, name)

    def end(self, error: BaseException | str | None = None) -> None:
        """End with what the status says (protocol.md §5.6): 404 is not counted, 400 and above 404 are errors."""
        tracer = self._tracer
        if tracer is None:
            return
        self._tracer = None
        self.environ.pop(KEY, None)
        if error is None:
            error, self._error = self._error or VERDICTS[self.status], None
            if error == "":
                tracer.discard(self)
                return
        elif isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
            error = None
        if self._generation == tracer.generation:
            tracer.record(self.name, self._start, self, None, (), error, self.value, self)

    def describe(self) -> str:
        """``<client> GET /path?key=?`` and the status line."""
        environ = self.environ
        client, method = environ.get("REMOTE_ADDR", ""), environ.get("REQUEST_METHOD", "")
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        query = str(environ.get("QUERY_STRING") or "")
        return WsgiRequest(str(client), str(method), path, query, str(self.status or "")).tag()


def responder(patches: Patches, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for ``plain``, the ``__call__(self, environ, start_response)`` of an application. In one piece: each call would cost.

    No span where there is one already or none is wanted: static files, WebSockets, our own traffic.
    """

    def respond(self: Any, environ: Any, start_response: Any) -> Any:
        tracer = patches.tracer
        if tracer is None:
            return plain(self, environ, start_response)
        span = None
        try:
            path = environ.get("PATH_INFO") or "/"
            script = environ.get("SCRIPT_NAME")
            name = SERVER_NAMES[script + path if script else path]
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
                    parent = inbound(environ) or parent
                elif type(parent) is SpanContext:  # of whoever started this thread: a request begins anew
                    parent = None
                environ[KEY] = span = tracer.begin(name, parent, RequestSpan)
                if parent is not None:
                    span.inherited = parent.flag
                span.environ = environ
                span.status = span.complete = None
                span.start_response = start_response
        except Exception as fault:  # noqa: BLE001 - our own code, or a server with an odd environ; counted
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
                length = environ["CONTENT_LENGTH"]
                if length and length.isdigit():
                    span.value = int(length[:18])
            kind = type(body)
            if kind is list or kind is tuple:
                span.value += len(body[0]) if len(body) == 1 else sum(map(len, body))
            elif not span.complete:
                return follow(body, span, environ.get("wsgi.file_wrapper"))
            if VERDICTS[span.status] is span._error is None and span._generation == tracer.generation:
                # What end() does when all went well, without the further call.
                span._tracer = None
                environ.pop(KEY, None)
                tracer.record(span.name, span._start, span, None, (), None, span.value, span)
                return body
        except Exception as fault:  # noqa: BLE001 - our own code, or a body that is none; counted
            patches.fault(fault)
        span.end()
        return body

    return respond
