"""Subclasses that stand for their original: same name, same documentation, equal to it."""

from __future__ import annotations

from typing import Any


class _SameClass(type):
    """Makes a traced class equal to the one it stands for: ``type(connection) == sqlite3.Connection``, and tables by type work."""

    def __eq__(cls, other: object) -> bool:
        return cls is other or original_of(cls) is original_of(other)

    def __hash__(cls) -> int:
        return type.__hash__(original_of(cls))


def original_of(kind: Any) -> Any:
    """The class that ``kind`` stands for; ``kind`` itself if it is none of ours."""
    return vars(kind).get("_stardust_original", kind) if isinstance(kind, _SameClass) else kind


def derive(like: Any, bases: tuple[Any, ...], body: dict[str, Any]) -> Any:
    """A class with ``bases`` and ``body`` that stands for ``like``; no instance dictionary, no weak references of its own."""
    meta: Any = _SameClass if type(like) is type else type(_SameClass.__name__, (_SameClass, type(like)), {})
    named = {"__slots__": (), "__module__": like.__module__, "__qualname__": like.__qualname__, "__doc__": like.__doc__}
    return meta(like.__name__, bases, {**named, **body, "_stardust_original": like})
