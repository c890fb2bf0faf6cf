"""What a build under way needs to know, handed to the source by a context variable: no argument of pydantic-settings carries it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_settings import BaseSettings

    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.config.typed.source import StardustSource


class Build:
    """Input and by-products of one build of one class."""

    __slots__ = ("raw", "settings_cls", "source", "sources")

    def __init__(self, settings_cls: type[BaseSettings], raw: RawSnapshot) -> None:
        self.settings_cls = settings_cls
        self.raw = raw
        self.source: StardustSource | None = None
        self.sources: tuple[Any, ...] = ()

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        """What each source gave, strongest first; complete after the build, since the framework fills one dict."""
        return self.source.settings_sources_data if self.source is not None else {}


_current: ContextVar[Build | None] = ContextVar("stardust_settings_build", default=None)


def building(settings_cls: type[BaseSettings]) -> Build | None:
    """The build under way of exactly this class."""
    build = _current.get()
    return build if build is not None and build.settings_cls is settings_cls else None


@contextmanager
def build_of(settings_cls: type[BaseSettings], raw: RawSnapshot) -> Iterator[Build]:
    build = Build(settings_cls, raw)
    token = _current.set(build)
    try:
        yield build
    finally:
        _current.reset(token)
