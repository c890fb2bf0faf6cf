"""Typed callbacks: what each one selects, the last state that it has seen, and delivery in order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import types
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from stardust_auto.config.typed.values import PathPattern, same
from stardust_auto.log import get_logger
from stardust_auto.process.clock import monotonic
from stardust_auto.process.dispatch import Dispatcher, log_failure, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stardust_auto.errors import InvalidSettingsError

logger = get_logger(__name__)

T = TypeVar("T")
#: How often a thread that waits for an async callback looks whether the loop still runs.
_LOOP_CHECK_SECONDS: Final = 0.1
#: How long a loop may stand still before the callbacks behind an async one go on without it.
_STOPPED_LOOP_SECONDS: Final = 1.0


def _check_arguments(callback: Callable[..., object], count: int, what: str) -> None:
    try:
        inspect.signature(callback).bind(*[None] * count)
    except TypeError:
        raise TypeError(f"{name_of(callback)} must take {what}") from None
    except ValueError:
        pass  # a builtin without a signature


class Subscription(Generic[T]):
    """One callback. A bound method is held weakly: it ends with its object. ``unsubscribe`` may be called at any time, more than once."""

    def __init__(
        self, owner: Callbacks[T], selector: Callable[[T], Any], callback: Callable[[Any, Any], object]
    ) -> None:
        _check_arguments(callback, 2, "two arguments, the old and the new value")
        self._owner = owner
        self.selector = selector
        self.seen: T | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.asynchronous = inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
            getattr(callback, "__call__", None)  # noqa: B004 - the method itself is wanted
        )
        if self.asynchronous:
            self.loop = running_loop()
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
        """End the subscription."""
        self._owner.remove(self)

    def deliver(self, new: T, default_loop: asyncio.AbstractEventLoop | None) -> None:
        """Call with the selected values of the last state delivered and of ``new``, if they differ. Return when the callback is done."""
        old, self.seen = self.seen, new
        callback = self.callback
        if callback is None or old is None:
            return
        before, after = self._select(old), self._select(new)
        if same(before, after):
            return
        if isinstance(self.selector, PathPattern):
            before, after = self.selector.changes(before, after)
        loop = self.loop or default_loop
        if self.asynchronous and loop is not None and loop.is_closed():
            logger.warning("callback %s dropped: its event loop is closed", name_of(callback))
            self.unsubscribe()
            return
        try:
            result = callback(before, after)
            if inspect.isawaitable(result):
                _wait_for(result, loop if self.asynchronous else None, callback)
        except Exception as error:  # noqa: BLE001 - the caller's code may fail in any way, the next callback still runs
            log_failure(callback, error)

    def _select(self, settings: T) -> Any:
        """The selected value. ``None`` where the selector fails, as ``lambda s: s.db.host`` does while ``db`` is ``None``."""
        try:
            return self.selector(settings)
        except Exception as error:  # noqa: BLE001 - the selector is the caller's code
            logger.debug("selector %s has no value: %s", name_of(self.selector), type(error).__name__)
            return None


class Callbacks(Generic[T]):
    """The callbacks of one handle. They run on a thread of their own, one after the other, in order of registration.

    Copy on write: a callback may add and remove callbacks. An async callback runs on its loop, and the next one waits for its end.
    """

    def __init__(self) -> None:
        self.entries: tuple[Subscription[T], ...] = ()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._rejections: tuple[Callable[[InvalidSettingsError], object], ...] = ()
        self._dispatcher = Dispatcher("stardust-settings-callbacks")
        self._settings: T | None = None

    def add(
        self, selector: Callable[[T], Any], callback: Callable[[Any, Any], object], seen: T | None
    ) -> Subscription[T]:
        """Call ``callback`` from the state after ``seen`` on."""
        entry = Subscription(self, selector, callback)
        entry.seen = seen
        self.entries = (*self.entries, entry)
        return entry

    def add_rejection(self, callback: Callable[[InvalidSettingsError], object]) -> None:
        """Call ``callback`` with the error of each refused state."""
        _check_arguments(callback, 1, "one argument, the error")
        self._rejections = (*self._rejections, callback)

    def remove(self, entry: Subscription[T]) -> None:
        """End one subscription."""
        self.entries = tuple(other for other in self.entries if other is not entry)

    def remove_callback(self, callback: object) -> None:
        """End every subscription of ``callback``, those to refusals included."""
        self.entries = tuple(entry for entry in self.entries if entry.callback != callback)
        self._rejections = tuple(entry for entry in self._rejections if entry != callback)

    def begin_again(
        self, kept: tuple[Subscription[T], ...] | None, *, threadless: bool = False
    ) -> tuple[Subscription[T], ...]:
        """Forget what each callback has seen. With ``kept`` only those stay. Return those there were."""
        before = self.entries
        self.entries = before if kept is None else kept
        for entry in self.entries:
            entry.seen = None
        self._settings = None
        self.without_thread(threadless)
        return before

    def without_thread(self, threadless: bool) -> None:
        """Whether callbacks run in :meth:`drain` instead of on a thread."""
        self._dispatcher.by_hand = threadless

    def changed(self, settings: T, *, first: bool) -> None:
        """``settings`` is in use now. The first state is where every callback starts from, not a change."""
        self._settings = settings
        if first:
            for entry in self.entries:
                if entry.seen is None:
                    entry.seen = settings
        if any(entry.seen is not settings for entry in self.entries):
            self._dispatcher.submit(self._deliver)

    def rejected(self, error: InvalidSettingsError) -> None:
        """A state was refused."""
        for callback in self._rejections:
            self._dispatcher.submit(callback, error)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the callbacks of everything so far have run, at most ``timeout`` seconds. Return whether they have.

        On an event loop that one of the callbacks needs this returns at once: waiting would keep it from running.
        """
        loop = running_loop()
        if loop is not None and any((entry.loop or self.loop) is loop for entry in self.entries if entry.asynchronous):
            timeout = 0.0
        return self._dispatcher.drain(timeout)

    def _deliver(self) -> None:
        """Bring every callback to the current state. Changes that come meanwhile are coalesced: first old, last new."""
        try:
            while True:
                settings = self._settings
                entry = next((entry for entry in self.entries if entry.seen is not settings), None)
                if settings is None or entry is None:
                    return
                entry.deliver(settings, self.loop)
        except BaseException:  # such as KeyboardInterrupt in a callback: the others still get theirs
            self._dispatcher.submit(self._deliver)
            raise


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wait_for(
    result: Awaitable[object], loop: asyncio.AbstractEventLoop | None, callback: Callable[..., object]
) -> None:
    """Run an async callback on ``loop`` and wait for its end; without a loop on one of its own."""

    async def run() -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001 - the caller's code
            log_failure(callback, error)

    here = running_loop()
    if here is not None:  # without a thread for callbacks: the loop of this thread cannot be waited for
        _background.add(task := here.create_task(run()))
        task.add_done_callback(_background.discard)
        return
    waiter = run()
    if loop is None:
        asyncio.run(waiter)
        return
    try:
        future = asyncio.run_coroutine_threadsafe(waiter, loop)
    except RuntimeError:
        waiter.close()
        if inspect.iscoroutine(result):
            result.close()
        logger.warning("callback %s dropped: its event loop is closed", name_of(callback))
        return
    _watch(future, loop, callback)


def _watch(
    future: concurrent.futures.Future[None], loop: asyncio.AbstractEventLoop, callback: Callable[..., object]
) -> None:
    stopped_at: float | None = None
    while True:
        done, _ = concurrent.futures.wait([future], _LOOP_CHECK_SECONDS)
        if done:
            if future.cancelled():
                logger.warning("callback %s was cancelled", name_of(callback))
            return
        if loop.is_closed():
            logger.warning("callback %s dropped: its event loop is closed", name_of(callback))
            return
        if loop.is_running():
            stopped_at = None
        elif stopped_at is None:
            stopped_at = monotonic()
        elif monotonic() - stopped_at > _STOPPED_LOOP_SECONDS:
            return


#: Tasks that nobody awaits: asyncio itself holds them weakly.
_background: set[asyncio.Task[None]] = set()
