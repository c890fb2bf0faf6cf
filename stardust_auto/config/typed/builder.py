"""One build: sources -> merged input -> one validated settings object, or an error that is safe to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, InitSettingsSource
from pydantic_settings import SettingsError as PydanticSettingsError

from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.config.typed import context, problems
from stardust_auto.config.typed.merge import deep_merge
from stardust_auto.config.typed.schema import tree_of
from stardust_auto.errors import InvalidSettingsError, SourceMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stardust_auto.config.typed.source import StardustSource

T = TypeVar("T", bound=BaseSettings)
_DEFAULTS = "DefaultSettingsSource"


@dataclass(frozen=True, slots=True, repr=False)
class Built(Generic[T]):
    """A settings object with what it was made of. ``layers`` is what each source gave, by name, strongest first."""

    settings: T
    raw: RawSnapshot
    layers: Mapping[str, Mapping[str, Any]]
    source: StardustSource
    kept: Mapping[str, Any] | None = None

    def merged(self) -> dict[str, Any]:
        """The input of the validation as one dict, defaults of nested models included."""
        if self.kept is not None:
            return dict(self.kept)
        result: dict[str, Any] = {}
        for layer in self.layers.values():
            result = deep_merge(layer, result)
        return result


def is_building(settings_cls: type[BaseSettings]) -> bool:
    return context.building(settings_cls) is not None


def parse_command_line(settings_cls: type[BaseSettings]) -> CliSettingsSource[Any] | None:
    """The command line, parsed once: a reload must not parse it again (a bad argument would end the process from a thread)."""
    arguments = settings_cls.model_config.get("cli_parse_args")
    if not arguments:
        return None
    return CliSettingsSource(settings_cls, cli_parse_args=arguments)


def build(
    settings_cls: type[T],
    raw: RawSnapshot,
    init: Mapping[str, Any] | None = None,
    cli: CliSettingsSource[Any] | None = None,
) -> Built[T]:
    """Build once from ``raw`` and every other source as it is now.

    Raises:
        InvalidSettingsError: all problems, redacted. Nothing of the failed build hangs on it: no input, no cause, no traceback.
        SourceMissingError: the class left the Stardust source out.
    """
    values: dict[str, Any] = dict(init or {})
    if cli is not None:
        values["_cli_settings_source"] = cli
    failure: Exception
    with context.build_of(settings_cls, raw) as under_way:
        try:
            settings = settings_cls(**values)
        except (ValidationError, PydanticSettingsError) as error:
            failure = problems.explain_failure(settings_cls, error, under_way)
        else:
            if under_way.source is None:
                raise SourceMissingError(
                    f"{settings_cls.__name__}.settings_customise_sources leaves Stardust out: end its result with "
                    f"stardust_source(settings_cls), or start from super().settings_customise_sources(...)"
                )
            layers = dict(under_way.states)
            return Built(settings, raw, layers, under_way.source)
    raise failure


def rebuild(settings_cls: type[T], base: Built[T], merged: Mapping[str, Any]) -> Built[T]:
    """Validate ``merged`` in place of the sources of ``base``: overrides, and fields that keep their value until a restart."""
    failure: InvalidSettingsError
    defaults = base.layers.get(_DEFAULTS, {})
    chosen = {key: value for key, value in merged.items() if key not in defaults or defaults[key] != value}
    given = InitSettingsSource(settings_cls, init_kwargs=chosen)
    with context.build_of(settings_cls, base.raw) as under_way:
        under_way.source = base.source
        try:
            settings = settings_cls(_build_sources=((given,), {}))
        except (ValidationError, PydanticSettingsError) as error:
            failure = problems.explain_failure(settings_cls, error, under_way)
        else:
            return Built(settings, base.raw, base.layers, base.source, merged)
    raise failure


def call_redacted(settings_cls: type[BaseSettings], init: Callable[..., None], values: dict[str, Any]) -> None:
    """``Settings()`` without a handle: same sources, and an error of the type that pydantic's users expect, without any input."""
    from stardust_auto.config.remote.clients import CLIENTS

    raw = EMPTY if "_build_sources" in values else CLIENTS.first_snapshot(settings_cls.model_config)
    failure: Exception
    with context.build_of(settings_cls, raw) as under_way:
        try:
            init(**values)
        except ValidationError as error:
            failure = problems.redacted_validation_error(settings_cls, error, under_way)
        except PydanticSettingsError as error:
            failure = PydanticSettingsError(str(problems.explain_failure(settings_cls, error, under_way)))
        else:
            return
    raise failure


def missing_from(settings_cls: type[BaseSettings]) -> tuple[str, ...]:
    """Paths of required leaf fields, for messages."""
    return tuple(node.dotted for node in tree_of(settings_cls).leaves() if node.required)
