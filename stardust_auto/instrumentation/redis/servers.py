"""Which server a Redis client talks to, found once for each connection pool. Never a password."""

from __future__ import annotations

import functools
from typing import Any

from stardust_auto.instrumentation.kit.weak import PerObject
from stardust_auto.instrumentation.redis.commands import CommandNames

#: One set of names for each address, whatever the number of pools.
_names_at = functools.lru_cache(maxsize=1024)(CommandNames)
#: Connection pool, or what lives as long as a cluster's client -> its names.
BY_POOL: PerObject[CommandNames] = PerObject(lambda pool: _names_at(address_of(pool)))


def names_of(client: Any) -> CommandNames:
    """The names for the server that ``client`` talks to."""
    pool = getattr(client, "connection_pool", None)
    names = BY_POOL.get(id(pool))
    return names if names is not None else BY_POOL.of(_cluster_of(client) if pool is None else pool)


def _cluster_of(client: Any) -> Any:
    """What lives as long as a cluster's client: its node manager, or the client if that has no weak references (asyncio)."""
    # ``_pipe``: a transaction's strategy. ``cluster_client``, ``_client``: asyncio's pipeline, from redis-py 6 on and before.
    for attribute in ("_pipe", "cluster_client", "_client"):
        client = getattr(client, attribute, None) or client
    manager = getattr(client, "nodes_manager", None)
    return client if manager is None or not hasattr(manager, "__weakref__") else manager


def address_of(pool: Any) -> str:
    """``host/db``, ``host:port/db``, the socket's name, the Sentinel's service, or a cluster's first node. Never a password."""
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
