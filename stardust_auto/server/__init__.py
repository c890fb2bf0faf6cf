"""An embedded server that speaks the platform's protocol (StarServer), with a console; needs the extra ``local``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stardust_auto.server.application import create_app
    from stardust_auto.server.embedded import EmbeddedServer
    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store import Store

__all__ = ["EmbeddedServer", "ServerSettings", "Store", "create_app"]

_HOMES = {
    "EmbeddedServer": "embedded",
    "ServerSettings": "settings",
    "Store": "store",
    "create_app": "application",
}


def __getattr__(name: str) -> object:
    """Import on first use: ``stardust_auto.server.local`` must not cost a web framework."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
