"""Connections of ``requests`` for which every wait gets what is left of one deadline (see ``transport.py``)."""

from __future__ import annotations

import http.client
import io
import socket
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import allowed_gai_family

_CONNECT_LIMIT: Final = 5.0


@dataclass(slots=True)
class Exchange:
    """What the connection of a running call needs to know, and what it found out."""

    deadline: float
    sent: bool = False


#: The call that this thread is in.
EXCHANGE: ContextVar[Exchange | None] = ContextVar("stardust_exchange", default=None)
#: Those that are connected: what a forked child inherits.
CONNECTIONS: WeakSet[HTTPConnection] = WeakSet()


def _left() -> float | None:
    exchange = EXCHANGE.get()
    if exchange is None:
        return None
    left = exchange.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the whole call took too long")
    return left


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, each time with what is left of the call's deadline as the time-out."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock))


class _Deadlines(HTTPConnection):
    """Mixed into both kinds of connection: the deadline while connecting, and the moment when all was sent."""

    response_class = _Response

    def connect(self) -> None:
        super().connect()
        CONNECTIONS.add(self)

    def _new_conn(self) -> socket.socket:
        host = self._dns_host.strip("[]")
        addresses = socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        problem: OSError = OSError(f"no address for {host}")
        for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(min(_CONNECT_LIMIT, _left() or _CONNECT_LIMIT) / left)
                sock.connect(address)
            except OSError as error:
                sock.close()
                problem = error
            else:
                sock.settimeout(_left())
                return sock
        raise problem

    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        exchange = EXCHANGE.get()
        if exchange is not None:
            exchange.sent = True


class _HTTPConnection(_Deadlines):
    pass


class _HTTPSConnection(_Deadlines, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection  # pyright: ignore[reportAssignmentType]  # a subclass of the class declared there


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection  # pyright: ignore[reportAssignmentType]  # a subclass of the class declared there


class Adapter(HTTPAdapter):
    """One connection per server, our own connection classes, no retries of its own."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._use_own_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._use_own_pools(manager)
        return manager

    @staticmethod
    def _use_own_pools(manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
