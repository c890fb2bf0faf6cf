"""From the remote map of a Stardust center to typed settings that stay current.

The way of a value: ``client`` (raw map, disk copy) -> ``source`` (pydantic-settings) -> ``build`` (one validated object)
-> ``holder`` (accept or refuse, swap) -> ``handle`` (read, pin, callbacks). ``docs/settings.md`` is the guide.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stardust_auto.config.client import ConfigClient
    from stardust_auto.config.errors import ConfigError, ConfigUnavailable, InvalidSettings, Problem, SourceMissing
    from stardust_auto.config.explain import Contribution, Explanation
    from stardust_auto.config.feed import Feed
    from stardust_auto.config.handle import Live, live
    from stardust_auto.config.markers import CsvList, Local, Masked, Replace, Static
    from stardust_auto.config.memory import MemoryClient
    from stardust_auto.config.middleware import (
        StardustConfigMiddleware,
        StardustConfigWSGIMiddleware,
        django_middleware,
    )
    from stardust_auto.config.settings import StardustConfigDict, StardustSettings
    from stardust_auto.config.snapshot import RawSnapshot
    from stardust_auto.config.source import StardustSource, stardust_source
    from stardust_auto.config.status import ConfigStatus
    from stardust_auto.config.subscriptions import Subscription

_HOMES = {
    "ConfigClient": "client",
    "ConfigError": "errors",
    "ConfigStatus": "status",
    "ConfigUnavailable": "errors",
    "Contribution": "explain",
    "CsvList": "markers",
    "Explanation": "explain",
    "Feed": "feed",
    "InvalidSettings": "errors",
    "Live": "handle",
    "Local": "markers",
    "Masked": "markers",
    "MemoryClient": "memory",
    "Problem": "errors",
    "RawSnapshot": "snapshot",
    "Replace": "markers",
    "SourceMissing": "errors",
    "StardustConfigDict": "settings",
    "StardustConfigMiddleware": "middleware",
    "StardustConfigWSGIMiddleware": "middleware",
    "StardustSettings": "settings",
    "StardustSource": "source",
    "Static": "markers",
    "Subscription": "subscriptions",
    "django_middleware": "middleware",
    "live": "handle",
    "stardust_source": "source",
}

__all__ = [
    "ConfigClient",
    "ConfigError",
    "ConfigStatus",
    "ConfigUnavailable",
    "Contribution",
    "CsvList",
    "Explanation",
    "Feed",
    "InvalidSettings",
    "Live",
    "Local",
    "Masked",
    "MemoryClient",
    "Problem",
    "RawSnapshot",
    "Replace",
    "SourceMissing",
    "StardustConfigDict",
    "StardustConfigMiddleware",
    "StardustConfigWSGIMiddleware",
    "StardustSettings",
    "StardustSource",
    "Static",
    "Subscription",
    "django_middleware",
    "live",
    "stardust_source",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
