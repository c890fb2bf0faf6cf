"""Subclasses that stand for their original: same name, same documentation, equal to it."""

from __future__ import annotations

from typing import Any

_NAME: Any = type.__dict__["__name__"]


def _short_name(cls: type) -> str:
    return str(_NAME.__get__(cls)).rpartition(".")[2]


def _rename(cls: type, name: str) -> None:
    _NAME.__set__(cls, name)


class SameClass(type):
    """Makes a traced class equal to the one it stands for: ``type(connection) == sqlite3.Connection``, and tables by type work."""

    def __eq__(cls, other: object) -> bool:
        return cls is other or original_of(cls) is original_of(other)

    def __hash__(cls) -> int:
        return type.__hash__(original_of(cls))

    # A class written in C is "sqlite3.Connection" in error messages and "Connection" as __name__; ours too.
    __name__: Any = property(_short_name, _rename)


def original_of(kind: Any) -> Any:
    """The class that ``kind`` stands for; ``kind`` itself if it is none of ours."""
    return vars(kind).get("_stardust_original", kind) if isinstance(kind, SameClass) else kind


def derive(like: Any, bases: tuple[Any, ...], body: dict[str, Any], *, in_c: bool) -> Any:
    """A class with ``bases`` and ``body`` that stands for ``like``; without a dictionary of its own.

    ``in_c``: whether ``like`` is written in C, where the name in error messages includes the module.
    """
    kind: Any = type(like)
    meta: Any = SameClass if kind is type else type("SameClass", (SameClass, kind), {})
    named = {"__slots__": (), "__module__": like.__module__, "__qualname__": like.__qualname__, "__doc__": like.__doc__}
    name = f"{like.__module__}.{like.__name__}" if in_c else like.__name__
    return meta(name, bases, {**named, **body, "_stardust_original": like})
