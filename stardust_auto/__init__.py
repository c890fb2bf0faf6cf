"""Automatic tracing and typed, hot-reloading settings for Python on a Stardust platform.

All names are imported on first use (PEP 562): ``import stardust_auto`` alone costs next to nothing.

PYTEST_DONT_REWRITE: we bring a pytest plugin, so in an activated process pytest would warn that this module came before it.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stardust_auto.activation import activate
    from stardust_auto.config import (
        ConfigClient,
        CsvList,
        Live,
        Local,
        Masked,
        Replace,
        StardustConfigDict,
        StardustSettings,
        StardustSource,
        Static,
    )
    from stardust_auto.config.live.handle import live
    from stardust_auto.errors import (
        ApiError,
        BadReplyError,
        ConfigError,
        ConfigUnavailableError,
        EnvironmentVariableError,
        InvalidSettingsError,
        ServerError,
        SourceMissingError,
        StardustError,
        UnavailableError,
    )
    from stardust_auto.sdk.client import StardustClient
    from stardust_auto.sdk.tracer import StardustTracer
    from stardust_auto.tracing.builder import SpanBuilder
    from stardust_auto.tracing.span import Span, current_span

__all__ = [
    "ApiError",
    "BadReplyError",
    "ConfigClient",
    "ConfigError",
    "ConfigUnavailableError",
    "CsvList",
    "EnvironmentVariableError",
    "InvalidSettingsError",
    "Live",
    "Local",
    "Masked",
    "Replace",
    "ServerError",
    "SourceMissingError",
    "Span",
    "SpanBuilder",
    "StardustClient",
    "StardustConfigDict",
    "StardustError",
    "StardustSettings",
    "StardustSource",
    "StardustTracer",
    "Static",
    "UnavailableError",
    "__version__",
    "activate",
    "current_span",
    "live",
]

_HOMES = {
    **dict.fromkeys(
        (name for name in __all__ if name.endswith("Error")),
        "stardust_auto.errors",
    ),
    "Span": "stardust_auto.tracing.span",
    "current_span": "stardust_auto.tracing.span",
    "SpanBuilder": "stardust_auto.tracing.builder",
    "StardustClient": "stardust_auto.sdk.client",
    "StardustTracer": "stardust_auto.sdk.tracer",
    "activate": "stardust_auto.activation",
    "live": "stardust_auto.config.live.handle",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES.get(name, "stardust_auto.config")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
