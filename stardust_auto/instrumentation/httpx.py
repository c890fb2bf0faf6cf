"""httpx, sync and async: one span for each ``send`` of a client. Redirects, authentication and the body are part of it.

The trace header is put into httpcore's request, which httpx makes for each hop: the program's own request is not touched.
A transport that does not use httpcore sends no trace header.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.calls import adjusted, spanned
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.outbound import BODIES, HttpSpan, answered, body_ends, departing, open_request
from stardust_auto.process.context import current_span

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.calls import Open
    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.tracer import Tracer


def _begin(tracer: Tracer, parent: Any, _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpSpan:
    request: Any = args[0] if args else kwargs["request"]
    length = request.headers.get("content-length", "")
    size = int(length) if length.isascii() and length.isdigit() else 0
    return open_request(tracer, parent, request.method, str(request.url), request.headers, size)


def _end(span: HttpSpan, response: Any) -> Open | str | None:
    redirects = sum(1 for one in response.history if one.has_redirect_location)
    failure = answered(span, response.status_code, response.reason_phrase, redirects)
    return failure if response.is_closed else BODIES.keep(response, span, failure)


def _patch(module: ModuleType, patches: Patches) -> None:
    for client in (module.Client, module.AsyncClient):
        patches.wrap(client, "send", spanned(patches, _begin, _end))
    for method in ("close", "aclose"):
        patches.wrap(module.Response, method, body_ends("httpx"))


def _patch_httpcore(module: ModuleType, patches: Patches) -> None:
    def with_header(_pool: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        span = current_span.get()
        if not args or not departing(span, patches, args[0].url.host.decode("ascii", "replace")):
            return args
        request = copy.copy(args[0])
        request.headers = [*request.headers, (b"traceparent", span.traceparent.encode("ascii"))]
        return (request, *args[1:])

    patches.wrap(module.ConnectionPool, "handle_request", adjusted(patches, with_header))
    patches.wrap(module.AsyncConnectionPool, "handle_async_request", adjusted(patches, with_header))


INTEGRATION = Integration(
    name="httpx",
    targets={"httpx": _patch, "httpcore": _patch_httpcore},
    supports={"httpx": (0, 24), "httpcore": (0, 17)},
)
