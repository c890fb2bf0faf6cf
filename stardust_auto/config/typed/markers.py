"""Marks for fields, used as ``Annotated`` metadata: ``bind_port: Annotated[int, Static, Local] = 8080``."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

_T = TypeVar("_T")


class Marker:
    """A field mark. Compare by identity; the name is for messages."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


Static: Final = Marker("Static")
"""Needs a restart: a change is listed in ``status.pending_restart``, the running value stays."""

Local: Final = Marker("Local")
"""Never taken from the center (bind address, bootstrap secret): environment, files and defaults only."""

Replace: Final = Marker("Replace")
"""A dict that a stronger source replaces as a whole, where dicts are merged key by key otherwise."""

Masked: Final = Marker("Masked")
"""Shown as ``***`` everywhere, though its type is not ``SecretStr``."""


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        import json

        try:
            return json.loads(text)
        except ValueError:
            return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


CsvList = Annotated[list[_T], NoDecode, BeforeValidator(_split)]
"""A list that is also read from ``a, b, c``; JSON arrays stay possible, and ``""`` is the empty list."""
