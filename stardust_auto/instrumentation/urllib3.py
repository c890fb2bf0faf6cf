"""urllib3: one span for each request, however many redirects and retries it takes, and none below another client's span.

Trace headers go out with the connection's own headers, at each hop and to the hop's host: the caller's mappings are neither changed nor
copied, and no object of the program ever holds them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.outbound import HTTP_NAMES, HttpSpan, error_of, has_traceparent
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches


def _urlopen(patches: Patches, plain: Any) -> Any:
    """Wrapper of ``urlopen`` of a pool, or of the manager that follows redirects from pool to pool."""

    @functools.wraps(plain)
    def urlopen(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        tracer = patches.tracer
        parent: Any = current_span.get()
        if tracer is None or parent is SUPPRESSED or (type(parent) is HttpSpan and parent._tracer is not None):
            return plain(self, *args, **kwargs)
        span = None
        try:
            url = args[1] if len(args) > 1 else kwargs.get("url")
            if isinstance(url, str):
                span = _open(tracer, parent, self, url, args, kwargs)
        except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
            patches.fault(fault)
        if span is None:
            return plain(self, *args, **kwargs)
        token = current_span.set(span)
        try:
            response = plain(self, *args, **kwargs)
        except BaseException as error:
            span.finish(error)
            raise
        finally:
            current_span.reset(token)
        failure = None
        try:
            span.status = int(response.status)
            history = getattr(response.retries, "history", ())
            span.redirects = sum(1 for step in history if step.redirect_location)
            failure = error_of(span.status, response.reason)
        except Exception as fault:  # noqa: BLE001 - a response of somebody's own; counted
            patches.fault(fault)
        span.finish(failure)
        try:
            return response
        finally:
            # A response keeps the exceptions of its retries, and they keep this frame: it must not keep the response.
            del response

    return urlopen


def _open(tracer: Any, parent: Any, pool: Any, url: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpSpan:
    if "://" not in url[:10]:
        port = f":{pool.port}" if pool.port else ""
        url = f"{pool.scheme}://{pool.host}{port}{url}"
    span: HttpSpan = tracer.begin(HTTP_NAMES[url.partition("?")[0]], parent, HttpSpan)
    span.method, span.url, span.hooks = args[0] if args else kwargs.get("method"), url, None
    span.status = span.redirects = span.attempts = 0
    headers = args[3] if len(args) > 3 else kwargs.get("headers")
    span.own_context = has_traceparent(headers if headers is not None else pool.headers)
    body = args[2] if len(args) > 2 else kwargs.get("body")
    if isinstance(body, (bytes, str)):
        span.value = len(body)
    return span


def _endheaders(patches: Patches, plain: Any) -> Any:
    """Wrapper of ``HTTPConnection.endheaders``: the last moment for one more header."""

    @functools.wraps(plain)
    def endheaders(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        span: Any = current_span.get()
        if type(span) is HttpSpan and span._tracer is not None:
            span.attempts += 1
            try:
                rule = patches.propagation
                direct = getattr(self, "proxy", None) is None
                if not span.own_context and rule is not None and rule.allows(self.host if direct else _host(self)):
                    trace = span._trace_id
                    if type(trace) is int and getattr(self, "_HTTPConnection__state", "") == "Request-started":
                        # The bytes that putheader() would make in this state, at a third of its cost.
                        self._output(b"traceparent: 00-%032x-%016x-0%d" % (trace, span._span_id, span.flag & 1))
                    else:
                        self.putheader("traceparent", span.traceparent)
            except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
                patches.fault(fault)
        return plain(self, *args, **kwargs)

    return endheaders


def _host(connection: Any) -> Any:
    """Where this hop goes, which behind a proxy is not where the connection goes; ``None`` if that cannot be seen."""
    tunnel = getattr(connection, "_tunnel_host", None)
    if tunnel:
        return tunnel
    line = bytes(getattr(connection, "_buffer", [b""])[0]).decode("latin-1")
    return line.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0] or None


def patch_headers(patches: Patches) -> None:
    """Let every request under a span of ours carry its context, whichever library made the span."""
    connection = patches.module("urllib3.connection")
    if connection is not None:
        patches.wrap(connection.HTTPConnection, "endheaders", functools.partial(_endheaders, patches))


def _patch(module: ModuleType, patches: Patches) -> None:
    for owner in (module.HTTPConnectionPool, module.PoolManager):
        patches.wrap(owner, "urlopen", functools.partial(_urlopen, patches))
    patch_headers(patches)


INTEGRATION = Integration(name="urllib3", targets={"urllib3": _patch}, supports={"urllib3": (1, 26)})
