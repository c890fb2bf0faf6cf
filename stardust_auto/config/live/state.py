"""What a handle holds: one frozen :class:`State`, made by the pure function :func:`judge`, and the picture that ``config.status`` gives."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_settings import BaseSettings, CliSettingsSource

from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.config.typed.builder import Built, Hidden, build, rebuild, unknown_of
from stardust_auto.config.typed.fields import tree_of
from stardust_auto.config.typed.values import changed_paths
from stardust_auto.errors import InvalidSettingsError, Problem, SourceMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.config.remote.keys import Collision
    from stardust_auto.config.remote.provider import ProviderState
    from stardust_auto.config.typed.fields import FieldNode
    from stardust_auto.config.typed.layers import Layers

T = TypeVar("T", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """The state of a handle at one moment, without values.

    Attributes:
        state: ``INITIALIZING`` no answer yet; ``VALID`` current; ``STALE`` the values in use are not the newest: the last request
            failed, the values are from disk, or what is published was refused; ``INTERRUPTED`` failing for some time; ``OFF`` no center, or
            stopped.
        version: published version in use.
        scope: scope of the values in use.
        origin: ``server``, ``push``, ``disk``, ``memory`` or ``defaults``.
        age: seconds since the values in use were last confirmed, or ``None`` without any.
        last_error: why the last request failed; empty after a success.
        rejected_version: the published version that was refused, or ``None``.
        rejection: why, on one line, without values.
        pending_restart: fields whose new value waits for a restart.
        unknown_keys: keys of the center that no field takes.
        ignored_local: ``Local`` fields that the center has a value for.
        collisions: keys of the center that mean one field.
    """

    state: ProviderState
    version: int
    scope: str
    origin: str
    age: float | None
    last_error: str
    rejected_version: int | None
    rejection: str
    pending_restart: tuple[str, ...]
    unknown_keys: tuple[str, ...]
    ignored_local: tuple[str, ...]
    collisions: tuple[Collision, ...]

    def as_dict(self) -> dict[str, Any]:
        """The status for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A published state that the class did not take."""

    version: int
    content_hash: str
    error: InvalidSettingsError


@dataclass(frozen=True, slots=True, repr=False)
class State(Generic[T]):
    """All that a handle knows at one moment. Never changed: a new state replaces it by one assignment.

    Attributes:
        settings: what the program reads, with the process's overrides; ``None`` before the first valid state.
        raw: the snapshot of the center in use.
        accepted: the settings without overrides, and what every source gave for them.
        layers: what every source gave for ``settings``, overrides included.
        refusal: what was refused since, if anything.
        pending: fields whose new value waits for a restart.
        unknown: keys of the center that no field takes.
    """

    settings: T | None = None
    raw: RawSnapshot = EMPTY
    accepted: Built[T] | None = None
    layers: Layers | None = None
    refusal: Refusal | None = None
    pending: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"State({self.raw.label}, {'valid' if self.settings is not None else 'nothing yet'})"


@dataclass(frozen=True, slots=True, repr=False)
class Recipe(Generic[T]):
    """What a settings object is made of besides the center: the class, its arguments, the command line, the process's overrides."""

    settings_cls: type[T]
    arguments: Hidden = field(default_factory=Hidden)
    command_line: CliSettingsSource[Any] | None = None
    overrides: tuple[Mapping[str, Any], ...] = ()


class RecursiveReadError(RuntimeError):
    """A validator reads the handle whose settings are being validated."""


def judge(old: State[T], raw: RawSnapshot, recipe: Recipe[T], *, again: bool = False) -> State[T]:
    """The state after ``raw``: accepted, or refused with everything else as it was.

    Polls bring the same content many times: it is judged once for each version. ``again`` judges in any case: the environment, files or
    the validators may have changed.

    Raises:
        SourceMissingError: the class leaves the Stardust source out.
        RecursiveReadError: a validator reads its own handle.
    """
    if not again:
        if old.accepted is not None and raw.content_hash == old.raw.content_hash:
            return _confirmed(old, raw)
        refusal = old.refusal
        if refusal is not None and (refusal.version, refusal.content_hash) == (raw.version, raw.content_hash):
            return old
    try:
        built = build(recipe.settings_cls, raw, recipe.arguments, recipe.command_line, old.accepted)
        built, pending = _hold_static(old.accepted, built)
        settings, layers = overridden(built, recipe.overrides)
    except InvalidSettingsError as error:
        return refused(old, raw, error)
    except BaseException as error:  # a validator may raise anything; the last good state stays
        for_programmer = isinstance(error, (SourceMissingError, RecursiveReadError)) and old.accepted is None
        if for_programmer or _ends_the_program(error):
            raise
        return refused(old, raw, _validator_failed(recipe.settings_cls, error))
    return State(settings, built.raw, built, layers, None, pending, unknown_of(built.layers))


def refused(old: State[T], raw: RawSnapshot, error: InvalidSettingsError) -> State[T]:
    """``old``, which stays in use after ``raw`` was refused."""
    # The frames of the traceback hold settings, and the error is kept.
    return replace(old, refusal=Refusal(raw.version, raw.content_hash, error.with_traceback(None)))


def overridden(built: Built[T], overrides: tuple[Mapping[str, Any], ...]) -> tuple[T, Layers]:
    """The settings of ``built`` with ``overrides`` on top, validated, and what they are made of.

    Raises:
        InvalidSettingsError: the values do not fit.
        KeyError: there is no such field.
    """
    if not overrides:
        return built.settings, built.layers
    values = {path: value for entry in overrides for path, value in entry.items()}
    layers = built.layers.overridden(values, built.settings)
    return rebuild(type(built.settings), layers).settings, layers


def _confirmed(old: State[T], raw: RawSnapshot) -> State[T]:
    """The same content, seen again under this version."""
    accepted, layers = old.accepted, old.layers
    if accepted is not None and layers is not None:
        layers = replace(layers, raw=raw)
        accepted = replace(accepted, layers=replace(accepted.layers, raw=raw))
    return replace(old, raw=raw, accepted=accepted, layers=layers, refusal=None)


def _hold_static(old: Built[T] | None, new: Built[T]) -> tuple[Built[T], tuple[str, ...]]:
    """``new``, in which ``Static`` fields keep what they had, and the names of those that have to."""
    changed = static_changes(old, new) if old is not None else []
    if not changed or old is None:
        return new, ()
    held = rebuild(type(new.settings), new.layers.keeping(changed, old.layers, old.settings))
    return held, tuple(node.dotted for node in changed)


def static_changes(old: Built[Any], new: Built[Any]) -> list[FieldNode]:
    """The ``Static`` fields whose value differs, by path."""
    tree = tree_of(type(new.settings))
    found = set()
    for path in changed_paths(old.settings, new.settings):
        node = tree.find(path)
        if node is not None:
            found |= {entry for entry in (node, *node.ancestors()) if entry.static}
    return sorted(found, key=lambda node: node.path)


def _ends_the_program(error: BaseException) -> bool:
    """Whether ``error`` asks the program to end: Ctrl-C, or ``sys.exit`` of a signal handler, both of which only the main thread sees."""
    return isinstance(error, (KeyboardInterrupt, SystemExit)) and threading.current_thread() is threading.main_thread()


def _validator_failed(settings_cls: type[BaseSettings], error: BaseException) -> InvalidSettingsError:
    """An exception that is no validation error: its type and place, since its text may hold values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    text = f"a validator failed with {type(error).__name__}{place}"
    return InvalidSettingsError(settings_cls.__name__, (Problem("", "validator_failed", text),))
