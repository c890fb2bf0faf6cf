"""What a live handle needs from the thing that brings raw snapshots: the client of a center, or the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from stardust_auto.config.remote.snapshot import RawSnapshot

FeedState = Literal["INITIALIZING", "VALID", "STALE", "INTERRUPTED", "OFF"]

Listener = Callable[[RawSnapshot], bool]
"""Called with each new snapshot, on the thread that fetched it. Returns whether it is fit for use: only then may it be kept on disk."""


class Feed(Protocol):
    """A source of raw snapshots. All methods may be called from any thread."""

    @property
    def snapshot(self) -> RawSnapshot: ...

    @property
    def state(self) -> FeedState: ...

    @property
    def last_error(self) -> str: ...

    # Begin to fetch in the background. Never blocks; doing it again does nothing, after a fork it begins anew.
    def start(self) -> None: ...

    def stop(self) -> None: ...

    # Where no background thread can be had: fetch now if it is time. False where a thread does it.
    def poll(self) -> bool: ...

    # Wait for the first answer of the center, at most ``timeout`` seconds. False without one.
    def wait_loaded(self, timeout: float) -> bool: ...

    # The copy on disk, if there is one that differs from the snapshot.
    def last_good(self) -> RawSnapshot | None: ...

    def subscribe(self, listener: Listener) -> None: ...

    def unsubscribe(self, listener: Listener) -> None: ...

    # The keys that a program reads, for the center's lists of used and missed keys.
    def declare(self, used: Iterable[str]) -> None: ...
