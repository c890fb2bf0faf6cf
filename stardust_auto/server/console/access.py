"""Who may use the console: the administrator's key or the console password, as a bearer token or for a session cookie."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool

from stardust_auto.log import get_logger

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stardust_auto.server.services import Services

_log = get_logger(__name__)
SESSION_SECONDS = 12 * 3600
#: Seconds that an answer to a wrong key waits.
_WRONG_KEY_SECONDS = 0.5
#: Wrong keys that may wait at once; one more is refused without a check.
_WAITING = 20


@dataclass(frozen=True, slots=True)
class Session:
    """An administrator; ``token`` is what a form must carry, empty with a bearer key, which no browser adds by itself."""

    token: str
    id: str = ""
    expires: int = 0


class Access:
    """Checks of one server. A cookie is signed, so a restart does not end a session; a sign-out is written down, so it does."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._key = services.console_key.encode()
        self._password = services.settings.console_password.encode()
        self._slow = 0

    def _now(self) -> float:
        return self._services.store.time.wall()

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}|{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def proof(self, nonce: str, host: str, port: int) -> str:
        """What only the holder of the key can say, for the very address that was asked: a relay listens on another one."""
        return self._sign("proof", f"{host}|{port}|{nonce}")

    def _right(self, given: str) -> bool:
        text = given.strip().encode("utf-8", "replace")
        key = hmac.compare_digest(text, self._key)
        return (hmac.compare_digest(text, self._password) and bool(self._password)) or key

    async def key_matches(self, given: str, address: str) -> bool:
        """Whether ``given`` is the key or the console password. A wrong one waits, and is logged."""
        if self._slow >= _WAITING:
            return False
        if self._right(given):
            return True
        if given:
            _log.warning("a wrong administrator's key from %s", address)
            self._slow += 1
            try:
                await asyncio.sleep(_WRONG_KEY_SECONDS)
            finally:
                self._slow -= 1
        return False

    def cookie_name(self) -> str:
        """Cookies do not know ports: two servers of one host need two names."""
        return f"stardust_console_{self._services.port}"

    def sign_in(self, response: Response, *, secure: bool) -> None:
        """Give the browser its cookie."""
        body = f"{int(self._now()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        response.set_cookie(
            self.cookie_name(),
            f"{body}.{self._sign('cookie', body)}",
            max_age=SESSION_SECONDS,
            path="/console",
            httponly=True,
            samesite="strict",
            secure=secure,
        )

    async def sign_out(self, response: Response, session: Session) -> None:
        """End the session: the cookie is taken back, and a copy of it is worth nothing."""
        await run_in_threadpool(self._services.store.sign_out, session.id, session.expires)
        response.delete_cookie(self.cookie_name(), path="/console", httponly=True, samesite="strict")

    async def session(self, request: Request) -> Session | None:
        """The administrator behind a request, None for anybody else."""
        header = request.headers.get("authorization", "")
        if header[:7].lower() == "bearer ":
            address = request.client.host if request.client else ""
            return Session("") if await self.key_matches(header[7:], address) else None
        cookie = request.cookies.get(self.cookie_name(), "")
        body, _, signature = cookie.rpartition(".")
        expires, _, identity = body.partition(".")
        genuine = hmac.compare_digest(self._sign("cookie", body).encode(), signature.encode("utf-8", "replace"))
        if not genuine or not expires.isdecimal() or int(expires) < self._now():
            return None
        if await run_in_threadpool(self._services.store.signed_out, identity):
            return None
        return Session(self._sign("form", body), identity, int(expires))


def same_origin(request: Request) -> bool:
    """Whether a browser sent this from our own page. (No browser, no such headers: the cookie decides alone.)"""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


def form_genuine(session: Session, given: str) -> bool:
    """Whether a form carries the token of this session."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), session.token.encode())
