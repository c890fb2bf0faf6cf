"""From snapshots to one state: the loader follows a provider, judges what it brings and replaces the state by one assignment."""

from __future__ import annotations

import logging
import threading
import weakref
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic_settings import BaseSettings

from stardust_auto.config.live.callbacks import Callbacks
from stardust_auto.config.live.state import Recipe, RecursiveReadError, Refusal, State, judge, overridden
from stardust_auto.config.remote.clients import CLIENTS, START_TIMEOUT_SECONDS
from stardust_auto.config.remote.provider import usable_at_start
from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.config.remote.verdicts import Verdict
from stardust_auto.config.typed.builder import Hidden, parse_command_line
from stardust_auto.config.typed.fields import tree_of
from stardust_auto.config.typed.values import changed_names
from stardust_auto.errors import InvalidSettingsError
from stardust_auto.log import get_logger, tell
from stardust_auto.process import fork
from stardust_auto.process.clock import monotonic, perf_counter_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stardust_auto.config.live.callbacks import Subscription
    from stardust_auto.config.remote.provider import SnapshotProvider

logger = get_logger(__name__)

T = TypeVar("T", bound=BaseSettings)
#: Every loader of this process, for tests that want them all to begin again.
LOADERS: Final[weakref.WeakSet[Loader[Any]]] = weakref.WeakSet()
_MOST_NAMES: Final = 5


class Loader(Generic[T]):
    """Owns the state of one handle.

    Attributes:
        state: the current state.
        ready: whether a read may take ``state`` as it is. False before the first load, after a fork (the next read starts the child's own
            updates), and where no thread can be had, so that each read looks whether it is time to fetch.
        provider: what brings the snapshots; ``None`` before the first read, after :meth:`close`, and without a center.
    """

    def __init__(
        self,
        settings_cls: type[T],
        provider: SnapshotProvider | None,
        policy: str | None,
        start_timeout: float | None,
        arguments: Mapping[str, Any],
    ) -> None:
        config = settings_cls.model_config
        self.settings_cls = settings_cls
        self.given = provider
        self.provider: SnapshotProvider | None = None
        self.state: State[T] = State()
        self.ready = False
        self.callbacks: Callbacks[T] = Callbacks()
        self._recipe: Recipe[T] = Recipe(settings_cls, Hidden(arguments))
        self._command_line_parsed = False
        self._policy = str(policy or config.get("stardust_on_unavailable") or "cache-then-defaults")
        chosen = config.get("stardust_start_timeout", START_TIMEOUT_SECONDS) if start_timeout is None else start_timeout
        self.start_timeout = float(chosen)  # type: ignore[arg-type]  # our own option, a number
        self._deadline: float | None = None
        self.closed = False
        self._logged: set[str] = set()
        self._make_locks()
        fork.register(self)
        LOADERS.add(self)

    def _make_locks(self) -> None:
        self._lock = threading.RLock()  # which provider is followed
        self._judging = threading.RLock()  # one judgement at a time; it may take long
        self._judges = False

    def reset_after_fork(self) -> None:
        self._make_locks()
        self._deadline = None
        if not self.closed:
            self.ready = False

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, timeout: float | None) -> T:
        """Load now, unless it has happened; follow the center again after :meth:`close`."""
        settings, closed = self.state.settings, self.closed
        if self.ready and settings is not None and not closed:
            return settings
        self.closed = False
        return self.load(self.start_timeout if timeout is None else timeout, fresh=closed)

    def load(self, timeout: float, *, fresh: bool = False) -> T:
        """The first state, or the state after whatever the provider has by now. ``fresh`` waits for an answer in any case.

        Raises:
            InvalidSettingsError: there is no valid state.
            ConfigUnavailableError: the policy does not allow a start without the center.
        """
        self._parse_command_line()
        provider = self._follow()
        if self._deadline is None:
            self._deadline = monotonic() + timeout
        threadless = provider is not None and provider.poll()
        if provider is not None and (fresh or self.state.settings is None):
            provider.wait_loaded(max(0.0, self._deadline - monotonic()))
        with self._judging:
            if self.state.settings is None:
                self._load_first(provider)
            elif provider is not None and provider.snapshot.origin != "none":
                self.judge(provider.snapshot)
            self.ready = not threadless
            settings = self.state.settings
            assert settings is not None  # noqa: S101 - _load_first has raised otherwise
            return settings

    def close(self) -> None:
        """Stop following the center. The state stays."""
        with self._lock:
            provider, self.provider = self.provider, None
            self.ready = self.state.settings is not None
            self.closed = True
            self._deadline = None
        if provider is not None:
            provider.forget(self)
            provider.unsubscribe(self._on_snapshot)
            if self.given is None:
                CLIENTS.release(provider)

    def begin_again(self, kept: tuple[Subscription[T], ...] | None = None) -> tuple[Subscription[T], ...]:
        """Forget every state, so that the next read loads. With ``kept`` only those callbacks stay; return those there were."""
        self.close()
        with self._judging:
            self.ready = self.closed = False  # first: a read that finds ready takes the state as it is
            self.state = State()
            self._recipe = replace(self._recipe, overrides=())
            self._logged.clear()
            return self.callbacks.begin_again(kept)

    def reload(self) -> bool:
        """Read every source again. Return whether the result is in use."""
        provider = self.provider
        return self.judge(provider.snapshot if provider is not None else self.state.raw, again=True)

    def _parse_command_line(self) -> None:
        """Parse the command line once, in the thread that reads first: ``--help`` and bad arguments end the process there."""
        with self._judging:
            if not self._command_line_parsed:
                self._recipe = replace(self._recipe, command_line=parse_command_line(self.settings_cls))
                self._command_line_parsed = True

    def _follow(self) -> SnapshotProvider | None:
        """Subscribe to the provider, once, and start it; in a forked child, its own."""
        with self._lock:
            if self.provider is None:
                provider = self.given
                if provider is None:
                    provider = CLIENTS.of_class(self.settings_cls.model_config)
                    if provider is not None:
                        CLIENTS.acquire(provider)
                self.provider = provider
                self.callbacks.without_thread(provider is not None and provider is CLIENTS.in_memory)
                if provider is not None:
                    provider.declare(node.remote_key for node in tree_of(self.settings_cls).leaves())
                    provider.subscribe(self._on_snapshot)
            provider = self.provider
        if provider is not None:
            provider.start()
        return provider

    # -- the first state --------------------------------------------------------------------------------------------

    def _load_first(self, provider: SnapshotProvider | None) -> None:
        """What the center gives, else what the policy allows."""
        if provider is None:
            return self._try_in_turn([EMPTY], "no Stardust server is configured: STARDUST_SERVER")
        raw = usable_at_start(provider, self._policy)
        candidates, note = [raw], ""
        if raw.origin not in ("none", "disk"):
            copy = provider.last_good() if self._policy != "fail" else None
            candidates += [copy] if copy is not None else []
        else:
            note = f"Stardust did not answer: {provider.last_error or 'no answer in time'}"
            if raw.origin == "disk":
                copy = provider.last_good()
                candidates += [copy] if copy is not None else []
                candidates += [EMPTY] if self._policy == "cache-then-defaults" else []
        return self._try_in_turn(candidates, note)

    def _try_in_turn(self, candidates: Sequence[RawSnapshot], note: str) -> None:
        refusal: Refusal | None = None
        shown: InvalidSettingsError | None = None
        for raw in candidates:
            started = perf_counter_ns()
            new = self._judged(raw, again=True)
            if new.settings is not None:
                # An older state is in use: the refusal of the newer one stays on show.
                self._replace(replace(new, refusal=refusal), started)
                return
            assert new.refusal is not None  # noqa: S101 - judge gives settings or a refusal
            self._report_refusal(new.refusal, raw, started, log=len(candidates) > 1)
            refusal = refusal or new.refusal
            if shown is None or raw.origin == "none":
                error = new.refusal.error
                shown = InvalidSettingsError(error.title, error.problems, note)
        assert shown is not None  # noqa: S101 - there is at least one candidate
        raise shown

    # -- judging ----------------------------------------------------------------------------------------------------

    def _on_snapshot(self, raw: RawSnapshot) -> None:
        """Judge what the provider brings, on its thread, which no exception may reach."""
        try:
            self.judge(raw)
        except Exception as error:  # noqa: BLE001 - the thread that reads gets the same one
            logger.debug("settings %s cannot be judged: %s", self.settings_cls.__name__, type(error).__name__)

    def judge(self, raw: RawSnapshot, *, again: bool = False) -> bool:
        """Replace the state by the one after ``raw``. Return whether ``raw`` is in use."""
        with self._judging:
            old, started = self.state, perf_counter_ns()
            new = self._judged(raw, again=again)
            refusal = new.refusal
            if refusal is None:
                self._replace(new, started)
                return True
            if refusal is old.refusal:
                self._report(Verdict.refused(self.settings_cls.__name__, raw, refusal.error.one_line()))
                return False
            if new.settings is None:  # the thread that reads first judges it again, and raises
                return False
            self.state = new
            self._report_refusal(refusal, raw, started, log=True)
        self.callbacks.rejected(refusal.error)
        return False

    def _judged(self, raw: RawSnapshot, *, again: bool) -> State[T]:
        if self._judges:
            raise RecursiveReadError(
                f"{self.settings_cls.__name__} reads its own live handle while it is being validated"
            )
        self._judges = True
        try:
            return judge(self.state, raw, self._recipe, again=again)
        finally:
            self._judges = False

    def _replace(self, new: State[T], started: int) -> None:
        """Publish an accepted state: the one place where the state that programs read changes."""
        old, self.state = self.state, new
        first = not self.ready
        self.ready = True
        same = new.settings is old.settings
        paths = () if old.accepted is None or same else changed_names(old.settings, new.settings)
        name, pending = self.settings_cls.__name__, new.pending
        event = 0 if same or old.accepted is None else started
        self._report(Verdict.used(name, new.raw, paths=paths, pending=pending, started_ns=event))
        if not same:
            self._log(old, new, paths)
        if not same or first:
            assert new.settings is not None  # noqa: S101 - it is accepted
            self.callbacks.changed(new.settings, first=first)

    # -- telling ----------------------------------------------------------------------------------------------------

    def _report(self, verdict: Verdict) -> None:
        if self.provider is not None:
            self.provider.report(self, verdict)

    def _report_refusal(self, refusal: Refusal, raw: RawSnapshot, started: int, *, log: bool) -> None:
        error = refusal.error
        paths = tuple(dict.fromkeys(problem.path or "settings" for problem in error.problems))
        name = self.settings_cls.__name__
        self._report(Verdict.refused(name, raw, error.one_line(), paths=paths, started_ns=started))
        if not log:
            return
        kept = f"keeping v{self.state.raw.version}" if self.state.accepted is not None else "nothing valid before it"
        tell(logger, logging.ERROR, "settings %s v%d refused, %s: %s", error.title, raw.version, kept, error.one_line())

    def _log(self, old: State[T], new: State[T], paths: Sequence[str]) -> None:
        name, layers = self.settings_cls.__name__, new.layers
        if paths:
            logger.info("settings %s now %s: %s changed", name, new.raw.label, ", ".join(paths))
        if new.pending and new.pending != old.pending:
            logger.warning("settings %s: %s changed, in effect after a restart", name, ", ".join(new.pending))
        if new.unknown:
            self._warn_once(f"settings {name}: no field for {_names(new.unknown)} of Stardust {new.raw.app_id}")
        if layers is None:
            return
        if layers.ignored:
            self._warn_once(f"settings {name}: {_names(layers.ignored)} of Stardust ignored, the field is marked Local")
        if layers.gaps:
            self._warn_once(
                f"settings {name}: a number is missing before {_names(layers.gaps)} of Stardust, the list has no gap"
            )
        for collision in layers.keys.collisions[:_MOST_NAMES]:
            self._warn_once(
                f'settings {name}: Stardust key "{collision.winner}" used, its twin "{collision.loser}" not'
            )

    def _warn_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            logger.warning("%s", text)

    # -- overrides --------------------------------------------------------------------------------------------------

    @contextmanager
    def override(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Replace fields for the whole process, also across reloads, until the block ends."""
        entry = Hidden(values)
        with self._judging:
            self._set_overrides((*self._recipe.overrides, entry))
        try:
            yield
        finally:
            with self._judging:
                self._set_overrides(tuple(other for other in self._recipe.overrides if other is not entry))

    def _set_overrides(self, overrides: tuple[Mapping[str, Any], ...]) -> None:
        state = self.state
        if state.accepted is not None:
            settings, layers = overridden(state.accepted, overrides)
            self.state = replace(state, settings=settings, layers=layers)
            self.callbacks.changed(settings, first=False)
        self._recipe = replace(self._recipe, overrides=overrides)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"
