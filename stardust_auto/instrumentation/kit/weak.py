"""What is worked out once for each object of somebody else's, and goes when the object goes."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerObject(dict[int, T]):
    """Maps the ``id`` of a live object to what ``make`` says of it, worked out by :meth:`of`.

    By identity, so that no ``__eq__`` or ``__hash__`` of the object's class runs. A dictionary, so that ``get(id(one))`` finds what is
    known at the least cost.
    """

    __slots__ = ("_make", "_references")

    def __init__(self, make: Callable[[Any], T]) -> None:
        super().__init__()
        self._make = make
        self._references: dict[int, Any] = {}

    def of(self, owner: Any) -> T:
        """What ``make(owner)`` returned when it was first asked. An object without weak references is asked for each time."""
        key = id(owner)
        if key in self:
            return self[key]
        value = self._make(owner)
        with contextlib.suppress(TypeError):  # no weak references: a reused id would go unnoticed
            self._references[key] = weakref.ref(owner, lambda _gone: self._forget(key))
            self[key] = value
        return value

    def _forget(self, key: int) -> None:
        self._references.pop(key, None)
        self.pop(key, None)
