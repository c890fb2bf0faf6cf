"""Connections of urllib3 for which every wait gets what is left of one deadline (see ``transport.py``).

Loaded as soon as the program has urllib3 (``channel.py``): what a test puts in the place of a class later (vcrpy) is for the program's
traffic, and never sees ours.
"""

from __future__ import annotations

import http.client
import io
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from stardust_auto.process.clock import monotonic
from stardust_auto.process.sockets import CONNECT_LIMIT, open_socket

if TYPE_CHECKING:
    import socket


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
    left = exchange.deadline - monotonic()
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
        sock = open_socket(self._dns_host.strip("[]"), self.port, lambda: _left() or CONNECT_LIMIT)
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        sock.settimeout(_left())
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        exchange = EXCHANGE.get()
        if exchange is not None:
            exchange.sent = True


class _HTTPConnection(_Deadlines):
    pass


class _HTTPSConnection(_Deadlines, HTTPSConnection):
    pass


class Timeout(urllib3.Timeout):
    """On our own clock."""

    def clone(self) -> Timeout:
        return Timeout(connect=self._connect, read=self._read)

    def start_connect(self) -> float:
        self._start_connect = monotonic()
        return self._start_connect

    def get_connect_duration(self) -> float:
        return monotonic() - (self._start_connect or 0.0)


class HTTPPool(urllib3.HTTPConnectionPool):
    urlopen: Any = urllib3.HTTPConnectionPool.urlopen
    ConnectionCls = _HTTPConnection  # pyright: ignore[reportAssignmentType]  # a subclass of the class declared there


class HTTPSPool(urllib3.HTTPSConnectionPool):
    urlopen: Any = urllib3.HTTPSConnectionPool.urlopen
    ConnectionCls = _HTTPSConnection  # pyright: ignore[reportAssignmentType]  # a subclass of the class declared there
