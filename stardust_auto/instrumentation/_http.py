"""What all HTTP clients share: their span, its name, and trace headers for each hop on a copy of the caller's headers."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from stardust_auto.tracing.naming import HttpNames
from stardust_auto.tracing.records import HttpCall
from stardust_auto.tracing.span import Span

if TYPE_CHECKING:
    from stardust_auto.instrumentation.patches import Patches

#: Names by URL without its query; shared, so that a host's names are bounded whatever library calls it.
HTTP_NAMES = HttpNames()


class HttpSpan(Span):
    """A request that the program sends. What its library does below (redirects, retries, the transport) belongs to it."""

    __slots__ = ("attempts", "hooks", "method", "redirects", "status", "url")

    attempts: int
    hooks: object
    method: Any
    redirects: int
    status: int
    url: str

    def describe(self) -> str:
        """``GET https://host/path?key=?``, status, redirects, attempts."""
        method = self.method.decode("latin-1") if isinstance(self.method, bytes) else str(self.method)
        text = HttpCall(method, self.url, self.status, self.redirects).tag()
        return f"{text}\r\nattempts: {self.attempts}" if self.attempts > 1 + self.redirects else text

    def answered(self, status: Any, reason: Any) -> None:
        """Take over the status. 4xx and 5xx are errors; a redirect that is not followed is what the program asked for."""
        if type(status) is int:
            self.status = status
            if status >= 400:
                text = reason.decode("latin-1") if isinstance(reason, bytes) else reason
                self.set_error(f"{status} {text or ''}".rstrip())


def open_span(patches: Patches, parent: Any, method: Any, url: str, hooks: object, body: Any) -> HttpSpan:
    """A new span for one request; its value is the length of the body."""
    tracer = patches.tracer
    assert tracer is not None  # noqa: S101 - the callers have looked
    span = tracer.begin(HTTP_NAMES[url.partition("?")[0]], parent, HttpSpan)
    span.method, span.url, span.hooks = method, url, hooks
    span.status = span.redirects = span.attempts = 0
    if type(body) is bytes or type(body) is str:
        span.value = len(body)
    return span


def with_traceparent(headers: Any, span: Span) -> Any:
    """A copy of ``headers`` with our context, or ``headers`` themselves where the caller has set a ``traceparent``."""
    store = getattr(headers, "_store", None)
    if type(store) is OrderedDict:  # requests' own mapping: its copy() takes five times as long
        if "traceparent" in store:
            return headers
        fresh: Any = object.__new__(type(headers))
        fresh._store = store = store.copy()
        store["traceparent"] = ("traceparent", span.traceparent)
        return fresh
    if any(str(key).lower() == "traceparent" for key in headers):
        return headers
    copied = headers.copy() if hasattr(headers, "copy") else dict(headers)
    copied["traceparent"] = span.traceparent
    return copied
