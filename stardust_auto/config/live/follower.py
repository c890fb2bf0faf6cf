"""The life of a handle: it follows a feed, has its first state from wherever the policy allows, and tells what changes."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_settings import BaseSettings

from stardust_auto.config.live.holder import SnapshotHolder
from stardust_auto.config.live.subscriptions import Subscription, Subscriptions
from stardust_auto.config.remote.clients import CLIENTS, START_TIMEOUT_SECONDS
from stardust_auto.config.remote.provider import usable_at_start
from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.config.typed.schema import tree_of
from stardust_auto.errors import InvalidSettingsError
from stardust_auto.process.clock import monotonic
from stardust_auto.process.dispatch import Dispatcher
from stardust_auto.process.fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stardust_auto.config.remote.provider import SnapshotProvider

T = TypeVar("T", bound=BaseSettings)
#: Every handle of this process, for tests that want them all to begin anew.
handles: weakref.WeakSet[Follower[Any]] = weakref.WeakSet()


class Follower(Generic[T]):
    """Everything of a live handle that is not its public face (``handle.py``)."""

    def __init__(
        self,
        settings: type[T],
        client: SnapshotProvider | None,
        on_unavailable: str | None,
        start_timeout: float | None,
        init: Mapping[str, Any],
    ) -> None:
        config = settings.model_config
        self._settings_cls = settings
        self._given = client
        self._feed: SnapshotProvider | None = None
        self._policy = str(on_unavailable or config.get("stardust_on_unavailable") or "cache-then-defaults")
        chosen = config.get("stardust_start_timeout", START_TIMEOUT_SECONDS) if start_timeout is None else start_timeout
        self._timeout = float(chosen)  # type: ignore[arg-type]  # our own option, a number
        self._snapshot: T | None = None  # None also after a fork: the next read starts the child's own updates
        self._holder: SnapshotHolder[T] = SnapshotHolder(settings, init, self._published)
        self._subscriptions: Subscriptions[T] = Subscriptions()
        self._dispatcher = Dispatcher("stardust-settings-callbacks")
        self._rejections: tuple[Callable[[InvalidSettingsError], object], ...] = ()
        self._deadline: float | None = None
        self._closed = False
        self._reset()
        after_fork_in_child(self._reset_in_child)
        handles.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()

    def _reset_in_child(self) -> None:
        self._reset()
        self._holder.reset_lock()
        if not self._closed:
            self._snapshot = None
        self._deadline = None

    @property
    def follows_the_process(self) -> bool:
        """Whether values come from the process's own client, not from one that was passed."""
        return self._given is None

    def close(self) -> None:
        """Stop following the center. The last settings stay readable; ``start`` follows again."""
        with self._lock:
            feed, self._feed = self._feed, None
            self._snapshot = self._holder.settings
            self._closed = True
            self._deadline = None
        if feed is not None:
            feed.forget(self._holder)
            feed.unsubscribe(self._on_snapshot)
            if self._given is None:
                CLIENTS.release(feed)

    def start_over(self, kept: tuple[Subscription[T], ...] | None = None) -> tuple[Subscription[T], ...]:
        """Forget every state, so that the next read loads anew. With ``kept`` only those callbacks stay; returns those there were."""
        self.close()
        with self._lock:
            self._holder = self._holder.empty()
            self._snapshot = None
            self._closed = self._dispatcher.by_hand = False
            return self._subscriptions.start_over(kept)

    def finish_callbacks(self, feed: SnapshotProvider) -> None:
        """Run what ``feed`` has caused, where no thread does it."""
        if self._feed is feed:
            self._dispatcher.drain()

    def _first(self, timeout: float, *, again: bool = False) -> T:
        self._holder.parse_command_line()
        feed = self._follow()
        if self._deadline is None:
            self._deadline = monotonic() + timeout
        by_hand = feed is not None and feed.poll()
        if feed is not None and (again or self._holder.settings is None):
            feed.wait_loaded(max(0.0, self._deadline - monotonic()))
        with self._holder.lock:
            settings = self._holder.settings
            if settings is None:
                settings = self._start_from(feed)
            elif feed is not None and feed.snapshot.origin != "none":
                self._judge(feed.snapshot)
                settings = self._holder.settings or settings
            self._snapshot = (
                None if by_hand else settings
            )  # without threads, each read looks whether it is time to fetch
            return settings

    def _follow(self) -> SnapshotProvider | None:
        """Subscribe and start the feed, once; in a forked child, its own."""
        with self._lock:
            if self._feed is None:
                self._feed = self._given
                if self._feed is None:
                    self._feed = CLIENTS.of_class(self._settings_cls.model_config)
                    if self._feed is not None:
                        CLIENTS.acquire(self._feed)
                self._dispatcher.by_hand = self._feed is not None and self._feed is CLIENTS.in_memory
                if self._feed is not None:
                    self._feed.declare(node.remote_key for node in tree_of(self._settings_cls).leaves())
                    self._holder.provider = self._feed
                    self._feed.subscribe(self._on_snapshot)
            feed = self._feed
        if feed is not None:
            feed.start()
        return feed

    def _start_from(self, feed: SnapshotProvider | None) -> T:
        """The first state: what the center says, else what the policy allows."""
        if feed is None:
            return self._attempt([EMPTY], "no Stardust server is configured: STARDUST_SERVER")
        raw = usable_at_start(feed, self._policy)
        candidates, note = [raw], ""
        if raw.origin not in ("none", "disk"):
            copy = feed.last_good() if self._policy != "fail" else None
            candidates += [copy] if copy is not None else []
        else:
            note = f"Stardust did not answer: {feed.last_error or 'no answer in time'}"
            if raw.origin == "disk":
                copy = feed.last_good()
                candidates += [copy] if copy is not None else []
                candidates += [EMPTY] if self._policy == "cache-then-defaults" else []
        return self._attempt(candidates, note)

    def _attempt(self, candidates: list[RawSnapshot], note: str) -> T:
        failure: InvalidSettingsError | None = None
        for raw in candidates:
            try:
                settings = self._holder.accept_first(raw)
            except InvalidSettingsError as error:
                if len(candidates) > 1:
                    self._holder.refuse(raw, error)
                if failure is None or raw.origin == "none":
                    failure = InvalidSettingsError(error.title, error.problems, note)
            else:
                if failure is not None:  # an older state is in use: the refusal stays on show
                    self._holder.rejection = failure
                    self._holder.rejected = (candidates[0].version, candidates[0].content_hash)
                return settings
        assert failure is not None  # noqa: S101 - there is at least one candidate
        raise failure

    def _on_snapshot(self, raw: RawSnapshot) -> None:
        self._judge(raw)

    def _judge(self, raw: RawSnapshot, force: bool = False) -> bool:
        holder = self._holder
        with holder.lock:
            if holder.settings is None:
                try:
                    holder.accept_first(raw)
                except Exception:  # noqa: BLE001 - whatever it is, the thread that waits for the first state runs into it too
                    return False
                return True
            before = holder.rejection
            accepted = holder.offer(raw, force)
            rejection = holder.rejection
        if rejection is not None and rejection is not before:
            for callback in self._rejections:
                self._dispatcher.submit(callback, rejection)
        return accepted

    def _published(self, settings: T) -> None:
        first = self._snapshot is None
        self._snapshot = settings
        if first:
            self._subscriptions.first(settings)
        if self._subscriptions.stale(settings):
            self._dispatcher.submit(self._deliver)

    def _deliver(self) -> None:
        try:
            self._subscriptions.deliver(lambda: self._holder.settings)
        except BaseException:  # such as KeyboardInterrupt in a callback: the others still get theirs
            self._dispatcher.submit(self._deliver)
            raise
