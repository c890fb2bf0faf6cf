"""Listening: one socket, one uvicorn server, a clean end."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from stardust_auto.server.application import create_app, watch_idle
from stardust_auto.server.connections import connection_class
from stardust_auto.server.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store import Store


def bind(host: str, port: int, *, any_port: bool = False) -> socket.socket:
    """A bound socket; with ``any_port`` a taken port is replaced by a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)  # from here on nobody else can have the port
    except OSError as error:
        listener.close()
        if any_port and port and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return bind(host, 0)
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """``http://host:port`` of a bound socket, with a host that can be connected to."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn, which says when it accepts, closes push sockets as a StarServer does, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config, services: Services, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._services = services
        self._on_started = on_started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the business of whoever runs us."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            seconds = self._services.settings.idle_exit
            if seconds > 0:
                self._idle = asyncio.create_task(watch_idle(self._services, seconds, self.stop))
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the push sockets with 1001 "Dispose" (protocol.md §12.4), then the rest."""
        await self._services.hub.close()
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Ask for the end; from any thread, also from a signal handler."""
        self.should_exit = True


def _worth_saying(record: logging.LogRecord) -> bool:
    """False for what uvicorn takes for a fault, an upgrade that we answer with HTTP 200 (protocol.md §12.1, 4), and for traffic.

    Of each socket it writes the address at INFO, every header and frame at DEBUG, and with them the tokens of the programs.
    """
    form = str(record.msg)
    if (record.levelno <= logging.DEBUG and form.startswith(("<", ">"))) or '"WebSocket %s"' in form:
        return False
    return "without completing handshake" not in record.getMessage()


def build(
    store: Store, settings: ServerSettings, listener: socket.socket, on_started: Callable[[], None]
) -> tuple[Server, Services]:
    """A server on a bound socket; run it with ``server.run(sockets=[listener])``."""
    services = Services(store, settings)
    logging.getLogger("uvicorn.error").addFilter(_worth_saying)  # the same function each time: added once
    services.port = int(listener.getsockname()[1])
    config = uvicorn.Config(
        create_app(store, settings, services),
        loop="asyncio",
        http=connection_class(),
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # X-Forwarded-For is not believed
        server_header=False,
        timeout_keep_alive=120,  # longer than the minute between two pings
        timeout_graceful_shutdown=2,
        ws_max_size=65_536,
        ws_ping_interval=60,
        ws_ping_timeout=60,
    )
    return Server(config, services, on_started), services
