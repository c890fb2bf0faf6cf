"""From the remote map of a Stardust center to typed settings that stay current.

A value goes from ``remote`` (the map of the center and its copy on disk) to ``typed`` (one validated object) to ``live`` (read, pin,
callbacks).
``live`` the function is ``stardust_auto.live``; here that name is the room. ``docs/settings.md`` is the guide.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stardust_auto.config.live.callbacks import Subscription
    from stardust_auto.config.live.handle import Live
    from stardust_auto.config.live.middleware import (
        StardustConfigMiddleware,
        StardustConfigWSGIMiddleware,
        django_middleware,
    )
    from stardust_auto.config.live.state import ConfigStatus
    from stardust_auto.config.remote.client import ConfigClient
    from stardust_auto.config.remote.memory import MemoryClient
    from stardust_auto.config.remote.provider import SnapshotProvider
    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.config.typed.explain import Contribution, Explanation
    from stardust_auto.config.typed.markers import CsvList, Local, Masked, Replace, Static
    from stardust_auto.config.typed.settings import StardustConfigDict, StardustSettings
    from stardust_auto.config.typed.source import StardustSource, stardust_source
    from stardust_auto.errors import (
        ConfigError,
        ConfigUnavailableError,
        InvalidSettingsError,
        Problem,
        SourceMissingError,
    )

__all__ = [
    "ConfigClient",
    "ConfigError",
    "ConfigStatus",
    "ConfigUnavailableError",
    "Contribution",
    "CsvList",
    "Explanation",
    "InvalidSettingsError",
    "Live",
    "Local",
    "Masked",
    "MemoryClient",
    "Problem",
    "RawSnapshot",
    "Replace",
    "SnapshotProvider",
    "SourceMissingError",
    "StardustConfigDict",
    "StardustConfigMiddleware",
    "StardustConfigWSGIMiddleware",
    "StardustSettings",
    "StardustSource",
    "Static",
    "Subscription",
    "django_middleware",
    "stardust_source",
]

_HOMES = {
    "ConfigClient": "stardust_auto.config.remote.client",
    "ConfigError": "stardust_auto.errors",
    "ConfigStatus": "stardust_auto.config.live.state",
    "ConfigUnavailableError": "stardust_auto.errors",
    "Contribution": "stardust_auto.config.typed.explain",
    "CsvList": "stardust_auto.config.typed.markers",
    "Explanation": "stardust_auto.config.typed.explain",
    "InvalidSettingsError": "stardust_auto.errors",
    "Live": "stardust_auto.config.live.handle",
    "Local": "stardust_auto.config.typed.markers",
    "Masked": "stardust_auto.config.typed.markers",
    "MemoryClient": "stardust_auto.config.remote.memory",
    "Problem": "stardust_auto.errors",
    "RawSnapshot": "stardust_auto.config.remote.snapshot",
    "Replace": "stardust_auto.config.typed.markers",
    "SnapshotProvider": "stardust_auto.config.remote.provider",
    "SourceMissingError": "stardust_auto.errors",
    "StardustConfigDict": "stardust_auto.config.typed.settings",
    "StardustConfigMiddleware": "stardust_auto.config.live.middleware",
    "StardustConfigWSGIMiddleware": "stardust_auto.config.live.middleware",
    "StardustSettings": "stardust_auto.config.typed.settings",
    "StardustSource": "stardust_auto.config.typed.source",
    "Static": "stardust_auto.config.typed.markers",
    "Subscription": "stardust_auto.config.live.callbacks",
    "django_middleware": "stardust_auto.config.live.middleware",
    "stardust_source": "stardust_auto.config.typed.source",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
