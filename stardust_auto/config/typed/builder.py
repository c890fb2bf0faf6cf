"""One build: read every source, merge, validate. The result is one settings object, or an error that is safe to show.

The framework runs the sources, so that every option and every source of the user works as in pydantic-settings. The merge is ours
(``layers.py``), and pydantic then validates the merged input: one path for first builds, updates and overrides.

Private names of pydantic-settings in use, each under a contract test: ``_settings_init_sources``, ``_settings_build_values``,
``_build_sources``, ``_cli_settings_source``.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, InitSettingsSource, PydanticBaseSettingsSource
from pydantic_settings import SettingsError as PydanticSettingsError
from pydantic_settings.sources import DefaultSettingsSource

from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.config.typed import problems
from stardust_auto.config.typed.fields import tree_of, unknown_keys
from stardust_auto.config.typed.layers import DEFAULTS, Layers
from stardust_auto.config.typed.source import StardustSource
from stardust_auto.config.typed.values import canonical_fields, expand
from stardust_auto.errors import InvalidSettingsError, Problem, SourceMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

T = TypeVar("T", bound=BaseSettings)
Sources = tuple[PydanticBaseSettingsSource, ...]
#: What pydantic-settings takes as its own options, such as ``_env_file``; all else is an argument for a field.
_OPTIONS = frozenset(inspect.signature(BaseSettings._settings_init_sources).parameters)
_MISSING_SOURCE = (
    "{name}.settings_customise_sources leaves Stardust out: end its result with "
    "stardust_source(settings_cls), or start from super().settings_customise_sources(...)"
)


class Hidden(dict[str, Any]):
    """Arguments that may hold secrets: debuggers and error trackers that print locals get nothing from it."""

    def __repr__(self) -> str:
        return f"<{len(self)} arguments>"


@dataclass(frozen=True, slots=True, repr=False)
class Built(Generic[T]):
    """A settings object with what it was made of."""

    settings: T
    layers: Layers

    @property
    def raw(self) -> RawSnapshot:
        """The snapshot of the center that was read."""
        return self.layers.raw


class MergedSource(PydanticBaseSettingsSource):
    """Merged input as the only source of a settings class."""

    def __init__(self, layers: Layers) -> None:
        super().__init__(layers.settings_cls)
        self._layers = layers

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - an abstract method
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._layers.input()

    def __repr__(self) -> str:
        return f"MergedSource({self._layers!r})"


class Build:
    """One build under way. ``layers`` is what was read; with ``layers`` given nothing is read again."""

    def __init__(self, settings_cls: type[BaseSettings], raw: RawSnapshot, layers: Layers | None = None) -> None:
        self.settings_cls = settings_cls
        self.raw = raw
        self.before: Built[Any] | None = None
        self.layers = layers or Layers(settings_cls, raw=raw)
        self._read = layers is None
        self._started = False

    def start(self) -> bool:
        """Whether this call is the first: a validator may make another object of the same class, which is a build of its own."""
        first, self._started = not self._started, True
        return first

    def source(self, options: Mapping[str, Any]) -> MergedSource:
        """What to validate, for a class that is called with ``options``: fields, and options of pydantic-settings."""
        if self._read:
            self._gather(options)
            if self.before is not None:
                self.layers = self.layers.with_factory_values(self.before.layers, self.before.settings)
        return MergedSource(self.layers)

    def _gather(self, options: Mapping[str, Any]) -> None:
        sources, arguments = options.get("_build_sources") or _init_sources(self.settings_cls, options)
        try:
            self.layers = read(self.settings_cls, sources, arguments, self.raw)
        except _ReadError as error:
            self.layers = error.layers
            raise error.reason from None


class _ReadError(Exception):
    """A source failed; ``layers`` is what those before it gave."""

    def __init__(self, layers: Layers, reason: Exception) -> None:
        self.layers = layers
        self.reason = reason


_under_way: ContextVar[Build | None] = ContextVar("stardust_settings_build", default=None)


def build_under_way(settings_cls: type[BaseSettings]) -> Build | None:
    """The build that :func:`build` has begun for exactly this class, once."""
    found = _under_way.get()
    return found if found is not None and found.settings_cls is settings_cls and found.start() else None


@contextmanager
def _begin(under_way: Build) -> Iterator[None]:
    token = _under_way.set(under_way)
    try:
        yield
    finally:
        _under_way.reset(token)


# -- reading -----------------------------------------------------------------------------------------------------------


def _init_sources(settings_cls: type[BaseSettings], options: Mapping[str, Any]) -> tuple[Sources, dict[str, Any]]:
    """The sources of a class, as the framework orders them, and the arguments for its fields."""
    chosen = {name: value for name, value in options.items() if name in _OPTIONS}
    arguments = Hidden({name: value for name, value in options.items() if name not in _OPTIONS})
    if "_init_kwargs" in _OPTIONS:
        chosen["_init_kwargs"] = arguments
    else:  # pydantic-settings 2.14
        chosen.update(arguments)
    return settings_cls._settings_init_sources(**chosen)


def read(
    settings_cls: type[BaseSettings], sources: Sources, arguments: dict[str, Any], raw: RawSnapshot | None
) -> Layers:
    """Run ``sources`` in the framework's loop and merge what they give. Without ``raw`` the center's source finds it on its own."""
    found: StardustSource | None = None
    for source in sources:
        if isinstance(source, InitSettingsSource):
            # With the option on it dumps every model instance: by field name, computed fields and serialisers included.
            source.nested_model_default_partial_update = False
        elif isinstance(source, StardustSource):
            found = source
            if source.snapshot is None and raw is not None:
                source.use(raw)
    failure: Exception | None = None
    try:
        BaseSettings._settings_build_values.__func__(settings_cls, sources, arguments)  # type: ignore[attr-defined]  # a class method
    except PydanticSettingsError as error:
        failure = error
    states = next((one.settings_sources_data for one in sources if isinstance(one, PydanticBaseSettingsSource)), {})
    tree = tree_of(settings_cls)
    data = {}
    for name, state in states.items():
        if found is not None and name == found.__name__:
            data[name] = found.values
        elif name == DEFAULTS:
            data[name] = _defaults(settings_cls, sources[-1], state)
        else:
            data[name] = canonical_fields(tree, state)
    layers = Layers.of(settings_cls, data, arguments=tuple(arguments))
    if found is not None and found.snapshot is not None:
        layers = replace(
            layers, raw=found.snapshot, keys=found.keys, stardust=found.__name__, ignored=tuple(found.ignored), gaps=tuple(found.gaps)
        )  # fmt: skip
    if failure is not None:
        raise _ReadError(layers, failure) from None
    return layers


def _defaults(settings_cls: type[BaseSettings], source: object, state: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of nested models by field name. The framework's own dump has computed fields, and what serialisers make of secrets."""
    if not isinstance(source, DefaultSettingsSource):
        return {}
    defaults = {}
    for node in tree_of(settings_cls).children.values():
        if node.info is not None and any(str(path[0]) in state for path in node.accepts):
            defaults[node.name] = _expanded(node.info.default)
    return defaults


def _expanded(value: Any) -> Any:
    fields = expand(value) if not isinstance(value, dict) else {}
    return {name: _expanded(entry) for name, entry in fields.items()} if fields else value


# -- validating --------------------------------------------------------------------------------------------------------


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
    before: Built[T] | None = None,
) -> Built[T]:
    """Build once from ``raw`` and every other source as it is now.

    Args:
        settings_cls: the settings class.
        raw: the map of the center.
        init: arguments of the class.
        cli: the parsed command line.
        before: the state that this one replaces; fields that a ``default_factory`` fills keep its values.

    Raises:
        InvalidSettingsError: all problems, redacted. Nothing of the failed build hangs on it: no input, no cause, no traceback.
        SourceMissingError: the class leaves the Stardust source out.
    """
    values = Hidden(init or {})
    if cli is not None:
        values["_cli_settings_source"] = cli
    under_way = Build(settings_cls, raw)
    under_way.before = before
    built = _validated(under_way, values)
    if not built.layers.stardust:
        raise SourceMissingError(_MISSING_SOURCE.format(name=settings_cls.__name__))
    if settings_cls.model_config.get("stardust_unknown_keys") == "forbid":
        _forbid(built.layers)
    return built


def rebuild(settings_cls: type[T], layers: Layers) -> Built[T]:
    """Validate ``layers`` without reading any source: for overrides, and for fields that keep their value until a restart.

    Raises:
        InvalidSettingsError: as :func:`build` does.
    """
    return _validated(Build(settings_cls, layers.raw, layers), Hidden())


@dataclass(frozen=True, slots=True, repr=False)
class Reading(Generic[T]):
    """What every source gives, whether or not it makes a valid object: for explanations while the values are invalid.

    Attributes:
        layers: what the sources give.
        settings: the object that they make; ``None`` if the class refuses them.
        error: why it refuses them.
    """

    layers: Layers
    settings: T | None = None
    error: InvalidSettingsError | None = None


def examine(settings_cls: type[T], raw: RawSnapshot) -> Reading[T]:
    """:func:`build`, where a refusal is a result and not an error.

    Raises:
        SourceMissingError: the class leaves the Stardust source out.
    """
    try:
        built = build(settings_cls, raw)
    except InvalidSettingsError as error:
        refusal = error
    else:
        return Reading(built.layers, built.settings)
    under_way = Build(settings_cls, raw)
    with suppress(PydanticSettingsError):  # the refusal says so; the layers before that source are known
        under_way.source(Hidden())
    return Reading(under_way.layers, None, refusal)


def _validated(under_way: Build, values: Hidden) -> Built[Any]:
    settings_cls = under_way.settings_cls
    failure: Exception
    try:
        if _merges_itself(settings_cls):
            with _begin(under_way):
                settings = settings_cls(**values)
        else:
            settings = settings_cls(_build_sources=((under_way.source(values),), {}))
    except (ValidationError, PydanticSettingsError) as error:
        failure = problems.explain_failure(settings_cls, error, under_way.layers)
    else:
        return Built(settings, under_way.layers)
    raise failure


def _merges_itself(settings_cls: type[BaseSettings]) -> bool:
    """Whether the class takes the build under way by itself: a ``StardustSettings``, whose subclass may have a constructor of its own."""
    plain: Any = BaseSettings._settings_build_values
    own: Any = settings_cls._settings_build_values
    return own.__func__ is not plain.__func__


def unknown_of(layers: Layers) -> tuple[str, ...]:
    """The keys of the center that no field takes, unless the class ignores such keys."""
    if layers.settings_cls.model_config.get("stardust_unknown_keys") == "ignore":
        return ()
    return unknown_keys(tree_of(layers.settings_cls), layers.keys.origins)


def _forbid(layers: Layers) -> None:
    unknown = unknown_of(layers)
    if unknown:
        where = f"Stardust {layers.raw.label}"
        found = tuple(Problem(key, "unknown_key", "no field takes it", where, key=key) for key in unknown)
        raise InvalidSettingsError(layers.settings_cls.__name__, found)


def call_redacted(settings_cls: type[BaseSettings], init: Any, values: Hidden) -> None:
    """``Settings()`` without a handle: same sources, and an error of the type that pydantic's users expect, without any input."""
    from stardust_auto.config.remote.clients import CLIENTS

    raw = EMPTY if "_build_sources" in values else CLIENTS.first_snapshot(settings_cls.model_config)
    under_way = Build(settings_cls, raw)
    failure: Exception
    try:
        init(_build_sources=((under_way.source(values),), {}))
    except ValidationError as error:
        failure = problems.redacted_validation_error(settings_cls, error, under_way.layers)
    except PydanticSettingsError as error:
        failure = PydanticSettingsError(str(problems.explain_failure(settings_cls, error, under_way.layers)))
    else:
        return
    raise failure
