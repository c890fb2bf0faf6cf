"""Calls to the platform over HTTP: one call, one deadline, whatever the other side does (protocol.md §1, §8.3).

An HTTP client of our own on ``http.client``'s reader, since no library bounds the whole of a call: a server that drips one byte a second
would hold the agent's thread for hours. Nothing of it is shared with the program: no pool, no session, no hook that a test library patches.

Nothing of a request survives in an error: no exception is chained, since a traceback holds headers and body.
"""

from __future__ import annotations

import functools
import http.client
import json
import zlib
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.privacy import Secret, scrub
from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.transport.network import Deadline, Stream, connect, proxy_headers
from stardust_auto.transport.response import Response
from stardust_auto.transport.servers import SHIELD_SECONDS
from stardust_auto.wire.envelope import problem_text, read_envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stardust_auto.process.clock import Clock
    from stardust_auto.transport.servers import Server, ServerList

#: A larger answer is refused: nothing that we ask for comes near.
MAX_BODY: Final = 8 << 20
_MAX_HEAD: Final = 65_536
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MAX_REDIRECTS: Final = 3
#: A server that is overloaded, or the proxy of one that is not there, has not carried the request out.
_NOT_CARRIED_OUT: Final = (429, 502, 503)
_MAX_RETRY_AFTER_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        repeatable: it does no harm when the server gets it twice.
        is_probe: it may find out whether a server that was down is back.
    """

    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    params: Mapping[str, str] | None = None
    repeatable: bool = True
    is_probe: bool = False


def json_request(path: str, body: object, *, repeatable: bool = True) -> Request:
    """A POST of ``body`` as JSON."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Request("POST", path, text.encode("utf-8", "replace"), "application/json", repeatable=repeatable)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in our protocol. ``date`` is the server's clock (Unix seconds) from the HTTP header, if it said so."""

    data: Any
    server: Server
    date: float | None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    location: str | None
    retry_after: float | None
    date: float | None


class HttpClient:
    """Calls to a list of servers, one kept connection for each. Not thread-safe: the session makes one call at a time."""

    def __init__(self, servers: ServerList, user_agent: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._servers = servers
        self._user_agent = user_agent
        self._clock = clock
        self._kept: dict[tuple[str, str], Stream] = {}
        self.last_date: float | None = None

    def close(self) -> None:
        """Close kept connections. In a forked child this closes its descriptors only; the parent's server notices nothing."""
        kept, self._kept = self._kept, {}
        for stream in kept.values():
            stream.close()

    def call(
        self, request: Request, token: Secret | None, timeout: float, secrets: Iterable[Secret | None] = ()
    ) -> Reply:
        """Send ``request`` to the first server that answers, each tried at most once, all within ``timeout`` seconds.

        A request that is not ``repeatable`` goes to the next server only if this one has certainly not carried it out.

        Raises:
            ApiError: the server answered with an error code.
            UnavailableError: none answered.
            BadReplyError: something else answered.
        """
        deadline = Deadline(timeout)
        failure: StardustError = UnavailableError("no server is configured")
        for server in self._servers.candidates(probe=request.is_probe):
            outcome = self._attempt(server, request, token, deadline, secrets)
            if isinstance(outcome, Reply):
                self._servers.answered(server)
                return outcome
            failure = outcome
            if isinstance(failure, ApiError):
                self._servers.answered(server)
                break
            if isinstance(failure, UnavailableError):
                self._servers.failed(server, failure.retry_after or SHIELD_SECONDS)
            if not request.repeatable and failure.may_have_arrived:
                break
            try:
                _ = deadline.left
            except TimeoutError:
                break
        raise failure

    def _attempt(
        self,
        server: Server,
        request: Request,
        token: Secret | None,
        deadline: Deadline,
        secrets: Iterable[Secret | None],
    ) -> Reply | ApiError | UnavailableError | BadReplyError:
        """One attempt at one server; errors are returned, so that no traceback reaches into a frame with a token."""
        exchange = _Exchange(self._kept, self._user_agent, self._clock, deadline)
        try:
            answer = exchange.follow(server.url + "/" + request.path.lstrip("/"), request, token)
            self.last_date = answer.date
            return Reply(_read(answer), server, answer.date)
        except ApiError as error:
            return ApiError(error.code, scrub(error.message, [token, *secrets]))
        except BadReplyError as error:
            text = scrub(str(error), [token, *secrets])
            return BadReplyError(text, may_have_arrived=error.may_have_arrived, status=error.status)
        except UnavailableError as error:
            text = scrub(str(error), [token, *secrets])
            return UnavailableError(
                text, may_have_arrived=error.may_have_arrived, retry_after=error.retry_after, status=error.status
            )
        except Exception as error:  # noqa: BLE001 - whatever goes wrong below means "no answer"
            return UnavailableError(scrub(explain(error), [token, *secrets]), may_have_arrived=exchange.is_sent)


class _Exchange:
    """One attempt: a request, its redirects on the same host, and the answer."""

    def __init__(self, kept: dict[tuple[str, str], Stream], user_agent: str, clock: Clock, deadline: Deadline) -> None:
        self._kept = kept
        self._user_agent = user_agent
        self._clock = clock
        self._deadline = deadline
        #: All of the request was sent, so the server may carry it out.
        self.is_sent = False

    def follow(self, url: str, request: Request, token: Secret | None) -> _Answer:
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._send(url, request, token)
            if answer.status not in _REDIRECTS or not answer.location:
                return answer
            target = urljoin(url, answer.location)
            old, new = urlsplit(url), urlsplit(target)
            if new.hostname != old.hostname or new.scheme not in ("https", old.scheme):
                raise BadReplyError(
                    f"the server redirects to {new.scheme}://{new.hostname}, which is not followed",
                    may_have_arrived=False,
                    status=answer.status,
                )
            url = target
        raise BadReplyError("the server redirects in circles", may_have_arrived=False)

    def _send(self, url: str, request: Request, token: Secret | None) -> _Answer:
        stream = self._stream(url)
        keep = False
        try:
            head = self._head(url, request, token, stream.proxy)
            response = Response(stream, request.method, _MAX_HEAD)
            try:
                stream.send_all(head + (request.body or b""))
                self.is_sent = True
            except (BrokenPipeError, ConnectionResetError) as error:
                if not _answers(response):  # a proxy that refuses a large body answers before it has read it
                    raise error from None
            else:
                response.begin()
            answer = _read_answer(response, self._clock)
            keep = not response.will_close and self.is_sent
            return answer
        finally:
            if keep:
                self._keep(url, stream)
            else:
                stream.close()  # the rest of an answer may be on the line

    def _head(self, url: str, request: Request, token: Secret | None, proxy: str | None) -> bytes:
        parts = urlsplit(url)
        query = "&".join(part for part in (parts.query, urlencode(request.params or {})) if part)
        target = (parts.path or "/") + (f"?{query}" if query else "")
        if proxy is not None:
            target = f"{parts.scheme}://{parts.netloc}{target}"
        headers = {
            "Host": parts.netloc,
            "User-Agent": self._user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",  # only what we can always decode (protocol.md §12.1)
        }
        if token:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if request.body is not None or request.method != "GET":
            headers["Content-Length"] = str(len(request.body or b""))
        if proxy is not None:
            headers |= proxy_headers(proxy)
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header with a line break")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _stream(self, url: str) -> Stream:
        """The kept connection to the host of ``url``, or a new one."""
        parts = urlsplit(url)
        kept = self._kept.pop((parts.scheme, parts.netloc), None)
        if kept is not None:
            if kept.is_reusable:
                kept.deadline = self._deadline
                return kept
            kept.close()
        return connect(url, self._deadline)

    def _keep(self, url: str, stream: Stream) -> None:
        parts = urlsplit(url)
        self._kept[parts.scheme, parts.netloc] = stream


def _answers(response: Response) -> bool:
    try:
        response.begin()
    except (OSError, http.client.HTTPException):
        return False
    return True


def _read_answer(response: Response, clock: Clock) -> _Answer:
    body = response.read_body(MAX_BODY)
    if body is not None and response.getheader("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
        body = _unzipped(body)
    if body is None:
        raise BadReplyError(f"the answer is larger than {MAX_BODY >> 20} MiB", status=response.status)
    return _Answer(
        response.status,
        body,
        response.getheader("Location"),
        _retry_after(response.getheader("Retry-After"), clock),
        _http_date(response.getheader("Date")),
    )


def _unzipped(body: bytes) -> bytes | None:
    """``body`` decompressed, or ``None`` if that has more than :data:`MAX_BODY` bytes."""
    unzip = zlib.decompressobj(31)
    try:
        plain = unzip.decompress(body, MAX_BODY + 1)
    except zlib.error:
        raise BadReplyError("the answer is not what it says it is compressed with") from None
    return plain if len(plain) <= MAX_BODY else None


def _read(answer: _Answer) -> Any:
    status = answer.status
    if status < 300:
        if answer.body.lstrip()[:1] == b"<":  # a proxy's page, or that of a login to the network
            raise BadReplyError(
                f"the server answered with HTML ({len(answer.body)} bytes)", may_have_arrived=False, status=status
            )
        return read_envelope(answer.body)
    if status == 429 or status >= 500:
        raise UnavailableError(
            f"HTTP {status}",
            may_have_arrived=status not in _NOT_CARRIED_OUT,
            retry_after=answer.retry_after,
            status=status,
        )
    detail = problem_text(answer.body)
    raise BadReplyError(f"HTTP {status}" + (f": {detail}" if detail else ""), may_have_arrived=False, status=status)


def explain(error: BaseException) -> str:
    """One short line for a network error, without addresses of objects and without a URL's query."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return "the connection was closed before the answer was complete"
    if isinstance(error, UnicodeError):
        return "the request cannot be written"  # the text would quote it
    return " ".join(f"{type(error).__name__}: {str(error)[:200]}".split())


def _retry_after(value: str | None, clock: Clock) -> float | None:
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(float(value.strip()[:9]), _MAX_RETRY_AFTER_SECONDS)
    moment = _http_date(value)
    return None if moment is None else max(0.0, min(moment - clock.wall(), _MAX_RETRY_AFTER_SECONDS))


def _http_date(value: str | None) -> float | None:
    parsed = parsedate_tz(value) if value else None
    if parsed is None:
        return None
    try:
        return float(mktime_tz(parsed))
    except (ValueError, OverflowError):
        return None


@functools.cache
def own_user_agent() -> str:
    """The ``User-Agent`` of all our requests."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("stardust-auto")
    except PackageNotFoundError:
        ours = "0.0.0"
    return f"stardust-auto/{ours} Python/{platform.python_version()}"
