"""The only place that replaces attributes of other people's objects, and puts them back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.tracing.propagation import PropagationRule
    from stardust_auto.tracing.tracer import Tracer

#: After so many exceptions in its own code an integration puts the originals back.
MAX_FAULTS = 5
_ABSENT = object()
_log = get_logger(__name__)


@dataclass(slots=True)
class Patch:
    """One replaced attribute. ``users``: the integrations that need it; it goes when the last one goes."""

    owner: Any
    attribute: str
    original: Any
    wrapper: Any
    users: set[str]

    @property
    def where(self) -> str:
        """``package.module:Class.attribute``."""
        owner = self.owner
        if isinstance(owner, type):
            return f"{owner.__module__}:{owner.__qualname__}.{self.attribute}"
        return f"{getattr(owner, '__name__', owner)}:{self.attribute}"

    @property
    def current(self) -> Any:
        """What the attribute is now, without binding it."""
        return vars(self.owner).get(self.attribute, _ABSENT)

    @property
    def covered_by(self) -> str:
        """The module of whoever wrapped or replaced on top of us; ``""`` if nobody did."""
        current = self.current
        if current is self.wrapper:
            return ""
        if current is _ABSENT or current is self.original:
            return "(put back)"
        return str(getattr(current, "__module__", None) or type(current).__module__)


class PatchTable:
    """All patches of the process."""

    __slots__ = ("_patches",)

    def __init__(self) -> None:
        self._patches: dict[tuple[int, str], Patch] = {}

    def apply(self, user: str, owner: Any, attribute: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.attribute`` by ``make(original)``; nothing happens where our wrapper already stands."""
        key = (id(owner), attribute)
        known = self._patches.get(key)
        if known is not None and known.owner is owner and known.covered_by != "(put back)":
            known.users.add(user)
            return
        raw = vars(owner).get(attribute, _ABSENT)
        original = getattr(owner, attribute) if raw is _ABSENT else raw
        wrapper = make(original)
        setattr(owner, attribute, wrapper)
        self._patches[key] = Patch(owner, attribute, raw, wrapper, {user})

    def withdraw(self, user: str) -> list[Patch]:
        """Put back what only ``user`` needed. What somebody wrapped on top of is left as it is and returned."""
        left = []
        for key, patch in list(self._patches.items()):
            patch.users.discard(user)
            if patch.users:
                continue
            covered = patch.covered_by
            if covered == "":
                if patch.original is _ABSENT:
                    delattr(patch.owner, patch.attribute)
                else:
                    setattr(patch.owner, patch.attribute, patch.original)
            elif covered != "(put back)":
                patch.users.add(user)
                left.append(patch)
                continue
            del self._patches[key]
        return left

    def of(self, user: str) -> list[Patch]:
        """The patches that ``user`` needs."""
        return [patch for patch in self._patches.values() if user in patch.users]


class Patches:
    """What one integration is given to work with.

    ``tracer`` is ``None`` while the integration is off: a wrapper that cannot be taken away (somebody wrapped on top) then only calls
    through.
    """

    __slots__ = ("_on_break", "_table", "faults", "last_fault", "name", "propagation", "tracer")

    def __init__(self, name: str, table: PatchTable, on_break: Callable[[str], None]) -> None:
        self.name = name
        self.tracer: Tracer | None = None
        self.propagation: PropagationRule | None = None
        self.faults = 0
        self.last_fault = ""
        self._table = table
        self._on_break = on_break

    def wrap(self, owner: Any, attribute: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.attribute`` (a class's or a module's) by ``make(original)``, once; see :meth:`restore`."""
        self._table.apply(self.name, owner, attribute, make)

    def restore(self) -> list[Patch]:
        """Put the original objects back; returns the patches that had to stay because somebody wrapped on top of them."""
        return self._table.withdraw(self.name)

    def patched(self) -> list[Patch]:
        """Everything this integration has replaced."""
        return self._table.of(self.name)

    def module(self, name: str) -> ModuleType | None:
        """A module that is imported already; integrations never import one."""
        return sys.modules.get(name)

    def fault(self, error: Exception) -> None:
        """Note an exception in the integration's own code. The fifth one takes the integration out, and says so once."""
        self.faults += 1
        self.last_fault = f"{type(error).__name__}: {error}"
        if self.faults == MAX_FAULTS:
            self._on_break(self.name)
            _log.warning("integration %s failed %d times and is now off: %s", self.name, MAX_FAULTS, self.last_fault)
        elif self.faults == 1:
            _log.debug("integration %s failed", self.name, exc_info=error)
