"""Ports for servers that come up later, or again."""

from __future__ import annotations

import socket
import sys

_held: list[socket.socket] = []


def reserved_port() -> int:
    """A port of the loopback address that connections are refused at, and that only a server told to use it can take.

    The socket that holds it never listens, so a server with ``SO_REUSEADDR`` can bind the port beside it, again and again,
    while the system gives it to nobody else: neither to a connection nor to a test that asks for any port.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform == "linux":
        _held.append(holder)
    else:
        holder.close()  # elsewhere a bound port is taken, whatever the options
    return port


def free_port() -> int:
    """A port for a server that comes up now, and looks itself whether it is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
