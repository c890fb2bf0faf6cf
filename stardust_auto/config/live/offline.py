"""Tests without a center: one map in memory stands in for it, whatever server, application and scope a class names."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stardust_auto.config.live.loader import LOADERS
from stardust_auto.config.remote.clients import CLIENTS
from stardust_auto.config.remote.memory import MemoryClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class OfflineCenter:
    """The map in memory. When :meth:`publish` returns, everything has happened: validation, swap and callbacks, in this thread."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.client = MemoryClient(values, app_id="offline")

    @property
    def values(self) -> dict[str, str]:
        """What is published."""
        return dict(self.client.snapshot.values)

    def publish(self, values: Mapping[str, object]) -> bool:
        """Make ``values`` the whole map. Returns whether every settings class that is in use took it."""
        accepted = self.client.publish(values)
        for loader in list(LOADERS):
            if loader.provider is self.client:
                loader.callbacks.drain()
        return accepted

    def update(self, values: Mapping[str, object]) -> bool:
        """:meth:`publish` what there is, with ``values`` on top."""
        return self.publish({**self.client.snapshot.values, **values})


@contextmanager
def offline(values: Mapping[str, object] | None = None) -> Iterator[OfflineCenter]:
    """Let every ``live`` handle, also one made at import, and every ``Settings()`` read a map in memory within the block.

    No network, no thread, no disk. Handles load again at both ends, and callbacks that were registered within the block end with it.
    Handles that were given a client of their own keep it.
    """
    center = OfflineCenter(values or {})
    before, CLIENTS.in_memory = CLIENTS.in_memory, center.client
    kept = {loader: loader.begin_again() for loader in list(LOADERS) if loader.given is None}
    try:
        yield center
    finally:
        CLIENTS.in_memory = before
        for loader in list(LOADERS):
            if loader.given is None:
                loader.begin_again(kept.get(loader, ()))
