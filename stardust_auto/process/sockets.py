"""Sockets as they were when the program imported ``socket`` (``originals.py``).

What a test of the program puts in their place later (httpretty, pytest-socket, ``unittest.mock``) never sees the agent's traffic.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds for one address.
CONNECT_LIMIT: Final = 5.0
_original: Final = {name: getattr(socket, name) for name in ("socket", "getaddrinfo")}


def open_socket(host: str, port: int, left: Callable[[], float]) -> socket.socket:
    """A connection to the first address of ``host`` that accepts one, tried in turn within ``left()`` seconds.

    Raises:
        OSError: no address accepts a connection in time.
    """
    addresses = _real("getaddrinfo")(host, port, 0, socket.SOCK_STREAM)
    problem: OSError = OSError(f"no address for {host}")
    for remaining, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock: socket.socket = _real("socket")(family, kind, protocol)
        try:
            sock.settimeout(min(CONNECT_LIMIT, left()) / remaining)
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets."""
    if _real("socket") is socket.socket:
        return socket.socketpair()
    import _socket

    first, second = (_real("socket")(fileno=end.detach()) for end in _socket.socketpair())
    return first, second


def _real(name: str) -> Any:
    """The original, or what gevent or eventlet has put there: without that the agent's thread would block all others."""
    current = getattr(socket, name)
    cooperative = str(getattr(current, "__module__", "")).startswith(("gevent.", "eventlet."))
    return current if cooperative else _original[name]
