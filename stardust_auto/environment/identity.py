"""Which application logs in where, and as which instance."""

from __future__ import annotations

from stardust_auto.environment.variable import parse_servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from stardust_auto.environment.settings import AgentSettings


class Identity:
    """One application on one platform. Immutable by convention.

    Attributes:
        servers: addresses of the platform; the later ones stand in for the first (failover).
        app_id: name of the application on the platform.
        secret: its secret, or ``None`` where the server issues one.
        client_id: name of this instance, or ``None`` for ``<ipv4>@<pid>``.
        app_name: name of the application for people, or ``None`` for ``app_id``.
        version: version of the application as the operator wrote it.
        node_code: code of the machine that the platform knows, if any.
        push: whether commands may be pushed through a WebSocket.
        cache_dir: folder for issued credentials, or ``None`` for the user's cache folder.
        heartbeat: seconds between two heartbeats, or ``None`` for what the server says.
    """

    __slots__ = (
        "app_id",
        "app_name",
        "cache_dir",
        "client_id",
        "heartbeat",
        "node_code",
        "push",
        "secret",
        "servers",
        "version",
    )

    def __init__(
        self,
        servers: str | Iterable[str],
        app_id: str,
        secret: str | None = None,
        *,
        client_id: str | None = None,
        app_name: str | None = None,
        version: str | None = None,
        node_code: str | None = None,
        push: bool = True,
        cache_dir: str | None = None,
        heartbeat: int | None = None,
    ) -> None:
        self.servers = tuple(parse_servers(servers if isinstance(servers, str) else ",".join(servers)))
        self.app_id = app_id
        self.secret = secret
        self.client_id = client_id
        self.app_name = app_name
        self.version = version
        self.node_code = node_code
        self.push = push
        self.cache_dir = cache_dir
        self.heartbeat = heartbeat

    @classmethod
    def from_settings(cls, settings: AgentSettings, app_id: str) -> Identity:
        """The identity that an operator configured; ``app_id`` is the name of the application if the operator set none."""
        return cls(
            settings.servers,
            settings.app_id or app_id,
            settings.secret,
            client_id=settings.client_id,
            app_name=settings.app_name,
            version=settings.app_version,
            node_code=settings.node_code,
            push=settings.push_enabled,
            cache_dir=settings.cache_dir,
            heartbeat=settings.heartbeat,
        )

    def __repr__(self) -> str:
        from stardust_auto.privacy import without_credentials

        return f"Identity({self.app_id!r} at {without_credentials(','.join(self.servers))})"
