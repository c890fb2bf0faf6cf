"""What happened, told by an integration without a word about spans: one immutable record for each kind of call.

A record is only made for a call whose sample is kept; :meth:`tag` is the text stored with it, already free of secrets.
"""

from __future__ import annotations

from typing import NamedTuple

from stardust_auto.tracing.redaction import redact_query, redact_sql, redact_url


class HttpCall(NamedTuple):
    """A request that this process sent."""

    method: str
    url: str
    status: int = 0
    redirects: int = 0

    def tag(self) -> str:
        """``GET https://host/path?key=?`` and, when it was answered, the status."""
        text = f"{self.method} {redact_url(self.url)}"
        if self.status:
            text += f"\r\nstatus: {self.status}"
        if self.redirects:
            text += f"\r\nredirects: {self.redirects}"
        return text


class DbCall(NamedTuple):
    """A statement sent to a database."""

    sql: str
    many: bool = False

    def tag(self) -> str:
        """The statement without literals."""
        text = redact_sql(self.sql)
        return f"executemany: {text}" if self.many else text


class RedisCall(NamedTuple):
    """A command, or a pipeline of commands, without keys and values."""

    address: str
    commands: tuple[str, ...]
    failed: int = 0

    def tag(self) -> str:
        """Address and command names; equal commands of a pipeline are counted."""
        if len(self.commands) == 1:
            text = f"{self.address} {self.commands[0]}"
        else:
            counts: dict[str, int] = {}
            for command in self.commands:
                counts[command] = counts.get(command, 0) + 1
            shown = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in list(counts.items())[:20])
            text = f"{self.address} {len(self.commands)} commands{': ' if shown else ''}{shown}"
        return f"{text}\r\nfailed: {self.failed}" if self.failed else text


class WsgiRequest(NamedTuple):
    """A request that this process answered."""

    client: str
    method: str
    path: str
    query: str = ""
    status: str = ""

    def tag(self) -> str:
        """``<client> GET /path?key=?`` and the status line."""
        text = f"{self.client} {self.method} {self.path}"
        if self.query:
            text += f"?{redact_query(self.query[:1000])}"
        return f"{text}\r\nstatus: {self.status}" if self.status else text
