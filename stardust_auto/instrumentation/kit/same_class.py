"""Subclasses that stand for their original: same name, same documentation, equal to it, and pickled as it.

A class of the program is not told of its new subclass: neither its ``__init_subclass__`` nor its metaclass runs for it.
What the program sets on the subclass (``type(self).count += 1``) is set on its own class.
"""

from __future__ import annotations

import copyreg
import functools
import typing
import weakref
from typing import Any

_NAME: Any = type.__dict__["__name__"]
#: ``id`` of a class made here -> the class that it stands for, and the reference that removes the entry.
#: Not an attribute, since ``dir`` shows those.
_ORIGINALS: dict[int, tuple[Any, Any]] = {}


class SameClass(type):
    """Makes a traced class equal to the one it stands for: ``type(connection) == sqlite3.Connection``, and tables by type work."""

    def __eq__(cls, other: object) -> bool:
        return cls is other or original_of(cls) is original_of(other)

    def __hash__(cls) -> int:
        return type.__hash__(original_of(cls))

    def __setattr__(cls, name: str, value: Any) -> None:
        setattr(original_of(cls), name, value)

    def __delattr__(cls, name: str) -> None:
        delattr(original_of(cls), name)

    # A class written in C is "sqlite3.Connection" in error messages and "Connection" as __name__; ours too.
    __name__: Any = property(lambda cls: str(_NAME.__get__(cls)).rpartition(".")[2])


class _Quiet:
    """Stands before a class of the program, whose ``__init_subclass__`` then hears of its own subclasses only."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        if cls.__bases__[0] is not _Quiet:  # a class of the program's own, below one that is made here
            super().__init_subclass__(**options)


def original_of(kind: Any) -> Any:
    """The class that ``kind`` stands for; ``kind`` itself if it is none of ours."""
    known = _ORIGINALS.get(id(kind))
    return known[0] if known is not None else kind


def derive(like: Any, bases: tuple[Any, ...], body: dict[str, Any], *, in_c: bool) -> Any:
    """A class with ``bases`` and ``body`` that stands for ``like``; without a dictionary of its own.

    ``in_c``: whether ``like`` is written in C, where the name in error messages includes the module.
    """
    named = {"__slots__": (), "__module__": like.__module__, "__qualname__": like.__qualname__, "__doc__": like.__doc__}
    name = f"{like.__module__}.{like.__name__}" if in_c else like.__name__
    bases = bases if in_c else (_Quiet, *bases)
    kind: Any = type(like)
    made = type.__new__(
        _metaclass(kind), name, bases, {**named, **body}
    )  # not by a call, which runs the program's metaclass
    key = id(made)
    _ORIGINALS[key] = (like, weakref.ref(made, lambda _gone: _ORIGINALS.pop(key, None)))
    return made


@functools.lru_cache(maxsize=128)
def _metaclass(kind: Any) -> Any:
    meta: Any = SameClass if kind is type else type("SameClass", (SameClass, kind), {})
    # ``typing.cast(None, original)`` is the original: the pickle is read without this package, too.
    copyreg.pickle(meta, lambda made: (typing.cast, (None, original_of(made))))
    return meta
