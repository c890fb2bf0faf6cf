"""Accepting and refusing: one validated snapshot at a time, replaced by one assignment, never changed."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_settings import BaseSettings, CliSettingsSource

from stardust_auto.config.remote.verdicts import Verdict
from stardust_auto.config.typed.builder import Built, build, parse_command_line, rebuild
from stardust_auto.config.typed.diff import carry_factories, changed_names, changed_paths
from stardust_auto.config.typed.overrides import apply_overrides, keep_values
from stardust_auto.config.typed.schema import tree_of, unknown_keys
from stardust_auto.errors import InvalidSettingsError, Problem
from stardust_auto.log import get_logger, tell
from stardust_auto.process.clock import perf_counter_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stardust_auto.config.remote.provider import SnapshotProvider
    from stardust_auto.config.remote.snapshot import RawSnapshot

logger = get_logger(__name__)

T = TypeVar("T", bound=BaseSettings)
_MOST_NAMES = 5


class Hidden(dict[str, Any]):
    """Arguments that may hold secrets: debuggers and error trackers that print locals get nothing from it."""

    def __repr__(self) -> str:
        return f"<{len(self)} arguments>"


class SnapshotHolder(Generic[T]):
    """Builds settings from raw snapshots. ``settings`` is the accepted state (overrides of tests included), ``None`` before the first."""

    def __init__(self, settings_cls: type[T], init: Mapping[str, Any], published: Callable[[T], None]) -> None:
        self.settings_cls = settings_cls
        self.settings: T | None = None
        self.built: Built[T] | None = None
        self.rejected: tuple[int, str] | None = None
        self.rejection: InvalidSettingsError | None = None
        self.pending_restart: tuple[str, ...] = ()
        self.unknown: tuple[str, ...] = ()
        self.provider: SnapshotProvider | None = None
        self._init = Hidden(init)
        self._published = published
        self._cli: CliSettingsSource[Any] | None = None
        self._cli_parsed = False
        self._overrides: list[Mapping[str, Any]] = []
        self._said: set[str] = set()
        self._building = False
        self.lock = threading.RLock()

    def reset_lock(self) -> None:
        self.lock = threading.RLock()
        self._building = False

    def empty(self) -> SnapshotHolder[T]:
        """A holder of the same class and arguments, without any state."""
        other = SnapshotHolder(self.settings_cls, self._init, self._published)
        other._cli, other._cli_parsed = self._cli, self._cli_parsed
        return other

    def parse_command_line(self) -> None:
        """Parse the command line, once, in the thread that reads first: ``--help`` and bad arguments end the process there."""
        with self.lock:
            if not self._cli_parsed:
                self._cli = parse_command_line(self.settings_cls)
                self._cli_parsed = True

    # -- building ---------------------------------------------------------------------------------------------------

    def _build(self, raw: RawSnapshot) -> Built[T]:
        if self._building:
            raise RuntimeError(f"{self.settings_cls.__name__} reads its own live handle while it is being validated")
        self._building = True
        try:
            self._check_keys(raw)
            return build(self.settings_cls, raw, self._init, self._cli)
        finally:
            self._building = False

    def _check_keys(self, raw: RawSnapshot) -> None:
        config = self.settings_cls.model_config
        mode = config.get("stardust_unknown_keys", "warn")
        view = raw.view(str(config.get("stardust_key_prefix") or ""))
        self.unknown = unknown_keys(tree_of(self.settings_cls), view.origins) if mode != "ignore" else ()
        if self.unknown and mode == "forbid":
            problems = tuple(
                Problem(key, "unknown_key", "no field takes it", f"Stardust {raw.label}", key=key)
                for key in self.unknown
            )
            raise InvalidSettingsError(self.settings_cls.__name__, problems)

    def accept_first(self, raw: RawSnapshot) -> T:
        """Build the first state.

        Raises:
            InvalidSettingsError: nothing is published.
        """
        with self.lock:
            if self.settings is None:
                self._publish(self._build(raw))
            assert self.settings is not None  # noqa: S101 - _publish has set it
            return self.settings

    def offer(self, raw: RawSnapshot, force: bool = False) -> bool:
        """Take ``raw`` if it is valid. Content that was judged before is not judged again, unless forced."""
        with self.lock:
            built = self.built
            if not force and built is not None and raw.content_hash == built.raw.content_hash:
                self.built = replace(built, raw=raw)
                self._used(raw)
                self.rejected = self.rejection = None
                return True
            if not force and self.rejected is not None and self.rejected[1] == raw.content_hash:
                self.rejected = (raw.version, raw.content_hash)
                reason = self.rejection.one_line() if self.rejection is not None else ""
                self._report(Verdict.refused(self.settings_cls.__name__, raw, reason))
                return False
            before, start = self.settings, perf_counter_ns()
            try:
                candidate = self._build(raw)
                if built is not None:
                    candidate = self._keep_static(built, candidate)
                self._publish(candidate)
            except InvalidSettingsError as error:
                self.refuse(raw, error, start)
                return False
            except Exception as error:  # noqa: BLE001 - a validator may raise anything; the last good state stays
                text = f"a validator failed with {type(error).__name__}"
                failure = InvalidSettingsError(self.settings_cls.__name__, (Problem("", "validator_failed", text),))
                self.refuse(raw, failure, start)
                return False
            self._used(raw, changed_names(before, candidate.settings), start)
            return True

    def _used(self, raw: RawSnapshot, paths: tuple[str, ...] = (), start: int = 0) -> None:
        name, pending = self.settings_cls.__name__, self.pending_restart
        self._report(Verdict.used(name, raw, paths=paths, pending=pending, started_ns=start))

    def _report(self, verdict: Verdict) -> None:
        if self.provider is not None:
            self.provider.report(self, verdict)

    def refuse(self, raw: RawSnapshot, error: InvalidSettingsError, start: int | None = None) -> None:
        """Note and report a refused state: one line per content."""
        paths = tuple(dict.fromkeys(problem.path or "settings" for problem in error.problems))
        name, started = self.settings_cls.__name__, start or perf_counter_ns()
        self._report(Verdict.refused(name, raw, error.one_line(), paths=paths, started_ns=started))
        self.rejected = (raw.version, raw.content_hash)
        self.rejection = error.with_traceback(None)  # its frames hold states, and it is kept
        kept = f"keeping v{self.built.raw.version}" if self.built is not None else "nothing valid before it"
        tell(logger, logging.ERROR, "settings %s v%d refused, %s: %s", error.title, raw.version, kept, error.one_line())

    def _keep_static(self, old: Built[T], new: Built[T]) -> Built[T]:
        tree = tree_of(self.settings_cls)
        changed = set()
        for path in changed_paths(old.settings, new.settings):
            node = tree.find(path)
            chain = [node, *node.ancestors()] if node is not None else []
            changed |= {entry for entry in chain if entry.static}
        pending = tuple(sorted(node.dotted for node in changed))
        if pending != self.pending_restart and pending:
            logger.warning(
                "settings %s: %s changed, in effect after a restart",
                new.settings.__class__.__name__,
                ", ".join(pending),
            )
        self.pending_restart = pending
        if not changed:
            return new
        return rebuild(self.settings_cls, new, keep_values(changed, old, new))

    def _publish(self, built: Built[T]) -> None:
        old, before = self.built, self.settings
        if old is not None:
            carry_factories(old.settings, built.settings)
        settings = self._overridden(built)
        self.built = built
        self.rejected = self.rejection = None
        self.settings = settings
        self._used(built.raw)
        self._log(built, before)
        self._published(settings)

    def _log(self, built: Built[T], before: T | None) -> None:
        name = self.settings_cls.__name__
        if before is not None and logger.isEnabledFor(20):
            paths = changed_names(before, built.settings)
            if paths:
                logger.info("settings %s now %s: %s changed", name, built.raw.label, ", ".join(paths))
        if self.unknown:
            self._say_once(f"settings {name}: no field for {_names(self.unknown)} of Stardust {built.raw.app_id}")
        if built.source.ignored:
            self._say_once(
                f"settings {name}: {_names(built.source.ignored)} of Stardust ignored, the field is marked Local"
            )
        for collision in built.source.keys.collisions[:_MOST_NAMES]:
            self._say_once(f'settings {name}: Stardust key "{collision.winner}" used, its twin "{collision.loser}" not')

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)

    # -- overrides --------------------------------------------------------------------------------------------------

    def _overridden(self, built: Built[T]) -> T:
        settings = built.settings
        if self._overrides:
            values: dict[str, Any] = {}
            for entry in self._overrides:
                values.update(entry)
            settings = self.with_overrides(built, values)
        return settings

    def with_overrides(self, built: Built[T], values: Mapping[str, Any]) -> T:
        """``built`` with some fields replaced, validated like any other state."""
        merged = apply_overrides(tree_of(self.settings_cls), built, values)
        return rebuild(self.settings_cls, built, merged).settings

    @contextmanager
    def override(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Replace fields for the whole process, also across reloads, until the block ends."""
        with self.lock:
            self._overrides.append(values)
            try:
                self._refresh()
            except Exception:
                self._overrides.remove(values)
                raise
        try:
            yield
        finally:
            with self.lock:
                self._overrides.remove(values)
                self._refresh()

    def _refresh(self) -> None:
        if self.built is not None:
            self.settings = self._overridden(self.built)
            self._published(self.settings)


def _names(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"
