"""One call of the protocol, as a handler sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from stardust_auto.server.errors import CallError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.server.services import Services
    from stardust_auto.server.store.apps import App
    from stardust_auto.server.tokens import Identity
    from stardust_auto.wire.fields import Message

    M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True)
class Caller:
    """The application and instance whose token a call carries."""

    app: App
    identity: Identity

    @property
    def client_id(self) -> str:
        """The instance: ``jti`` of the token, whatever a body says (protocol.md §2.1)."""
        return self.identity.client_id


@dataclass(frozen=True, slots=True)
class Call:
    """Method, query (names in lower case), headers, body, and the address of the socket. No header is trusted for the address."""

    services: Services
    method: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    address: str

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def token(self) -> str:
        """Query ``Token``, header ``Authorization`` with or without ``Bearer``, or header ``X-Token`` (protocol.md §2.1)."""
        query = self.query.get("token", "")
        if query:
            return query
        header = self.headers.get("authorization", "").strip()
        if header[:7].lower() == "bearer ":
            header = header[7:].strip()
        return header or self.headers.get("x-token", "").strip()

    def caller(self, *, traced: bool = True) -> Caller:
        """The caller that the token names.

        Raises:
            CallError: 401 without a valid token, 403 when the application is gone or disabled.
        """
        token = self.token()
        if not token:
            raise CallError(401, "认证失败", traced=traced)
        try:
            identity = self.services.tokens.read(token)
        except CallError as error:
            error.traced = traced
            raise
        app = self.services.store.apps.find(identity.app)
        if app is None or not app.enabled:
            raise CallError(403, "无效客户端！", traced=traced)
        self.services.store.apps.confirm(app)
        return Caller(app, identity)

    def require_json(self, *, empty: bool = False) -> None:
        """Check that the body is declared as JSON.

        Raises:
            ProblemError: 415, with an empty body if ``empty``.
        """
        media = self.media_type
        if media != "application/json" and not media.endswith("+json"):
            raise ProblemError(415, empty=empty)

    def bind(self, kind: type[M], parameter: str = "model") -> M:
        """The JSON body as a StarServer binds it to ``parameter``.

        Raises:
            ProblemError: 415, not declared as JSON.
            BindError: the body is malformed or has a member of the wrong type.
        """
        self.require_json()
        return kind.bind(self.body, parameter)
