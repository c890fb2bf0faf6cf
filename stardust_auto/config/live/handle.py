"""``live(Settings)``: one handle through which a program always reads the current, validated settings."""

from __future__ import annotations

import asyncio
import functools
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from pydantic_settings import BaseSettings

from stardust_auto.config.live.follower import Follower
from stardust_auto.config.live.paths import path_selector
from stardust_auto.config.live.status import ConfigStatus
from stardust_auto.config.remote.snapshot import EMPTY
from stardust_auto.config.typed.explain import Explanation, explain
from stardust_auto.config.typed.overrides import nearest
from stardust_auto.config.typed.schema import tree_of
from stardust_auto.errors import ConfigUnavailableError, InvalidSettingsError
from stardust_auto.process.clock import monotonic, wall_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stardust_auto.config.live.subscriptions import Subscription
    from stardust_auto.config.remote.provider import SnapshotProvider
    from stardust_auto.config.typed.settings import OnUnavailable

T = TypeVar("T", bound=BaseSettings)
V = TypeVar("V")
R = TypeVar("R")
P = ParamSpec("P")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Live(Follower[T]):
    """A handle on settings that follow the center. Make it with :func:`live`, at import time if you like: it does no I/O until it is read.

    Every read gives one immutable, validated object. A change in the center builds a new one and swaps a reference; an invalid
    change is refused and the last good object stays. Safe from any thread and after a fork.
    """

    def __init__(
        self,
        settings: type[T],
        *,
        client: SnapshotProvider | None = None,
        on_unavailable: OnUnavailable | None = None,
        start_timeout: float | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, client, on_unavailable, start_timeout, init or {})
        self._pinned: ContextVar[T | None] = ContextVar(f"stardust_pin_{settings.__name__}", default=None)
        self._pin_get = self._pinned.get
        self._overridden: ContextVar[Mapping[str, Any]] = ContextVar(
            f"stardust_override_{settings.__name__}", default=_NOTHING
        )

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def current(self) -> T:
        """The settings of this moment: those pinned in this context, else the newest accepted ones.

        The first read contacts the center, for at most ``stardust_start_timeout`` seconds, then does what the policy says.

        Raises:
            InvalidSettingsError: there never was a valid state; all problems are listed.
            ConfigUnavailableError: the policy does not allow a start without the center.
        """
        pinned = self._pin_get()
        if pinned is not None:
            return pinned
        snapshot = self._snapshot
        return snapshot if snapshot is not None else self._first(self._timeout)

    def __call__(self) -> T:
        """The current settings: so that a handle is a FastAPI dependency, ``Depends(config)``."""
        return self.current

    @contextmanager
    def pin(self) -> Iterator[T]:
        """One state for this task, request or thread, whatever is published meanwhile. Nested pins keep the outer state."""
        settings = self.current
        token = self._pinned.set(settings)
        try:
            yield settings
        finally:
            self._pinned.reset(token)

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function`` with the state of now pinned: for thread pools, which do not carry context variables."""
        settings = self.current

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            token = self._pinned.set(settings)
            try:
                return function(*args, **kwargs)
            finally:
                self._pinned.reset(token)

        return bound

    @contextmanager
    def override(self, values: Mapping[str, Any], *, scope: Literal["context", "process"] = "context") -> Iterator[T]:
        """Other values for some fields, by dotted path, validated; for tests. ``context``: this task or thread only.

        Raises:
            InvalidSettingsError: the values do not fit.
            KeyError: there is no such field.
        """
        self.current  # noqa: B018 - the read that builds
        if scope == "process":
            with self._holder.override(values):
                yield self.current
            return
        holder = self._holder
        assert holder.built is not None  # noqa: S101 - current has built it
        combined = {**self._overridden.get(), **values}
        settings = holder.with_overrides(holder.built, combined)
        tokens = self._pinned.set(settings), self._overridden.set(combined)
        try:
            yield settings
        finally:
            self._pinned.reset(tokens[0])
            self._overridden.reset(tokens[1])

    def explain(self, path: str) -> Explanation:
        """Where the value of a field comes from, and what it hides. ``print`` it; secrets are masked.

        Raises:
            KeyError: there is no such field; the message names the nearest one.
        """
        self.current  # noqa: B018 - the read that builds
        tree = tree_of(self._settings_cls)
        node = tree.find(path.split("."))
        if node is None or not path:
            raise KeyError(f"no settings field {path!r}{nearest(tree, path)}")
        assert self._holder.built is not None  # noqa: S101 - current has built it
        return explain(self._holder.built, node, path.split("."), self.current, path in self._holder.pending_restart)

    # -- callbacks --------------------------------------------------------------------------------------------------

    @overload
    def on_change(self, selector: Callable[[T], V]) -> Callable[[Callable[[V, V], R]], Callable[[V, V], R]]: ...
    @overload
    def on_change(self, selector: Callable[[T], V], callback: Callable[[V, V], object]) -> Subscription[T]: ...
    @overload
    def on_change(self, selector: str) -> Callable[[Callable[[Any, Any], R]], Callable[[Any, Any], R]]: ...
    @overload
    def on_change(self, selector: str, callback: Callable[[Any, Any], object]) -> Subscription[T]: ...
    def on_change(self, selector: Any, callback: Any = None) -> Any:
        """Call back with the old and the new selected value after each change of it: ``@config.on_change(lambda s: s.database.pool)``.

        Plain or async functions. They run after the swap, in order, off the thread that fetches; a failing one is logged, and changes
        during a slow one arrive as one (first old, last new). A value that the environment overrides does not change. With ``callback``
        given the result is a subscription; bound methods are then held weakly.

        For dicts whose keys only the center knows the selector may be a dotted path: ``"labels.color"`` gives that value (``None`` without
        one); ``"labels.*"`` gives two dicts, path to value, of all that changed below, what is new or gone in one of them only.

        Raises:
            TypeError: the callback does not take two arguments.
            KeyError: there is no such path.
        """
        select = path_selector(tree_of(self._settings_cls), selector) if isinstance(selector, str) else selector
        if callback is not None:
            return self._subscriptions.add(select, callback, self._snapshot)

        def register(function: Callable[[Any, Any], R]) -> Callable[[Any, Any], R]:
            self._subscriptions.add(select, function, self._snapshot)
            return function

        return register

    def unsubscribe(self, callback: Callable[..., object]) -> None:
        """End every subscription of ``callback``."""
        self._subscriptions.remove_callback(callback)

    def on_rejected(
        self, callback: Callable[[InvalidSettingsError], object]
    ) -> Callable[[InvalidSettingsError], object]:
        """Call ``callback`` with the error of each refused update. Usable as a decorator."""
        self._rejections = (*self._rejections, callback)
        return callback

    def bind_loop(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run async callbacks that were registered outside of a loop on ``loop`` (default: the running one)."""
        self._subscriptions.loop = loop or asyncio.get_running_loop()

    def wait_callbacks(self, timeout: float | None = None) -> bool:
        """Wait until the callbacks of everything published so far have run."""
        return self._dispatcher.drain(timeout)

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, timeout: float | None = None) -> T:
        """Load now instead of at the first read, waiting ``timeout`` seconds for the center. Same errors as :attr:`current`."""
        snapshot, closed = self._snapshot, self._closed
        if snapshot is not None and not closed:
            return snapshot
        self._closed = False
        return self._first(self._timeout if timeout is None else timeout, again=closed)

    async def start_async(self, timeout: float | None = None) -> T:
        """``start`` without blocking the event loop, which then also runs the async callbacks."""
        self.bind_loop()
        return await asyncio.to_thread(self.start, timeout)

    def wait_ready(self, timeout: float) -> bool:
        """Whether valid values of the center are in use within ``timeout`` seconds. True at once without a center. Never raises."""
        deadline = monotonic() + timeout
        try:
            self._first(timeout)
        except (InvalidSettingsError, ConfigUnavailableError):
            return False
        feed = self._feed
        if feed is None:
            return True
        loaded = feed.wait_loaded(max(0.0, deadline - monotonic()))
        return loaded and self._holder.rejected is None

    def reload(self) -> bool:
        """Build again from every source as it is now, also the environment. False when the result is refused."""
        self.current  # noqa: B018 - the first build
        return self._judge(self._feed.snapshot if self._feed is not None else EMPTY, force=True)

    @property
    def status(self) -> ConfigStatus:
        """State, version, scope, origin, age, last error, refused version, pending restarts. Reading it does no I/O."""
        holder, feed = self._holder, self._feed or self._given
        built = holder.built
        raw = built.raw if built is not None else feed.snapshot if feed is not None else EMPTY
        time_of = feed.snapshot.time if feed is not None and holder.rejected is None else raw.time
        return ConfigStatus(
            state=feed.state if feed is not None else "OFF",
            version=raw.version,
            scope=raw.scope,
            origin="defaults" if raw.origin == "none" else raw.origin,
            age=max(0.0, wall_time() - time_of) if time_of else None,
            last_error=feed.last_error if feed is not None else "",
            rejected_version=holder.rejected[0] if holder.rejected else None,
            rejection=holder.rejection.one_line() if holder.rejection else "",
            pending_restart=holder.pending_restart,
            unknown_keys=holder.unknown,
            ignored_local=tuple(built.source.ignored) if built is not None else (),
            collisions=built.source.keys.collisions if built is not None else (),
        )

    @property
    def loaded(self) -> bool:
        """Whether :attr:`current` answers at once."""
        return self._snapshot is not None

    @property
    def client(self) -> SnapshotProvider | None:
        """What brings the values: ``None`` before the first read, and without a center."""
        return self._feed or self._given

    @property
    def settings_class(self) -> type[T]:
        return self._settings_cls

    def __repr__(self) -> str:
        built = self._holder.built
        return f"Live({self._settings_cls.__name__}, {built.raw.label if built is not None else 'not loaded'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Live handle belongs to its process and cannot be pickled or copied: pass config.current instead"
        )


def live(
    settings: type[T],
    /,
    *,
    client: SnapshotProvider | None = None,
    on_unavailable: OnUnavailable | None = None,
    start_timeout: float | None = None,
    **init: Any,
) -> Live[T]:
    """A handle on ``settings`` that follows the center. No I/O: the first read of ``.current`` loads.

    ``client``: where values come from (default: the process's client for the configured server; none means environment and defaults
    only). ``start_timeout`` in seconds. ``init`` are arguments of the class; they outrank the environment and survive reloads.
    """
    return Live(settings, client=client, on_unavailable=on_unavailable, start_timeout=start_timeout, init=init)
