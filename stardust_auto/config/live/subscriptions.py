"""Typed callbacks: who wants to know what, what each has seen, and delivery in order."""

from __future__ import annotations

import asyncio
import inspect
import types
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stardust_auto.config.live.paths import PathPattern
from stardust_auto.config.typed.diff import same
from stardust_auto.log import get_logger
from stardust_auto.process.dispatch import call_isolated, log_failure, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)

T = TypeVar("T")


class Subscription(Generic[T]):
    """One callback. A bound method is held weakly: it ends with its object. ``unsubscribe`` may be called at any time, more than once."""

    def __init__(
        self, owner: Subscriptions[T], selector: Callable[[T], Any], callback: Callable[[Any, Any], object]
    ) -> None:
        try:
            inspect.signature(callback).bind(None, None)
        except TypeError:
            raise TypeError(f"{name_of(callback)} must take two arguments, the old and the new value") from None
        except ValueError:
            pass  # a builtin without a signature
        self._owner = owner
        self.selector = selector
        self.seen: T | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.asynchronous = inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
            getattr(callback, "__call__", None)  # noqa: B004 - the method itself is wanted
        )
        if self.asynchronous:
            try:
                self.loop = asyncio.get_running_loop()
            except RuntimeError:
                self.loop = None
        self._strong: Callable[[Any, Any], object] | None = None
        self._weak: weakref.WeakMethod[Any] | None = None
        if isinstance(callback, types.MethodType):
            self._weak = weakref.WeakMethod(callback, self._ended)
        else:
            self._strong = callback

    def _ended(self, _: object) -> None:
        self.unsubscribe()

    @property
    def callback(self) -> Callable[[Any, Any], object] | None:
        """The function, or ``None`` when its object is gone."""
        found: Callable[[Any, Any], object] | None = self._weak() if self._weak is not None else self._strong
        return found

    def unsubscribe(self) -> None:
        self._owner.remove(self)

    def deliver(self, new: T, default_loop: asyncio.AbstractEventLoop | None) -> None:
        """Call with the selected values of the last state delivered and of ``new``, if they differ."""
        old, self.seen = self.seen, new
        callback = self.callback
        if callback is None or old is None:
            return
        try:
            before, after = self.selector(old), self.selector(new)
        except Exception as error:  # noqa: BLE001 - the selector is the caller's code
            log_failure(self.selector, error)
            return
        if same(before, after):
            return
        if isinstance(self.selector, PathPattern):
            before, after = self.selector.changes(before, after)
        loop = self.loop or default_loop
        if self.asynchronous and loop is not None and loop.is_closed():
            logger.warning("callback %s dropped: its event loop is closed", name_of(callback))
            self.unsubscribe()
            return
        call_isolated(callback, before, after, loop=loop if self.asynchronous else None)


class Subscriptions(Generic[T]):
    """The callbacks of one handle. Copy on write: a callback may add and remove callbacks."""

    def __init__(self) -> None:
        self._entries: tuple[Subscription[T], ...] = ()
        self.loop: asyncio.AbstractEventLoop | None = None

    def add(
        self, selector: Callable[[T], Any], callback: Callable[[Any, Any], object], seen: T | None
    ) -> Subscription[T]:
        entry = Subscription(self, selector, callback)
        entry.seen = seen
        self._entries = (*self._entries, entry)
        return entry

    def remove(self, entry: Subscription[T]) -> None:
        self._entries = tuple(other for other in self._entries if other is not entry)

    def remove_callback(self, callback: object) -> None:
        self._entries = tuple(entry for entry in self._entries if entry.callback != callback)

    def first(self, settings: T) -> None:
        """The first state: where everybody starts from, no change."""
        for entry in self._entries:
            if entry.seen is None:
                entry.seen = settings

    def start_over(self, entries: tuple[Subscription[T], ...] | None = None) -> tuple[Subscription[T], ...]:
        """Nobody has seen anything yet. With ``entries`` only these are left; returns those there were."""
        before = self._entries
        self._entries = before if entries is None else entries
        for entry in self._entries:
            entry.seen = None
        return before

    def stale(self, settings: T) -> bool:
        return any(entry.seen is not settings for entry in self._entries)

    def deliver(self, current: Callable[[], T | None]) -> None:
        """Bring everybody to the current state, in order of registration. What happens meanwhile is coalesced: first old, last new."""
        while True:
            settings = current()
            entry = next((entry for entry in self._entries if entry.seen is not settings), None)
            if settings is None or entry is None:
                return
            entry.deliver(settings, self.loop)
