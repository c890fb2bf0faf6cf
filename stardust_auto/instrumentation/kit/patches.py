"""The only place that replaces attributes of a library's objects, and puts them back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.environment.settings import AgentSettings
from stardust_auto.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.tracing.propagation import PropagationRule
    from stardust_auto.tracing.tracer import Tracer

#: So many exceptions of an integration's own code within the window switch it off for a time. One by one they only skip a call.
MAX_FAULTS = 50
FAULT_WINDOW_NS = 10_000_000_000
#: How long it is off the first time; doubled each time, up to the second figure.
FIRST_PAUSE_NS = 60_000_000_000
LONGEST_PAUSE_NS = 3_600_000_000_000
_ABSENT = object()
_log = get_logger(__name__)


@dataclass(slots=True)
class Patch:
    """One replaced attribute.

    ``users``: the integrations that need it, each with the targets that asked for it. It goes when the last integration goes.
    """

    owner: Any
    attribute: str
    original: Any
    wrapper: Any
    users: dict[str, set[str]]

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

    def apply(self, user: str, target: str, owner: Any, attribute: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.attribute`` by ``make(original)``; nothing happens where our wrapper already stands."""
        from wrapt import apply_patch

        key = (id(owner), attribute)
        known = self._patches.get(key)
        if known is not None and known.owner is owner and known.covered_by != "(put back)":
            known.users.setdefault(user, set()).add(target)
            return
        raw = vars(owner).get(attribute, _ABSENT)
        original = getattr(owner, attribute) if raw is _ABSENT else raw
        wrapper = make(original)
        apply_patch(owner, attribute, wrapper)
        self._patches[key] = Patch(owner, attribute, raw, wrapper, {user: {target}})

    def withdraw(self, user: str) -> list[Patch]:
        """Put back what only ``user`` needed. What somebody wrapped on top of is left as it is and returned."""
        left = []
        for key, patch in list(self._patches.items()):
            targets = patch.users.pop(user, set())
            if patch.users:
                continue
            covered = patch.covered_by
            if covered == "":
                if patch.original is _ABSENT:
                    delattr(patch.owner, patch.attribute)
                else:
                    setattr(patch.owner, patch.attribute, patch.original)
            elif covered != "(put back)":
                patch.users[user] = targets
                left.append(patch)
                continue
            del self._patches[key]
        return left

    def of(self, user: str, target: str) -> list[Patch]:
        """The patches that ``user`` made for ``target``."""
        return [patch for patch in self._patches.values() if target in patch.users.get(user, ())]


class Patches:
    """What one integration is given to work with.

    Attributes:
        tracer: ``None`` while the integration is off. A wrapper that could not be taken away (somebody wrapped on top) then calls through.
        settings: the ``STARDUST_*`` variables of the process.
        target: the module that is being patched, or was patched last.
        propagation: which hosts may receive trace headers.
        faults: exceptions of the integration's own code so far; ``last_fault`` describes the newest.
    """

    __slots__ = (
        "_pause_ns",
        "_paused",
        "_paused_until",
        "_table",
        "_window",
        "_window_faults",
        "faults",
        "last_fault",
        "name",
        "propagation",
        "settings",
        "target",
        "tracer",
    )

    def __init__(self, name: str, table: PatchTable) -> None:
        self.name = name
        self.target = ""
        self.settings = AgentSettings()
        self.propagation: PropagationRule | None = None
        self._table = table
        self.switch(None)

    def switch(self, tracer: Tracer | None) -> None:
        """Trace with ``tracer`` from now on, with a clean record of faults; ``None``: only call through."""
        self.tracer = tracer
        self.faults = 0
        self.last_fault = ""
        self._window = self._window_faults = self._paused_until = 0
        self._pause_ns = FIRST_PAUSE_NS
        self._paused: Tracer | None = None

    def wrap(self, owner: Any, attribute: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.attribute`` (a class's or a module's) by ``make(original)``, once; see :meth:`restore`.

        ``make`` returns a plain function. A wrapt wrapper is an object: ``type()`` tells it from a function, and it cannot be pickled.
        """
        self._table.apply(self.name, self.target, owner, attribute, make)

    def restore(self) -> list[Patch]:
        """Put the original objects back; returns the patches that had to stay because somebody wrapped on top of them."""
        return self._table.withdraw(self.name)

    def patched(self, target: str) -> list[Patch]:
        """What this integration has replaced for the module ``target``."""
        return self._table.of(self.name, target)

    def module(self, name: str) -> ModuleType | None:
        """A module that is imported already; integrations never import one."""
        return sys.modules.get(name)

    @property
    def paused(self) -> bool:
        """Whether too many faults have switched the integration off for a time."""
        return self._paused is not None

    def resume(self) -> Tracer | None:
        """The tracer, once a pause is over; ``None`` while there is one, or the integration is off for another reason."""
        tracer = self._paused
        if tracer is None or tracer.now() < self._paused_until:
            return None
        self._window = self._window_faults = 0
        self.tracer, self._paused = tracer, None
        _log.info("integration %s is on again", self.name)
        return tracer

    def fault(self, error: Exception) -> None:
        """Note an exception of the integration's own code. The call goes on without a span; :data:`MAX_FAULTS` in a row pause it."""
        self.faults += 1
        self.last_fault = f"{type(error).__name__}: {error}"
        if self.faults == 1:
            _log.debug("integration %s failed", self.name, exc_info=error)
        tracer = self.tracer
        if tracer is None:
            return
        now = tracer.now()
        if not self._window_faults or now - self._window > FAULT_WINDOW_NS:
            self._window, self._window_faults = now, 0
        self._window_faults += 1
        if self._window_faults >= MAX_FAULTS:
            self._paused_until = now + self._pause_ns
            self.tracer, self._paused = None, tracer
            _log.warning(
                "integration %s is off for %d s: its own code failed %d times within %d s, last with %s",
                self.name,
                self._pause_ns // 1_000_000_000,
                MAX_FAULTS,
                FAULT_WINDOW_NS // 1_000_000_000,
                self.last_fault,
            )
            self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)
