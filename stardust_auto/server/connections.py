"""HTTP connections with a deadline and a limit. uvicorn waits for ever for a request that never gets complete.

A program may have 256 file descriptors, as by default on macOS; without a limit, idle connections make a server unreachable.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Seconds for a whole request to arrive, from the opening of the connection or the first byte of the request.
REQUEST_SECONDS = 20.0
#: File descriptors left for everything that is not a connection.
_SPARE = 64
_MOST = 10_000


def connection_limit() -> int:
    """How many connections may be open at once, by the limit of file descriptors of this process."""
    if sys.platform == "win32":
        return 2000
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(max(soft - _SPARE, soft // 2), _MOST)


def raise_descriptor_limit() -> None:
    """Let this process have as many file descriptors as the system allows; only for a process that is all ours."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + _SPARE if hard == resource.RLIM_INFINITY else min(hard, _MOST + _SPARE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a system that promises more than it gives
            return


class Connection(H11Protocol):
    """One connection: cut if no whole request arrives in time, refused if there are too many.

    Without room the oldest connection that has never sent a whole request goes first.
    """

    limit = _MOST

    def connection_made(self, transport: Any) -> None:
        """Take a connection, if there is room."""
        super().connection_made(transport)
        self.served = False
        self.opened = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(REQUEST_SECONDS, self.cut)
        if len(self.connections) > self.limit:
            silent = (item for item in self.connections if isinstance(item, Connection) and not item.served)
            min(silent, key=lambda item: item.opened).cut()

    def data_received(self, data: bytes) -> None:
        """Take bytes; while a request is incomplete its deadline runs."""
        super().data_received(data)
        if self.transport is None or self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._disarm()  # closed, or a WebSocket by now, whose request h11 never sees the end of
            return
        arriving = self.conn.their_state is h11.SEND_BODY or (
            self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        )
        if not arriving:
            self.served = True
            self._disarm()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.cut)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; from here on the WebSocket has its own deadlines."""
        self._disarm()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._disarm()
        super().connection_lost(exc)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def cut(self) -> None:
        """Close the connection at once."""
        self._deadline = None
        if self.transport is not None:
            self.transport.abort()


def connection_class(limit: Callable[[], int] = connection_limit) -> type[Connection]:
    """The protocol of one server, with the limit of this moment."""
    return type("Connection", (Connection,), {"limit": limit()})
