"""``StardustSettings``: a pydantic-settings class that also reads the configuration center."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stardust_auto.config.typed.builder import Hidden, MergedSource, build_under_way, call_redacted, read
from stardust_auto.config.typed.source import StardustSource
from stardust_auto.log import get_logger

logger = get_logger(__name__)

OnUnavailable = Literal["cache-then-defaults", "cache", "fail"]


class StardustConfigDict(SettingsConfigDict, total=False):
    """``SettingsConfigDict`` plus the options of the center, all optional. ``STARDUST_SERVER`` and ``STARDUST_SCOPE`` outrank theirs."""

    stardust_app: str
    """Application whose map is read. Default: ``STARDUST_APP_ID``, else the program's name."""
    stardust_server: str
    """Address of the center where ``STARDUST_SERVER`` is not set, several with commas. Without any, nothing remote happens."""
    stardust_scope: str
    """Scope such as ``dev`` or ``prod`` where ``STARDUST_SCOPE`` is not set. Without any, the server's rules decide."""
    stardust_key_prefix: str
    """Only the remote keys below this prefix count, and are named without it: ``"shop:"``."""
    stardust_on_unavailable: OnUnavailable
    """What a start without the center may use. Default ``cache-then-defaults``."""
    stardust_start_timeout: float
    """Seconds that the first read waits for the center. Default 3."""
    stardust_unknown_keys: Literal["ignore", "warn", "forbid"]
    """What remote keys without a field are. Default ``warn``: one line per set of keys."""


class StardustSettings(BaseSettings):
    """Base of your settings class. Strongest first: command line, arguments, environment, ``.env``, secret files, Stardust, defaults.

    ``live(YourSettings)`` keeps it current; ``YourSettings()`` alone reads the same sources once. Instances are immutable.
    """

    model_config: ClassVar[SettingsConfigDict] = StardustConfigDict(
        frozen=True,
        extra="ignore",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,
    )

    if not TYPE_CHECKING:  # the signature that type checkers see stays the one of the fields

        def __init__(self, /, **values: Any) -> None:
            values = Hidden(values)
            under_way = build_under_way(type(self))
            if under_way is not None:
                super().__init__(_build_sources=((under_way.source(values),), {}))
            else:
                call_redacted(type(self), super().__init__, values)

    @classmethod
    def _settings_build_values(
        cls, sources: tuple[PydanticBaseSettingsSource, ...], init_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Merge by field, not by the names that the sources happened to use. ``CliApp`` calls this, too."""
        if len(sources) == 1 and isinstance(sources[0], MergedSource):
            return sources[0]()
        return MergedSource(read(cls, sources, init_kwargs, None))()

    @classmethod
    def _settings_log_debug(cls, states: dict[str, dict[str, Any]]) -> None:
        """PYDANTIC_SETTINGS_DEBUG: which source has which field. The values, which the framework prints, are left out."""
        lines = [f"  {name}: {', '.join(state) or '-'}" for name, state in states.items()]
        logger.debug("sources of %s, strongest first:\n%s", cls.__name__, "\n".join(lines))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        stronger = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return (*stronger, StardustSource(settings_cls))
