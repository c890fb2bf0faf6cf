"""The seam between this room and the rooms above it: what brings raw snapshots, and what is told about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol

from stardust_auto.errors import ConfigUnavailableError

if TYPE_CHECKING:
    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.config.remote.verdicts import Verdict

ProviderState = Literal["INITIALIZING", "VALID", "STALE", "INTERRUPTED", "OFF"]

Listener = Callable[["RawSnapshot"], None]
"""Called with each new snapshot, on the thread that fetched it. It judges the snapshot and reports a verdict."""


class SnapshotProvider(Protocol):
    """A source of raw snapshots: the client of a center, or the one in memory. Any thread may call any method."""

    @property
    def snapshot(self) -> RawSnapshot:
        """The newest whole state of the center; origin ``none`` before the first one."""
        ...

    @property
    def state(self) -> ProviderState:
        """How current :attr:`snapshot` is."""
        ...

    @property
    def last_error(self) -> str:
        """Why the last request failed; empty after a success."""
        ...

    def start(self) -> None:
        """Fetch in the background. Return at once; start the child's own work after a fork."""
        ...

    def stop(self) -> None:
        """Stop fetching. The snapshot stays readable."""
        ...

    def poll(self) -> bool:
        """Fetch now if it is time and no background thread is to be had. Return False where a thread does it."""
        ...

    def wait_loaded(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the first answer. Return whether there is one."""
        ...

    def last_good(self) -> RawSnapshot | None:
        """The last set that every class accepted, if it differs from :attr:`snapshot`."""
        ...

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` with each new snapshot."""
        ...

    def unsubscribe(self, listener: Listener) -> None:
        """Call ``listener`` no more."""
        ...

    def declare(self, used: Iterable[str]) -> None:
        """Add keys that the program reads to the center's list of used keys."""
        ...

    def report(self, owner: object, verdict: Verdict) -> None:
        """Note what ``owner`` made of a snapshot. ``owner`` is held weakly."""
        ...

    def forget(self, owner: object) -> None:
        """Drop what ``owner`` reported: it no longer uses any snapshot."""
        ...


def usable_at_start(provider: SnapshotProvider, policy: str) -> RawSnapshot:
    """The provider's snapshot, if ``policy`` allows a start with it.

    Args:
        provider: where the snapshot comes from.
        policy: ``cache-then-defaults``, ``cache`` or ``fail``.

    Raises:
        ConfigUnavailableError: the center did not answer and the policy forbids what is left.
    """
    raw = provider.snapshot
    if raw.origin not in ("none", "disk"):
        return raw
    if policy == "fail" or (policy == "cache" and raw.origin == "none"):
        copy = "" if policy == "fail" else ", and there is no copy on disk"
        raise ConfigUnavailableError(
            f"no configuration from Stardust for {raw.label}: {provider.last_error or 'no answer in time'}{copy}"
        )
    return raw
