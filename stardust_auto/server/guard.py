"""What every request passes first: the Host header, the size of its body, and the answer to whatever goes wrong behind it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from starlette.responses import Response

from stardust_auto.server.errors import ProblemError
from stardust_auto.server.replies import problem

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from starlette.types import ASGIApp, Receive, Scope, Send

    from stardust_auto.server.faults import Faults
    from stardust_auto.server.services import Services

#: Bytes of a body that anybody may send.
SMALL_BODY = 65_536
#: Paths with a larger limit in bytes; 0 is the limit of the settings. Each of them asks for a token or the administrator's key.
_LARGER = {
    "/trace/report": 0,
    "/trace/reportraw": 0,
    "/config/setall": 0,
    "/app/postevents": 2_000_000,
    "/log": 2_000_000,
}


class _TooLargeError(Exception):
    """A body passed its limit while it was read."""


def host_allowed(header: str, allowed: tuple[str, ...]) -> bool:
    """Whether a Host header names us. DNS rebinding needs a name, so an IP address is always good."""
    host = header.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost" or host in allowed:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def body_limit(path: str, most: int) -> int:
    """Bytes that a request to ``path`` may carry; ``most`` is the limit of the settings."""
    path = path.lower().rstrip("/")
    if path.startswith(("/console/config", "/console/api/config")):
        return most
    limit = _LARGER.get(path, SMALL_BODY)
    return min(limit, most) if limit else most


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, services: Services, faults: Faults) -> None:
        self._app = app
        self._services = services
        self._faults = faults
        self._hosts = tuple(host.lower() for host in services.settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._services.touch()
        headers = dict(scope["headers"])
        if not host_allowed(headers.get(b"host", b"").decode("latin-1"), self._hosts):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # before the accept: HTTP 403
                return
            await Response(b"", 403)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._limited(scope, receive, send, headers)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        limit = body_limit(scope["path"], self._services.settings.max_body)
        refusal = problem(ProblemError(413))
        refusal.headers["Connection"] = "close"
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await refusal(scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLargeError
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLargeError:
            if not started:
                await refusal(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - whatever a handler does, the server answers and goes on
            answer = self._faults.answer(scope, error)
            if not started:
                await answer(scope, receive, send)
