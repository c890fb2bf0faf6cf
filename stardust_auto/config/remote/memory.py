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
    """``live(Settings, client=MemoryClient({"db:host": "h"}))``; :meth:`publish` then is what a publish in the center is."""

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
        self._snapshot = make_snapshot(
            values or {}, version=version if self._answers else 0, scope=scope, origin="memory" if self._answers else "none",
            time=wall_time() if self._answers else 0.0, app_id=app_id,
        )  # fmt: skip

    @property
    def snapshot(self) -> RawSnapshot:
        return self._snapshot

    @property
    def state(self) -> ProviderState:
        if not self._running:
            return "OFF"
        if self.last_error:
            return "STALE"
        return "VALID" if self._answers else "INITIALIZING"

    def start(self) -> None:
        self._running = True

    def stop(self) -> None:
        self._running = False

    def poll(self) -> bool:
        return False

    def wait_loaded(self, timeout: float) -> bool:  # noqa: ARG002 - the signature of a SnapshotProvider
        return self._answers

    def last_good(self) -> RawSnapshot | None:
        return self._cached

    def subscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [*self._listeners, listener]

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [entry for entry in self._listeners if entry != listener]

    def declare(self, used: Iterable[str]) -> None:
        self.declared.update(used)

    def publish(self, values: Mapping[str, object], *, version: int | None = None, scope: str | None = None) -> bool:
        """Publish a whole new map. Returns whether every settings class took it; callbacks run on their own thread."""
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
        self.verdicts.report(owner, verdict)

    def forget(self, owner: object) -> None:
        self.verdicts.forget(owner)

    def fail(self, error: str = "the server does not answer") -> None:
        """From now on the center does not answer."""
        self.last_error = error

    def use_disk_copy(self, values: Mapping[str, object], *, version: int = 1) -> None:
        """Pretend that a copy on disk exists; before the first publish it is also what the handle finds."""
        self._cached = make_snapshot(values, version=version, origin="disk", time=wall_time(), app_id=self.app_id)
        if not self._answers:
            self._snapshot = self._cached
