"""Which server a Redis client talks to, found once for each connection pool. Never a password."""

from __future__ import annotations

import weakref
from typing import Any

from stardust_auto.instrumentation.redis.names import CommandNames

_LIMIT = 1024
#: id of a live connection pool -> (weak reference that removes the entry, names).
BY_POOL: dict[int, tuple[Any, CommandNames]] = {}
_shared: dict[str, CommandNames] = {}


def names_of(client: Any) -> CommandNames:
    """The names for the server that ``client`` talks to; found once for each connection pool."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        pool = _cluster_of(client)
    key = id(pool)
    known = BY_POOL.get(key)
    if known is not None:
        return known[1]
    address = address_of(pool)
    names = _shared.get(address)
    if names is None:
        if len(_shared) >= _LIMIT:
            _shared.clear()
        names = _shared[address] = CommandNames(address)
    try:
        reference = weakref.ref(pool, lambda _gone: BY_POOL.pop(key, None))
    except TypeError:  # a pool of somebody's own without weak references: looked at each time
        return names
    BY_POOL[key] = (reference, names)
    return names


def _cluster_of(client: Any) -> Any:
    """What lives as long as a cluster's client: of the asyncio one the client, since its node manager has no weak references."""
    # Of a transaction's strategy the pipeline; of asyncio's pipeline the client, from redis-py 6 on and before.
    for attribute in ("_pipe", "cluster_client", "_client"):
        client = getattr(client, attribute, None) or client
    manager = getattr(client, "nodes_manager", None)
    return client if manager is None or not hasattr(manager, "__weakref__") else manager


def address_of(pool: Any) -> str:
    """``host/db``, ``host:port/db``, the socket's name, the Sentinel's service, a cluster's first node. Never a password."""
    nodes = getattr(pool, "startup_nodes", None) or getattr(getattr(pool, "nodes_manager", None), "startup_nodes", None)
    for node in nodes.values() if isinstance(nodes, dict) else nodes or ():
        return f"{_text(node.host)}:{_text(node.port)}"
    settings = getattr(pool, "connection_kwargs", None)
    if isinstance(settings, dict):
        database = settings.get("db") or 0
        service = getattr(pool, "service_name", None)
        if service is not None:
            return f"{_text(service)}/{database}"
        if settings.get("path"):
            return f"{_text(settings['path']).rpartition('/')[2]}/{database}"
        host, port = _text(settings.get("host") or "localhost"), settings.get("port") or 6379
        return f"{host}/{database}" if str(port) == "6379" else f"{host}:{_text(port)}/{database}"
    return "default"


def _text(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.rpartition("@")[2]
