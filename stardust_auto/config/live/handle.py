"""``live(Settings)``: one handle through which a program always reads the current, validated settings."""

from __future__ import annotations

import asyncio
import functools
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from pydantic_settings import BaseSettings

from stardust_auto.config.live.loader import Loader
from stardust_auto.config.live.state import ConfigStatus, overridden
from stardust_auto.config.typed.builder import Built, Hidden
from stardust_auto.config.typed.explain import Explanation, explain
from stardust_auto.config.typed.fields import tree_of
from stardust_auto.config.typed.values import path_selector
from stardust_auto.errors import ConfigError
from stardust_auto.process.clock import monotonic, wall_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stardust_auto.config.live.callbacks import Subscription
    from stardust_auto.config.remote.provider import ProviderState, SnapshotProvider
    from stardust_auto.config.typed.settings import OnUnavailable
    from stardust_auto.errors import InvalidSettingsError

T = TypeVar("T", bound=BaseSettings)
V = TypeVar("V")
R = TypeVar("R")
P = ParamSpec("P")


class Live(Generic[T]):
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
        _check_class(settings)
        _check_arguments(settings, init or {})
        self._loader: Loader[T] = Loader(settings, client, on_unavailable, start_timeout, init or {})
        self._pinned: ContextVar[T | None] = ContextVar(f"stardust_pin_{settings.__name__}", default=None)
        self._pin_get = self._pinned.get
        self._overrides: ContextVar[tuple[Mapping[str, Any], ...]] = ContextVar(
            f"stardust_override_{settings.__name__}", default=()
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
        loader = self._loader
        if loader.ready:
            return loader.state.settings  # type: ignore[return-value]  # a ready state has settings
        return loader.load(loader.start_timeout)

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
        self.current  # noqa: B018 - the read that loads
        if scope == "process":
            with self._loader.override(values):
                yield self.current
            return
        accepted = self._loader.state.accepted
        assert accepted is not None  # noqa: S101 - current has loaded it
        combined = (*self._overrides.get(), Hidden(values))
        settings, _ = overridden(accepted, combined)
        tokens = self._pinned.set(settings), self._overrides.set(combined)
        try:
            yield settings
        finally:
            self._pinned.reset(tokens[0])
            self._overrides.reset(tokens[1])

    def explain(self, path: str) -> Explanation:
        """Where the value of a field comes from, and what it hides. ``print`` it; secrets are masked.

        ``path`` is dotted: names or aliases of fields, keys of dicts, numbers of list elements.

        Raises:
            KeyError: there is no such place; the message names the nearest field.
        """
        settings, state = self.current, self._loader.state
        assert state.layers is not None  # noqa: S101 - current has loaded it
        layers, overrides = state.layers, self._overrides.get()
        if overrides:
            layers = overridden(Built(settings, layers), overrides)[1]
        return explain(layers, path, settings, state.pending)

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
        select = path_selector(tree_of(self.settings_class), selector) if isinstance(selector, str) else selector
        if callback is not None:
            return self._loader.callbacks.add(select, callback, self._loader.state.settings)

        def register(function: Callable[[Any, Any], R]) -> Callable[[Any, Any], R]:
            self._loader.callbacks.add(select, function, self._loader.state.settings)
            return function

        return register

    def unsubscribe(self, callback: Callable[..., object]) -> None:
        """End every subscription of ``callback``, also one to refusals."""
        self._loader.callbacks.remove_callback(callback)

    def on_rejected(
        self, callback: Callable[[InvalidSettingsError], object]
    ) -> Callable[[InvalidSettingsError], object]:
        """Call ``callback`` with the error of each refused update. Usable as a decorator; :meth:`unsubscribe` ends it.

        Raises:
            TypeError: the callback does not take one argument.
        """
        self._loader.callbacks.add_rejection(callback)
        return callback

    def bind_loop(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run async callbacks that were registered outside of a loop on ``loop`` (default: the running one)."""
        self._loader.callbacks.loop = loop or asyncio.get_running_loop()

    def wait_callbacks(self, timeout: float | None = None) -> bool:
        """Wait until the callbacks of everything published so far have run, async ones included. Return whether they have.

        An event loop on which async callbacks run must not wait here, and gets an answer at once; there use
        ``await asyncio.to_thread(config.wait_callbacks, 5)``.
        """
        return self._loader.callbacks.drain(timeout)

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, timeout: float | None = None) -> T:
        """Load now instead of at the first read, waiting ``timeout`` seconds for the center. Same errors as :attr:`current`."""
        return self._loader.start(timeout)

    async def start_async(self, timeout: float | None = None) -> T:
        """``start`` without blocking the event loop, which then also runs the async callbacks."""
        self.bind_loop()
        return await asyncio.to_thread(self.start, timeout)

    def wait_ready(self, timeout: float) -> bool:
        """Whether valid values of the center are in use within ``timeout`` seconds. True at once without a center. Never raises."""
        loader, deadline = self._loader, monotonic() + timeout
        try:
            loader.load(timeout)
        except ConfigError:
            return False
        provider = loader.provider
        if provider is None:
            return True
        loaded = provider.wait_loaded(max(0.0, deadline - monotonic()))
        return loaded and loader.state.refusal is None

    def reload(self) -> bool:
        """Read every source again, also the environment. False when the result is refused. After ``close`` the center's values stay."""
        self.current  # noqa: B018 - the first load
        return self._loader.reload()

    def close(self) -> None:
        """Stop following the center. The last settings stay readable; ``start`` follows again."""
        self._loader.close()

    @property
    def status(self) -> ConfigStatus:
        """State, version, scope, origin, age, last error, refused version, pending restarts. Reading it does no I/O."""
        state, provider = self._loader.state, self.client
        raw, refusal, layers = state.raw, state.refusal, state.layers
        if state.accepted is None and provider is not None:
            raw = provider.snapshot
        confirmed = provider.snapshot.time if provider is not None and refusal is None else raw.time
        following: ProviderState = provider.state if provider is not None else "OFF"
        return ConfigStatus(
            state="STALE" if refusal is not None and following == "VALID" else following,
            version=raw.version,
            scope=raw.scope,
            origin="defaults" if raw.origin == "none" else raw.origin,
            age=max(0.0, wall_time() - confirmed) if confirmed else None,
            last_error=provider.last_error if provider is not None else "",
            rejected_version=refusal.version if refusal is not None else None,
            rejection=refusal.error.one_line() if refusal is not None else "",
            pending_restart=state.pending,
            unknown_keys=state.unknown,
            ignored_local=layers.ignored if layers is not None else (),
            collisions=layers.keys.collisions if layers is not None else (),
        )

    @property
    def loaded(self) -> bool:
        """Whether :attr:`current` answers at once."""
        return self._loader.ready and self._loader.state.settings is not None

    @property
    def client(self) -> SnapshotProvider | None:
        """What brings the values: ``None`` before the first read, and without a center."""
        return self._loader.provider or self._loader.given

    @property
    def settings_class(self) -> type[T]:
        """The class of the settings."""
        return self._loader.settings_cls

    def __repr__(self) -> str:
        state = self._loader.state
        return (
            f"Live({self.settings_class.__name__}, {state.raw.label if state.accepted is not None else 'not loaded'})"
        )

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
    init: Mapping[str, Any] | None = None,
) -> Live[T]:
    """A handle on ``settings`` that follows the center. No I/O: the first read of ``.current`` loads.

    Args:
        settings: the settings class.
        client: where values come from. Default: the process's client for the configured server; without a server environment and defaults
            only.
        on_unavailable: what a start without the center may use; outranks ``stardust_on_unavailable`` of the class.
        start_timeout: seconds that the first read waits for the center; outranks ``stardust_start_timeout``.
        init: arguments of the class. They outrank the environment and survive reloads.

    Raises:
        TypeError: ``settings`` is not a settings class, or ``init`` names something that it does not take.
    """
    return Live(settings, client=client, on_unavailable=on_unavailable, start_timeout=start_timeout, init=init)


def _check_class(settings: object) -> None:
    if not (isinstance(settings, type) and issubclass(settings, BaseSettings)):
        given = settings.__name__ if isinstance(settings, type) else f"an object of {type(settings).__name__}"
        raise TypeError(f"live() takes a settings class, such as a subclass of StardustSettings, not {given}")


def _check_arguments(settings: type[BaseSettings], names: Mapping[str, Any]) -> None:
    """Refuse a mistyped argument, which ``extra="ignore"`` would swallow."""
    if not names or settings.model_config.get("extra") == "allow":
        return
    tree = tree_of(settings)
    for name in names:
        if not name.startswith("_") and name.lower() not in tree.names:
            raise TypeError(f"{settings.__name__} takes no argument {name!r}{tree.nearest(name)}")
