"""ASGI: one span for each HTTP request, wherever it enters: the server's call of the application, or the framework's own entry.

``scope`` is the server's own, with one key more while the request is open. ``receive`` is the server's own and never called here.
``send`` is a function that looks at each message and hands it on. WebSockets and the life span of an application are left alone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.calls import adjusted, is_cancellation, spanned
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.inbound import KEY, InboundRequest, RequestSpan, open_request
from stardust_auto.process.context import current_span
from stardust_auto.tracing.naming import operation_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.span import Span
    from stardust_auto.tracing.tracer import Tracer

_current: Any = current_span.get
_enter: Any = current_span.set
_leave: Any = current_span.reset
#: From this status on the span waits for the exception that the application may raise after its answer.
_FAILED = 500


class AsgiSpan(RequestSpan):
    """A request by ASGI.

    Attributes:
        gone: raised by ``send`` because the client went away, which is no failure of the program.
        trailers: the application said that trailers follow the body.
    """

    __slots__ = ("gone", "trailers")

    gone: OSError | None
    trailers: bool

    def describe(self) -> str:
        """``<client> GET /path?key=?`` and the status."""
        scope = self.scope
        client = (scope.get("client") or ("",))[0]
        query = scope.get("query_string") or b""
        return InboundRequest(
            str(client),
            str(scope.get("method", "")),
            str(scope.get("path", "")),
            bytes(query).decode("latin-1"),
            str(self.status or ""),
        ).tag()

    def sending(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Stands for ``send``: notes the status and the bytes, and ends the span with the last message of the answer."""

        async def send_and_look(message: Any) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                self.status, self.trailers = message.get("status"), bool(message.get("trailers"))
            try:
                await send(message)
            except OSError as error:
                self.gone = error
                self.append_tag("aborted")
                raise
            if kind == "http.response.body":
                self.value += len(message.get("body", b""))
                last = not message.get("more_body") and not self.trailers
            else:
                last = kind == "http.response.trailers" and not message.get("more_trailers")
            if last and (self.status or 0) < _FAILED:
                self.end()

        return send_and_look


def _open(patches: Patches, scope: Any) -> AsgiSpan | None:
    tracer = patches.tracer or patches.resume()
    if tracer is None or scope.get("type") != "http" or KEY in scope:
        return None
    try:
        headers = dict(scope["headers"])

        def header(name: str) -> str | None:
            value = headers.get(name.lower().encode("ascii"))
            return value.decode("latin-1") if value is not None else None

        span = open_request(tracer, AsgiSpan, scope.get("path") or "/", scope, _current(), header)
        if span is not None:
            span.gone, span.trailers = None, False
            length = header("Content-Length") or ""
            span.value = int(length[:18]) if length.isascii() and length.isdigit() else 0
        return span
    except Exception as fault:  # noqa: BLE001 - the integration's own code, or an odd scope; counted
        patches.fault(fault)
        return None


async def _respond(patches: Patches, plain: Any, scope: Any, receive: Any, send: Any) -> Any:
    """``await plain(scope, receive, send)`` under a span, where one is wanted."""
    span = _open(patches, scope)
    if span is None:
        return await plain(scope, receive, send)
    token = _enter(span)
    try:
        result = await plain(scope, receive, span.sending(send))
    except BaseException as error:
        if is_cancellation(error):
            span.append_tag("cancelled")
            span.end()
        else:
            span.end(None if error is span.gone else error)
        raise
    finally:
        _leave(token)
        span.gone = None  # memory: its traceback holds this frame
    span.end()
    return result


def _entry(patches: Patches, plain: Any) -> Any:
    """Wrapper of ``async __call__(self, scope, receive, send, ...)``: a framework's entry, or a server's call of its application."""

    @functools.wraps(plain)
    async def __call__(self: Any, scope: Any, receive: Any, send: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it is one
        def call(scope: Any, receive: Any, send: Any) -> Any:
            return plain(self, scope, receive, send, *args, **kwargs)

        return await _respond(patches, call, scope, receive, send)

    return __call__


# -- servers -----------------------------------------------------------------------------------------------------------


def _patch_uvicorn(module: ModuleType, patches: Patches) -> None:
    """Exchange the application of this one call: what the server holds, and how it tells interfaces apart, stay as they are."""

    def traced(_cycle: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (functools.partial(_respond, patches, args[0]), *args[1:]) if args else args

    patches.wrap(module.RequestResponseCycle, "run_asgi", adjusted(patches, traced))


def _patch_hypercorn(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.ASGIWrapper, "__call__", functools.partial(_entry, patches))


# -- frameworks --------------------------------------------------------------------------------------------------------


def _route_taken(patches: Patches, path_of: Callable[[Any, Any], str | None]) -> Any:
    """Wrapper of ``handle(self, scope, receive, send)`` of a route: names the request below where the application is mounted."""

    def look(route: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        span = args[0].get(KEY)
        if span is not None and (path := path_of(route, args[0])) is not None:
            span.rename(f"{args[0].get('root_path', '')}{path}")
        return args

    return adjusted(patches, look)


def _patch_starlette(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.Starlette, "__call__", functools.partial(_entry, patches))
    routing, background = patches.module("starlette.routing"), patches.module("starlette.background")
    if routing is not None:
        patches.wrap(routing.Route, "handle", _route_taken(patches, lambda route, _scope: route.path))
    if background is not None:
        patches.wrap(
            background.BackgroundTask, "__call__", spanned(patches, _background_task, lambda _span, _result: None)
        )


def _background_task(tracer: Tracer, parent: Any, task: Any, _args: Any, _kwargs: Any) -> Span:
    """Work after the answer: its own name, in the trace of its request."""
    function = task.func
    name = getattr(function, "__qualname__", type(function).__name__)
    return tracer.begin(operation_name(f"task:{getattr(function, '__module__', '')}.{name}"), parent)


def _patch_fastapi(module: ModuleType, patches: Patches) -> None:
    """A router that is included somewhere has its prefix in a context of FastAPI's own, from 0.137 on."""
    context_of: Any = getattr(module, "_get_scope_effective_route_context", None) or (lambda _scope: None)

    def path_of(route: Any, scope: Any) -> str | None:
        context: Any = context_of(scope)
        path: str | None = context.path_format if getattr(context, "original_route", None) is route else route.path
        return path

    if "handle" in vars(module.APIRoute):
        patches.wrap(module.APIRoute, "handle", _route_taken(patches, path_of))


def _patch_django(module: ModuleType, patches: Patches) -> None:
    def answered(plain: Any) -> Any:
        """Wrapper of ``get_response_async(self, request)``: the route is known when it returns."""

        @functools.wraps(plain)
        async def get_response_async(self: Any, request: Any) -> Any:
            response = await plain(self, request)
            span = getattr(request, "scope", {}).get(KEY)
            route = getattr(getattr(request, "resolver_match", None), "route", None)
            if span is not None and route:
                span.rename(f"{span.scope.get('root_path', '')}/{route}")
            return response

        return get_response_async

    def failed(plain: Any) -> Any:
        """Wrapper of ``response_for_exception(request, exc)``, which makes the answer to an exception."""

        @functools.wraps(plain)
        def response_for_exception(request: Any, exc: BaseException) -> Any:
            response = plain(request, exc)
            span = getattr(request, "scope", {}).get(KEY)
            if span is not None and response.status_code >= _FAILED:
                span.set_error(exc)
            return response

        return response_for_exception

    patches.wrap(module.ASGIHandler, "__call__", functools.partial(_entry, patches))
    base, exception = patches.module("django.core.handlers.base"), patches.module("django.core.handlers.exception")
    if base is not None:
        patches.wrap(base.BaseHandler, "get_response_async", answered)
    if exception is not None:
        patches.wrap(exception, "response_for_exception", failed)


INTEGRATION = Integration(
    name="asgi",
    targets={
        "uvicorn.protocols.http.h11_impl": _patch_uvicorn,
        "uvicorn.protocols.http.httptools_impl": _patch_uvicorn,
        "hypercorn.app_wrappers": _patch_hypercorn,
        "starlette.applications": _patch_starlette,
        "fastapi.routing": _patch_fastapi,
        "django.core.handlers.asgi": _patch_django,
    },
    supports={"uvicorn": (0, 20), "starlette": (0, 27), "fastapi": (0, 95), "django": (4, 2)},
)
