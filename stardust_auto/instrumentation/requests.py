"""requests: one span for each ``Session.send`` that the program causes; redirects and retries are part of it.

Trace headers are written by the transport, see :mod:`stardust_auto.instrumentation.urllib3`: no object of the program ever holds them.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.outbound import HTTP_NAMES, HttpSpan, error_of, has_traceparent
from stardust_auto.instrumentation.urllib3 import patch_headers
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches


def _send(patches: Patches, plain: Any) -> Any:
    @functools.wraps(plain)
    def send(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        tracer = patches.tracer
        parent: Any = current_span.get()
        request: Any = args[0] if args else kwargs.get("request")
        # What is no PreparedRequest is refused by the original, in its own words.
        if tracer is None or parent is SUPPRESSED or not hasattr(request, "body") or type(request.url) is not str:
            return plain(self, *args, **kwargs)
        span = None
        try:
            # A redirect is sent with a copy of the request, which shares its hooks; a request made by a hook has its own.
            if type(parent) is not HttpSpan or parent.hooks is not request.hooks or parent._tracer is None:
                url = request.url
                span = tracer.begin(HTTP_NAMES[url.partition("?")[0]], parent, HttpSpan)
                span.method, span.url, span.hooks = request.method, url, request.hooks
                span.status = span.redirects = span.attempts = 0
                headers = request.headers
                store = getattr(
                    headers, "_store", None
                )  # of requests' own mapping: to ask it raises and catches a KeyError
                span.own_context = "traceparent" in store if type(store) is OrderedDict else has_traceparent(headers)
                body = request.body
                if type(body) is bytes or type(body) is str:
                    span.value = len(body)
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
            if response is not None:
                span.status = response.status_code
                span.redirects = len(response.history)
                if span.status >= 400:
                    failure = error_of(span.status, response.reason)
        except Exception as fault:  # noqa: BLE001 - a response of somebody's own; counted
            patches.fault(fault)
        span.finish(failure)
        try:
            return response
        finally:
            # A response keeps the exceptions of its retries, and they keep this frame: it must not keep the response.
            del response

    return send


def _patch(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.sessions.Session, "send", functools.partial(_send, patches))
    patch_headers(patches)


INTEGRATION = Integration(name="requests", targets={"requests": _patch}, supports={"requests": (2, 20)})
