"""requests: one span for each ``Session.send`` that the program causes. Redirects and retries are part of it.

Trace headers are written where the connection sends, see :mod:`stardust_auto.instrumentation.kit.urllib3_wire`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.calls import spanned
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.outbound import (
    BODIES,
    HttpSpan,
    answered,
    has_traceparent,
    open_request,
    within_request,
)
from stardust_auto.instrumentation.kit.urllib3_wire import patch_wire

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.calls import Open
    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.tracer import Tracer


def _begin(
    tracer: Tracer, parent: Any, _session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> HttpSpan | None:
    request: Any = args[0] if args else kwargs.get("request")
    # What is no PreparedRequest is refused by the original, in its own words.
    if not hasattr(request, "body") or type(request.url) is not str:
        return None
    # A redirect is sent with a copy of the request, which shares its hooks. A request made by a hook has its own.
    if within_request(parent) and parent.origin is request.hooks:
        return None
    span = open_request(tracer, parent, request.method, request.url, None, request.body, request.hooks)
    headers = request.headers
    store = getattr(headers, "_store", None)  # of requests' own mapping: to ask it costs an exception
    span.own_context = "traceparent" in store if type(store) is OrderedDict else has_traceparent(headers)
    return span


def _end(span: HttpSpan, response: Any) -> Open | str | None:
    if response is None:
        return None
    history = response.history  # redirects, and what was asked for a password
    redirects = sum(1 for one in history if one.is_redirect) if history else 0
    failure = answered(span, response.status_code, response.reason, redirects)
    raw = response.raw
    if response._content_consumed or getattr(raw, "closed", True):
        return failure
    return BODIES.keep(raw, span, failure)


def _patch(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.sessions.Session, "send", spanned(patches, _begin, _end))
    patch_wire(patches)


INTEGRATION = Integration(name="requests", targets={"requests": _patch}, supports={"requests": (2, 20)})
