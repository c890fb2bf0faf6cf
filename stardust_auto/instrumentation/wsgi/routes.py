"""Frameworks that know the route of a request: the span gets its name from there, so ``/items/1`` and ``/items/2`` are one operation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.inbound import KEY, ROUTE_NAMES
from stardust_auto.instrumentation.wsgi.span import WsgiSpan
from stardust_auto.process.context import current_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.kit.patches import Patches

_current: Any = current_span.get


def after(find: Any) -> Callable[[Patches, Any], Any]:
    """A wrapper that calls through, also for exceptions, and then names the request by what ``find`` finds."""

    def make(patches: Patches, plain: Any) -> Any:
        @functools.wraps(plain)
        def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            result = None
            try:
                result = plain(self, *args, **kwargs)
            finally:
                if patches.tracer is not None:
                    try:
                        environ, route = find(self, args, result)
                        if route:
                            name_request(patches, environ, route)
                    except Exception as fault:  # noqa: BLE001 - the integration's own code; counted by kit/patches.py
                        patches.fault(fault)
            return result

        return method

    return make


def name_request(patches: Patches, environ: dict[str, Any], route: str) -> None:
    """Name the span of ``environ``, if it has one, by ``route``."""
    span = environ.get(KEY)
    if span is not None and patches.tracer is not None:
        span.rename(route)


def django(_self: Any, args: tuple[Any, ...], result: Any) -> tuple[dict[str, Any], str | None]:
    """``BaseHandler.resolve_request(request)``."""
    return getattr(args[0], "environ", {}), getattr(result, "route", None)


def bottle(_self: Any, args: tuple[Any, ...], result: Any) -> tuple[dict[str, Any], str | None]:
    """``Router.match(environ)``."""
    return args[0], result[0].rule if result is not None else None


def falcon(_self: Any, args: tuple[Any, ...], result: Any) -> tuple[dict[str, Any], str | None]:
    """``App._get_responder(request)``."""
    return getattr(args[0], "env", {}), result[3] if result is not None else None


def pyramid(_self: Any, args: tuple[Any, ...], _result: Any) -> tuple[dict[str, Any], str | None]:
    """``Router.handle_request(request)``."""
    route = getattr(args[0], "matched_route", None)
    return args[0].environ, getattr(route, "pattern", None)


def werkzeug(patches: Patches, plain: Any) -> Any:
    """Wrapper of ``Response.__call__``, where Flask's route is known, and whether the body is complete.

    One wrapper for both, in one piece, since every request passes here. A response whose body is a list ends with its hand-over to
    the server.
    """

    @functools.wraps(plain)
    def __call__(self: Any, environ: Any, start_response: Any) -> Any:  # noqa: N807 - it is one
        span = environ.get(KEY)
        if span is not None:
            try:
                if type(self.response) is list:
                    span.complete = True
                request = environ.get("werkzeug.request")
                if request is not None:
                    rule = getattr(request, "url_rule", None)
                    if rule is not None and span.name != ROUTE_NAMES[rule.rule]:
                        span.rename(rule.rule)
            except Exception as fault:  # noqa: BLE001 - the integration's own code; counted by kit/patches.py
                patches.fault(fault)
        return plain(self, environ, start_response)

    return __call__


def flask(patches: Patches, plain: Any) -> Any:
    """Wrapper of ``Flask.handle_exception(error)``: the error, and the route of a request that may end without a response."""

    @functools.wraps(plain)
    def handle_exception(self: Any, e: Any) -> Any:
        span = _current()
        if type(span) is WsgiSpan and isinstance(e, BaseException):
            span.set_error(e)
            try:
                request = span.scope.get("werkzeug.request")
                rule = getattr(request, "url_rule", None)
                if rule is not None:
                    span.rename(rule.rule)
            except Exception as fault:  # noqa: BLE001 - the integration's own code; counted by kit/patches.py
                patches.fault(fault)
        return plain(self, e)

    return handle_exception


def failed(
    position: int, unless: Callable[[tuple[Any, ...]], bool] = lambda _args: False
) -> Callable[[Patches, Any], Any]:
    """A wrapper of what a framework does with an exception that nobody handled; it is the argument at ``position``."""

    def make(_patches: Patches, plain: Any) -> Any:
        @functools.wraps(plain)
        def handle(*args: Any, **kwargs: Any) -> Any:
            span = _current()
            if type(span) is WsgiSpan and len(args) > position and not unless(args):
                error = args[position]
                error = error[1] if isinstance(error, tuple) and len(error) > 1 else error
                if isinstance(error, BaseException):
                    span.set_error(error)
            return plain(*args, **kwargs)

        return handle

    return make


def is_bottle_answer(args: tuple[Any, ...]) -> bool:
    """Whether ``HTTPError(self, status, ...)`` is an answer that the program chose: Bottle itself makes one for status 500."""
    return bool(args[1] != 500)
