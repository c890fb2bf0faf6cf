"""What an embedded server is told at its start."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of one server. Every limit is a hard one; the trace policy is the default of an application."""

    auto_register: bool = True
    """An unknown application is created at its first login, with an issued secret."""
    token_seconds: int = 7200
    """Life of an issued token; a Ping renews it in its last ten minutes (protocol.md §2.4)."""
    salt_seconds: int = 600
    """How far the salt (Unix seconds) of a salted secret may be from our clock (protocol.md §2.3)."""
    session_seconds: int = 600
    """An instance without a sign of life for this long is off line."""
    ping_period: int = 60
    """Seconds between two pings, returned by ``/App/Ping``."""
    period: int = 60
    """Seconds between two trace reports, returned with each report (protocol.md §3.1)."""
    max_samples: int = 1
    max_errors: int = 10
    timeout: int = 5000
    """Milliseconds from which a span is slow, hence sampled."""
    max_tag_length: int = 1024
    request_tag_length: int = 1024
    retention_days: float = 3.0
    """Traces, metrics and events older than this are removed, and reports that start earlier are not stored."""
    stat_days: float = 200.0
    """Counts are kept this long: by minute for 3 hours, by hour for 3 days, then by day."""
    max_data_mb: int = 2000
    """When the file holds more than this, the oldest of whatever takes most room goes before its time."""
    max_body: int = 30_000_000
    """Bytes of a request body (protocol.md §12.2)."""
    max_decompressed: int = 64_000_000
    """Bytes that a compressed report may grow to: a guard against zip bombs."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that a request may carry, besides ``localhost`` and IP addresses (DNS rebinding)."""
    console_password: str = field(default="", repr=False)
    """What a person may sign in with, besides the administrator's key; needed to listen on another address than loopback."""
    app_secret: str = field(default="", repr=False)
    """A secret that every application may log in with, and register; empty: a random one that is made once."""
    open_to: str = ""
    """The address that others can reach; the console says so on every page. Empty on loopback."""
    idle_exit: float = 0.0
    """Seconds without a request and without a push socket after which the server stops; 0 = never."""
