"""What all HTTP clients share: their span and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stardust_auto.tracing.naming import HttpNames
from stardust_auto.tracing.redaction import redact_url
from stardust_auto.tracing.span import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names by URL without its query; shared, so that a host's names are bounded whatever library calls it.
HTTP_NAMES = HttpNames()


class HttpCall(NamedTuple):
    """A request that this process sent."""

    method: str
    url: str
    status: int = 0
    redirects: int = 0

    def tag(self) -> str:
        """``GET https://host/path?key=?`` and, when it was answered, the status."""
        text = f"{self.method} {redact_url(self.url)}"
        if self.status:
            text += f"\r\nstatus: {self.status}"
        if self.redirects:
            text += f"\r\nredirects: {self.redirects}"
        return text


class HttpSpan(Span):
    """A request that the program sends. What its library does below (redirects, retries, the transport) belongs to it.

    ``own_context``: the program has set a ``traceparent`` itself, so none of ours is sent. ``hooks``: what a redirect has in common
    with the request that it comes from. ``attempts``: how often headers went out.
    """

    __slots__ = ("attempts", "hooks", "method", "own_context", "redirects", "status", "url")

    attempts: int
    hooks: object
    method: Any
    own_context: bool
    redirects: int
    status: int
    url: str

    def describe(self) -> str:
        """``GET https://host/path?key=?``, status, redirects, attempts."""
        method = self.method.decode("latin-1") if isinstance(self.method, bytes) else str(self.method)
        text = HttpCall(method, self.url, self.status, self.redirects).tag()
        return f"{text}\r\nattempts: {self.attempts}" if self.attempts > 1 + self.redirects else text


def error_of(status: int, reason: Any) -> str | None:
    """4xx and 5xx are errors; a redirect that is not followed is what the program asked for."""
    if status < 400:
        return None
    text = reason.decode("latin-1") if isinstance(reason, bytes) else reason
    return f"{status} {text or ''}".rstrip()


def has_traceparent(headers: Mapping[Any, Any] | None) -> bool:
    """Whether the program has set a ``traceparent`` of its own."""
    return headers is not None and any(str(key).lower() == "traceparent" for key in headers)
