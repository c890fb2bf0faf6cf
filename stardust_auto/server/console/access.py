"""Who may use the console: the administrator's key as a bearer, or a cookie that was bought with it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stardust_auto.server.services import Services

SESSION_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """An administrator; `token` is what a form must carry, empty with a bearer key (no browser adds that by itself)."""

    token: str


class Access:
    """Checks of one server. Nothing is kept: a cookie is signed, so that a restart does not end a session."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._key = services.console_key.encode()

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}|{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def proof(self, nonce: str) -> str:
        """What only the holder of the key can say: a launcher asks it before it sends the key to a port."""
        return self._sign("proof", nonce)

    def key_matches(self, given: str) -> bool:
        """Constant-time."""
        return hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._key)

    def cookie_name(self) -> str:
        """Cookies do not know ports: two servers of one host need two names."""
        return f"stardust_console_{self._services.port}"

    def sign_in(self, response: Response, *, secure: bool) -> None:
        """Give the browser its cookie."""
        body = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        response.set_cookie(
            self.cookie_name(),
            f"{body}.{self._sign('cookie', body)}",
            max_age=SESSION_SECONDS,
            path="/console",
            httponly=True,
            samesite="strict",
            secure=secure,
        )

    def sign_out(self, response: Response) -> None:
        """Take it back."""
        response.delete_cookie(self.cookie_name(), path="/console", httponly=True, samesite="strict")

    def session(self, request: Request) -> Session | None:
        """The administrator behind a request, None for anybody else."""
        header = request.headers.get("authorization", "")
        if header[:7].lower() == "bearer ":
            return Session("") if self.key_matches(header[7:]) else None
        cookie = request.cookies.get(self.cookie_name(), "")
        body, _, signature = cookie.rpartition(".")
        expires = body.partition(".")[0]
        genuine = hmac.compare_digest(self._sign("cookie", body).encode(), signature.encode("utf-8", "replace"))
        if not genuine or not expires.isdecimal() or int(expires) < time.time():
            return None
        return Session(self._sign("form", body))


def same_origin(request: Request) -> bool:
    """Whether a browser sent this from our own page. (No browser, no such headers: the cookie decides alone.)"""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


def form_genuine(session: Session, given: str) -> bool:
    """Whether a form carries the token of this session."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), session.token.encode())
