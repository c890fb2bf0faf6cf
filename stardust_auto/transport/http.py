"""HTTP on ``requests``: one call, one deadline, whatever the other side does.

``requests`` bounds each read, not the whole; here every wait, for the address, the TLS handshake, the header and the
body, gets what is left of one total deadline, so a server that drips one byte a second cannot hold the thread.

Nothing of a request survives in an error: no exception of requests is chained, since it carries headers and body.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from stardust_auto.errors import ApiError, BadReplyError, StardustError, UnavailableError
from stardust_auto.privacy import Secret, scrub
from stardust_auto.process.clock import monotonic, wall_time
from stardust_auto.process.context import suppressed
from stardust_auto.transport.adapter import Adapter, environment_settings, prepare
from stardust_auto.transport.pool import CONNECTIONS, EXCHANGE, Exchange, Timeout
from stardust_auto.wire.envelope import problem_text, read_envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stardust_auto.transport.servers import Server, ServerList

#: A larger answer is refused: nothing that we ask for comes near.
MAX_BODY: Final = 8 << 20
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MAX_REDIRECTS: Final = 3
_LATER: Final = (429, 502, 503, 504)
_MAX_RETRY_AFTER: Final = 600.0


def _ours(_record: logging.LogRecord) -> bool:
    """A filter: urllib3's debug lines about our own calls do not belong into the application's log."""
    return EXCHANGE.get() is None


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``repeatable``: it does no harm when the server gets it twice, so another server may be tried."""

    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    params: Mapping[str, str] | None = None
    repeatable: bool = True


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


class Transport:
    """Calls to a list of servers. Not thread-safe: the session calls it one at a time."""

    def __init__(self, servers: ServerList, user_agent: str) -> None:
        self._servers = servers
        self._user_agent = user_agent
        self._adapter = Adapter(pool_connections=4, pool_maxsize=1, max_retries=0)
        self.last_date: float | None = None
        for name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
            logger = logging.getLogger(name)
            if _ours not in logger.filters:
                logger.addFilter(_ours)

    def abandon(self) -> None:
        """In a forked child: close the descriptors of the parent's connections, without a word on the line and without a lock."""
        for connection in tuple(CONNECTIONS):
            if connection.sock is not None:
                connection.sock.close()

    def close(self) -> None:
        """Close kept connections, one by one: at exit urllib3 has closed its pools before us, and forgets those used since."""
        for manager in (self._adapter.poolmanager, *self._adapter.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - it is no dict and cannot be iterated over
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        self._adapter.close()

    def call(
        self, request: Request, token: Secret | None, timeout: float, secrets: Iterable[Secret | None] = ()
    ) -> Reply:
        """Send ``request`` to the first server that answers, each tried at most once, all within ``timeout`` seconds.

        Raises:
            ApiError: the server answered with an error code.
            UnavailableError: none answered.
            BadReplyError: something else answered.
        """
        deadline = monotonic() + timeout
        failure: StardustError = UnavailableError("no server is configured")
        for server in self._servers.candidates():
            outcome = self._attempt(server, request, token, deadline, secrets)
            if isinstance(outcome, Reply):
                self._servers.answered(server)
                return outcome
            failure = outcome
            if isinstance(failure, ApiError):
                self._servers.answered(server)
                break
            if isinstance(failure, UnavailableError):
                self._servers.failed(server, failure.retry_after or 60.0)
                if failure.may_have_arrived and not request.repeatable:
                    break
            if monotonic() >= deadline:
                break
        raise failure

    def _attempt(
        self, server: Server, request: Request, token: Secret | None, deadline: float, secrets: Iterable[Secret | None]
    ) -> Reply | StardustError:
        """One attempt at one server; errors are returned, so that no traceback reaches into a frame with a token."""
        exchange = Exchange(deadline)
        try:
            answer = self._follow(server, request, token, exchange)
            self.last_date = answer.date
            return Reply(self._read(answer), server, answer.date)
        except StardustError as error:
            kind, text, code = type(error), str(error), getattr(error, "code", 0)
            retry_after = getattr(error, "retry_after", None)
            arrived = getattr(error, "may_have_arrived", False)
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise means "no answer"
            kind, text, code, retry_after, arrived = UnavailableError, explain(error), 0, None, exchange.sent
        text = scrub(text, [token, *secrets])
        if kind is ApiError:
            return ApiError(code, text.partition(": ")[2])
        if kind is UnavailableError:
            return UnavailableError(text, may_have_arrived=arrived, retry_after=retry_after)
        return BadReplyError(text)

    def _follow(self, server: Server, request: Request, token: Secret | None, exchange: Exchange) -> _Answer:
        url = server.url + "/" + request.path.lstrip("/")
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._exchange(url, request, token, exchange)
            if answer.status not in _REDIRECTS or not answer.location:
                return answer
            target = urljoin(url, answer.location)
            old, new = urlsplit(url), urlsplit(target)
            if new.hostname != old.hostname or new.scheme not in ("https", old.scheme):
                raise BadReplyError(f"the server redirects to {new.scheme}://{new.hostname}, which is not followed")
            url = target
        raise BadReplyError("the server redirects in circles")

    def _exchange(self, url: str, request: Request, token: Secret | None, exchange: Exchange) -> _Answer:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",  # only what we can always decode (protocol.md §12.1)
            "User-Agent": self._user_agent,
        }
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if token:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        prepared = prepare(request.method, url, headers, request.params, request.body)
        settings = environment_settings(prepared.url or url)
        verify = settings["verify"] or True
        marker = EXCHANGE.set(exchange)
        try:
            with suppressed():
                left = max(exchange.deadline - monotonic(), 0.001)
                response = self._adapter.send(
                    prepared,
                    stream=True,
                    timeout=Timeout(connect=left, read=left),
                    verify=verify,
                    cert=settings["cert"],
                    proxies=settings["proxies"],
                )
                try:
                    body = self._read_body(response)
                except BaseException:
                    response.raw.close()  # never back into the pool: the rest of this answer is still on the line
                    raise
                response.raw.release_conn()
        finally:
            EXCHANGE.reset(marker)
        return _Answer(
            response.status_code,
            body,
            response.headers.get("Location"),
            _retry_after(response.headers.get("Retry-After")),
            _http_date(response.headers.get("Date")),
        )

    @staticmethod
    def _read_body(response: requests.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            while chunk := response.raw.read(1 << 16, decode_content=True):
                size += len(chunk)
                if size > MAX_BODY:
                    raise BadReplyError(f"the answer is larger than {MAX_BODY >> 20} MiB")
                chunks.append(chunk)
        except urllib3.exceptions.DecodeError:
            raise BadReplyError("the answer is not what it says it is compressed with") from None
        return b"".join(chunks)

    @staticmethod
    def _read(answer: _Answer) -> Any:
        if answer.status < 300:
            return read_envelope(answer.body)
        if answer.status in _LATER or answer.status >= 500:
            raise UnavailableError(
                f"HTTP {answer.status}",
                may_have_arrived=answer.status not in (429, 503),
                retry_after=answer.retry_after,
            )
        detail = problem_text(answer.body)
        raise BadReplyError(f"HTTP {answer.status}" + (f": {detail}" if detail else ""))


def explain(error: BaseException) -> str:
    """One short line for a network error, without addresses of objects and without a URL's query."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 8:
        chain.append(cause)
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else None
        reason = getattr(cause, "reason", None) or (cause.args[1] if len(cause.args) > 1 else None)
        cause = inner or (reason if isinstance(reason, BaseException) else None) or cause.__cause__ or cause.__context__
    for link in reversed(chain):
        if isinstance(link, TimeoutError):
            return "no answer in time"
        if isinstance(link, OSError) and link.strerror and not isinstance(link, requests.RequestException):
            return link.strerror
    names = {type(link).__name__ for link in chain}
    if any("Timeout" in name for name in names):
        return "no answer in time"
    return " ".join(f"{type(chain[-1]).__name__}: {str(chain[-1])[:200]}".split())


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(float(value.strip()[:9]), _MAX_RETRY_AFTER)
    moment = _http_date(value)
    return None if moment is None else max(0.0, min(moment - wall_time(), _MAX_RETRY_AFTER))


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
    """What we call ourselves."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("stardust-auto")
    except PackageNotFoundError:
        ours = "0.0.0"
    return f"stardust-auto/{ours} Python/{platform.python_version()}"
