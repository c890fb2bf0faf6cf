"""A center in memory, for tests: no thread, no network, and the same path through validation, swap and callbacks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.config.remote.verdicts import Verdicts
from stardust_auto.process.clock import wall_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stardust_auto.config.remote.provider import Listener, ProviderState
    from stardust_auto.config.remote.verdicts import Verdict


class MemoryClient:
    """A center that the test publishes in: ``live(Settings, client=MemoryClient({"db:host": "h"}))``.

    Args:
        values: the published map; None for a center that does not answer.
        version: its version.
        scope: its scope.
        app_id: the application, for messages.
    """

    def __init__(
        self, values: Mapping[str, object] | None = None, *, version: int = 1, scope: str = "", app_id: str = "memory"
    ) -> None:
        self.app_id = app_id
        self.last_error = ""
        self.declared: set[str] = set()
        self.verdicts = Verdicts()
        self._listeners: list[Listener] = []
        self._lock = threading.RLock()
        self._running = False
        self._answers = values is not None
        self._cached: RawSnapshot | None = None
        published = {"version": version, "origin": "memory", "time": wall_time()} if self._answers else {}
        self._snapshot = make_snapshot(values or {}, scope=scope, app_id=app_id, **published)

    @property
    def snapshot(self) -> RawSnapshot:
        """The newest published map."""
        return self._snapshot

    @property
    def state(self) -> ProviderState:
        """How current it is."""
        if not self._running:
            return "OFF"
        if self.last_error:
            return "STALE"
        return "VALID" if self._answers else "INITIALIZING"

    def start(self) -> None:
        """Count as started."""
        self._running = True

    def stop(self) -> None:
        """Count as stopped."""
        self._running = False

    def poll(self) -> bool:
        """False: nothing is ever fetched."""
        return False

    def wait_loaded(self, timeout: float) -> bool:  # noqa: ARG002 - the signature of a SnapshotProvider
        return self._answers

    def last_good(self) -> RawSnapshot | None:
        """The copy that ``use_disk_copy`` pretends."""
        return self._cached

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` with each new map."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

    def unsubscribe(self, listener: Listener) -> None:
        """Call ``listener`` no more."""
        with self._lock:
            self._listeners = [entry for entry in self._listeners if entry != listener]

    def declare(self, used: Iterable[str]) -> None:
        """Keep the keys that the program reads in ``declared``."""
        self.declared.update(used)

    def publish(self, values: Mapping[str, object], *, version: int | None = None, scope: str | None = None) -> bool:
        """Publish a whole new map. Return whether every settings class accepts it. Callbacks run on their own thread."""
        before = self._snapshot
        self._answers = True
        self.last_error = ""
        self._snapshot = make_snapshot(
            values,
            version=before.version + 1 if version is None else version,
            scope=before.scope if scope is None else scope,
            origin="memory",
            time=wall_time(),
            app_id=self.app_id,
        ).sharing(before)
        for listener in tuple(self._listeners):
            listener(self._snapshot)
        return self.verdicts.accept(self._snapshot)

    def report(self, owner: object, verdict: Verdict) -> None:
        """Note what ``owner`` made of a map."""
        self.verdicts.report(owner, verdict)

    def forget(self, owner: object) -> None:
        """Drop what ``owner`` reported."""
        self.verdicts.forget(owner)

    def fail(self, error: str = "the server does not answer") -> None:
        """Stop answering, with ``error`` as the last error."""
        self.last_error = error

    def use_disk_copy(self, values: Mapping[str, object], *, version: int = 1) -> None:
        """Pretend that a copy on disk exists. Before the first publish it is the snapshot."""
        self._cached = make_snapshot(values, version=version, origin="disk", time=wall_time(), app_id=self.app_id)
        if not self._answers:
            self._snapshot = self._cached
