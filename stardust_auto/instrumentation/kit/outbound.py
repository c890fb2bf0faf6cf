"""HTTP requests that the program sends: one span each, whatever its library does below it.

An integration gives the calls of its client to ``outbound`` and the last step before the wire to :func:`traceparent`:

* The span opens with the client's call and covers redirects, retries and authentication below it.
* The header goes out with what the connection sends, at each hop and by the hop's host. No object of the program ever holds it.
* A response whose body is still to be read keeps its span open: :data:`BODIES` ends it when the body is used up, closed or dropped.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from stardust_auto.instrumentation.kit.calls import OPEN
from stardust_auto.process.end import Phase, process_end
from stardust_auto.tracing.naming import HttpNames
from stardust_auto.tracing.redaction import redact_url
from stardust_auto.tracing.span import LiveSpan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stardust_auto.instrumentation.kit.calls import Open, Wrap
    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.tracer import Tracer

#: Names by URL without its query; shared, so that the names of a host are bounded whatever library calls it.
HTTP_NAMES = HttpNames()
#: Responses whose bodies are waited for. A program that never closes and never drops its responses must not fill the memory.
MOST_OPEN_BODIES = 1000
_NS_PER_MS = 1_000_000


class HttpCall(NamedTuple):
    """A request that this process sent. ``attempts``: how often it went out; ``headers_ns``: until the headers of its answer came."""

    method: str
    url: str
    status: int = 0
    redirects: int = 0
    attempts: int = 0
    headers_ns: int = 0

    def tag(self) -> str:
        """``GET https://host/path?key=?`` and, when it was answered, the status."""
        text = f"{self.method} {redact_url(self.url)}"
        if self.status:
            text += f"\r\nstatus: {self.status}"
        if self.redirects:
            text += f"\r\nredirects: {self.redirects}"
        if self.attempts > 1 + self.redirects:
            text += f"\r\nattempts: {self.attempts}"
        if self.headers_ns:
            text += f"\r\nheaders after: {self.headers_ns // _NS_PER_MS} ms"
        return text


class HttpSpan(LiveSpan):
    """A request that the program sends. Make it with :func:`open_request`.

    Attributes:
        origin: what a request has in common with the redirects that follow from it, for a client that sends each one by the same call.
        own_context: the program has set a ``traceparent`` itself, so none of ours is sent.
        attempts: how often headers went out.
        headers_ns: time until the headers of the answer, where the span waits for the body.
    """

    __slots__ = ("attempts", "headers_ns", "method", "origin", "own_context", "redirects", "status", "url")

    attempts: int
    headers_ns: int
    method: Any
    origin: object
    own_context: bool
    redirects: int
    status: int
    url: str

    def describe(self) -> str:
        """The tag: method, URL without values, status, redirects, attempts."""
        return HttpCall(_text(self.method), self.url, self.status, self.redirects, self.attempts, self.headers_ns).tag()


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def open_request(
    tracer: Tracer,
    parent: Any,
    method: Any,
    url: str,
    headers: Iterable[Any] | None,
    body: Any = None,
    origin: object = None,
) -> HttpSpan:
    """The span of a request, which ends with :func:`answered`.

    Args:
        headers: names of the headers that the program has set.
        body: text or bytes, whose length is the value, or that length itself.
    """
    span = tracer.begin(HTTP_NAMES[url.partition("?")[0]], parent, HttpSpan)
    span.method, span.url, span.origin = method, url, origin
    span.status = span.redirects = span.attempts = span.headers_ns = 0
    span.own_context = has_traceparent(headers)
    if isinstance(body, (bytes, str)):
        span.value = len(body)
    elif isinstance(body, int):
        span.value = body
    return span


def within_request(parent: object) -> bool:
    """Whether ``parent`` is a request that is still on its way: what runs below it belongs to it."""
    return type(parent) is HttpSpan and parent._tracer is not None


def answered(span: HttpSpan, status: int, reason: Any, redirects: int = 0) -> str | None:
    """Note the answer. Return its error: a status from 400 on. A redirect that is not followed is what the program asked for."""
    span.status, span.redirects = status, redirects
    return f"{status} {_text(reason or '')}".rstrip() if status >= 400 else None


def has_traceparent(headers: Iterable[Any] | None) -> bool:
    """Whether the program has set a ``traceparent`` of its own. ``headers``: a mapping, or the names of the headers."""
    return headers is not None and any(_text(key).lower() == "traceparent" for key in headers)


def departing(span: Any, patches: Patches, host: str | None) -> bool:
    """Count one more hop of the current span to ``host``; return whether its header goes along."""
    if type(span) is not HttpSpan or span._tracer is None:
        return False
    span.attempts += 1
    rule = patches.propagation
    return not span.own_context and rule is not None and rule.allows(host)


class OpenBodies:
    """Spans of responses whose bodies are still to be read, by the object that is read from."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, tuple[HttpSpan, Any, BaseException | str | None]] = {}

    def keep(self, body: Any, span: HttpSpan, failure: str | None) -> Open | str | None:
        """Let ``span`` end with ``body``. Return what ``end`` of the call returns: the failure, if the body cannot be followed."""
        tracer = span._tracer
        if tracer is None or len(self._open) >= MOST_OPEN_BODIES:
            return failure
        key = id(body)
        try:
            dropped = weakref.ref(body, lambda _gone: self._end(key))
        except TypeError:
            return failure
        if not self._open:
            process_end.register(Phase.STOP_TAKING, self.end_all)
        span.headers_ns = max(tracer.now() - span._start, 1)
        self._open[key] = (span, dropped, failure)
        return OPEN

    def done(self, body: Any, error: BaseException | None = None) -> None:
        """The body is used up or closed, or reading it has failed."""
        self._end(id(body), error)

    def _end(self, key: int, error: BaseException | None = None) -> None:
        span, _, failure = self._open.pop(key, (None, None, None))
        if span is not None:
            span.end(error if error is not None else failure)

    def end_all(self, _seconds: float = 0) -> None:
        """The process ends: what it still reads is counted as it is."""
        for key in list(self._open):
            self._end(key)

    def __len__(self) -> int:
        return len(self._open)


BODIES = OpenBodies()


def body_ends(library: str) -> Wrap:
    """Make the wrapper of a method that ``library`` calls when a body is used up or closed, or while it cleans up after a failed read.

    The span fails if an error of the library is being handled at that moment.
    """

    def ends(body: Any) -> None:
        error = sys.exc_info()[1]
        BODIES.done(body, error if type(error).__module__.partition(".")[0] == library else None)

    def make(plain: Any) -> Any:
        if inspect.iscoroutinefunction(plain):

            @functools.wraps(plain)
            async def close_async(self: Any, /, *args: Any, **kwargs: Any) -> Any:
                if BODIES:
                    ends(self)
                return await plain(self, *args, **kwargs)

            return close_async

        @functools.wraps(plain)
        def close(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            if BODIES:
                ends(self)
            return plain(self, *args, **kwargs)

        return close

    return make
