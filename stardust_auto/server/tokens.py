"""Access tokens: JWT, HS256, ``sub`` is the application, ``jti`` the instance (protocol.md §2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt

from stardust_auto.server.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable

ISSUER = "StarServer"
RENEW_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Identity:
    """The application and instance that a token was issued to; ``expires`` in Unix seconds."""

    app: str
    client_id: str
    expires: int


class Tokens:
    """Issues and reads tokens; one algorithm, whatever a token claims in its header."""

    def __init__(self, secret: str, seconds: int, clock: Callable[[], int]) -> None:
        self._secret = secret
        self.seconds = seconds
        self._clock = clock

    def issue(self, app: str, client_id: str) -> str:
        """A token for one instance."""
        now = self._clock() // 1000
        payload = {"iss": ISSUER, "sub": app, "exp": now + self.seconds, "iat": now, "jti": client_id}
        return jwt.encode(payload, self._secret, algorithm="HS256", headers={"typ": ""})

    def read(self, token: str) -> Identity:
        """The identity in a token.

        Raises:
            CallError: 401, a foreign, tampered or expired token. A StarServer answers 500 to some of them.
        """
        try:
            payload = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["sub", "exp", "jti"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidSignatureError as error:
            raise CallError(401, "非法访问[] 令牌签名无效") from error
        except jwt.InvalidTokenError as error:
            raise CallError(401, "非法访问[] JWT格式不正确") from error
        identity = Identity(str(payload["sub"]), str(payload["jti"]), int(payload["exp"]))
        if identity.expires <= self._clock() // 1000:
            raise CallError(401, f"非法访问[{identity.app}] 令牌已过期")
        return identity

    def renewed(self, identity: Identity) -> str | None:
        """A new token when the old one ends within ten minutes (protocol.md §2.4)."""
        if identity.expires - self._clock() // 1000 > RENEW_SECONDS:
            return None
        return self.issue(identity.app, identity.client_id)
