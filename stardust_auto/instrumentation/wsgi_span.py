"""One span for one WSGI request, from the call of the application to the close of its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.wsgi_body import Body, SizedBody
from stardust_auto.instrumentation.wsgi_names import SERVER_NAMES, VERDICTS, inbound
from stardust_auto.tracing.context import SUPPRESSED, current_span
from stardust_auto.tracing.records import WsgiRequest
from stardust_auto.tracing.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.patches import Patches

#: The only key that is added to ``environ``, while the request runs: a wrapper inside a wrapper finds the span there.
KEY = "stardust_auto.span"


class RequestSpan(Span):
    """A request that the program answers. Takes the place of ``start_response`` by its method :meth:`started`."""

    __slots__ = ("environ", "inherited", "start_response", "status")

    environ: dict[str, Any]
    inherited: int
    start_response: Callable[..., Any]
    status: Any

    def started(self, *args: Any, **kwargs: Any) -> Any:
        """``start_response``, called with exactly the application's arguments; its ``write`` is the server's own."""
        write = self.start_response(*args, **kwargs)
        self.status = args[0] if args else kwargs.get("status")
        return write

    def end(self, error: BaseException | str | None = None) -> None:
        """End with what the status says (protocol.md §5.6): 404 is not counted, 400 and above 404 are errors."""
        if self._tracer is None:
            return
        if isinstance(error, BaseException):
            if isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
                error = None
        elif error is None and self._error is None:
            error = VERDICTS[self.status]
            if error == "":
                self.abandon()
        self.finish(error)
        self.environ.pop(KEY, None)

    def describe(self) -> str:
        """``<client> GET /path?key=?`` and the status line."""
        environ = self.environ
        client, method = environ.get("REMOTE_ADDR", ""), environ.get("REQUEST_METHOD", "")
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        return WsgiRequest(
            str(client), str(method), path, str(environ.get("QUERY_STRING") or ""), str(self.status or "")
        ).tag()


def open_request(patches: Patches, environ: dict[str, Any]) -> RequestSpan | None:
    """The span of a request, or ``None`` where there is one already or none is wanted (static files, WebSockets, our own traffic)."""
    tracer = patches.tracer
    if tracer is None or KEY in environ:
        return None
    path = environ.get("PATH_INFO") or "/"
    script = environ.get("SCRIPT_NAME")
    name = SERVER_NAMES[script + path if script else path]
    if not name or ("HTTP_UPGRADE" in environ and environ["HTTP_UPGRADE"].lower() == "websocket"):
        return None
    parent: Any = inbound(environ)
    if parent is None:
        parent = current_span.get()
        if parent is SUPPRESSED:
            return None
    span = tracer.begin(name, parent, RequestSpan)
    span.inherited = 0 if parent is None else parent.flag
    span.environ = environ
    span.status = None
    length = environ.get("CONTENT_LENGTH")
    if length and length.isdigit():
        span.value = int(length[:18])
    environ[KEY] = span
    return span


def respond(patches: Patches, app: Callable[..., Any], environ: Any, start_response: Any) -> Any:
    """Call ``app`` as the server does, under a span. Completed bodies and the server's file wrapper come back untouched."""
    try:
        span = open_request(patches, environ)
    except Exception as fault:  # noqa: BLE001 - our own code, or a server with an odd environ; counted
        patches.fault(fault)
        span = None
    if span is None:
        return app(environ, start_response)
    span.start_response = start_response
    token = current_span.set(span)
    try:
        body = app(environ, span.started)
    except BaseException as error:
        span.end(error)
        raise
    finally:
        current_span.reset(token)
    try:
        if isinstance(body, (list, tuple)):
            span.value += len(body[0]) if len(body) == 1 else sum(map(len, body))
        elif not _is_complete(body, environ):
            return SizedBody(body, span) if hasattr(body, "__len__") else Body(body, span)
    except Exception as fault:  # noqa: BLE001 - our own code, or a body that is none; counted
        patches.fault(fault)
    span.end()
    return body


def _is_complete(body: Any, environ: dict[str, Any]) -> bool:
    """Whether nothing of the program runs any more: a Django response that is not streamed, a file that the server sends, nothing."""
    if getattr(body, "streaming", None) is False or not hasattr(body, "__iter__"):
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper is not None and ((isinstance(wrapper, type) and isinstance(body, wrapper)) or hasattr(body, "read"))
