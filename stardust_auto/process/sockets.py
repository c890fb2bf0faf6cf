"""Sockets as they were when the program imported ``socket`` (``originals.py``).

What a test of the program puts in their place later (httpretty, pytest-socket, ``unittest.mock``) never sees the agent's traffic.
"""

from __future__ import annotations

import socket
from typing import Any, Final

_original: Final = {name: getattr(socket, name) for name in ("socket", "getaddrinfo")}


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets."""
    if real("socket") is socket.socket:
        return socket.socketpair()
    import _socket

    first, second = (real("socket")(fileno=end.detach()) for end in _socket.socketpair())
    return first, second


def real(name: str) -> Any:
    """``socket.<name>`` as it was, or what gevent or eventlet has put there: without that the agent's thread would block all others."""
    current = getattr(socket, name)
    cooperative = str(getattr(current, "__module__", "")).startswith(("gevent.", "eventlet."))
    return current if cooperative else _original[name]
