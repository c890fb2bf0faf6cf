"""When a target library is imported, its integration patches it: hooks, version gate, states, switches."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration, Status, numbers, version_of
from stardust_auto.instrumentation.kit.patches import Patches, PatchTable
from stardust_auto.instrumentation.targets import TARGETS
from stardust_auto.log import get_logger
from stardust_auto.tracing.propagation import PropagationRule

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.tracing.tracer import Tracer

__all__ = ["GROUP", "Integration", "Registry", "Status", "install", "registry"]

#: Entry-point group of integrations in other distributions: name = target module, value = an :class:`Integration`.
GROUP = "stardust_auto.instrumentation"
_log = get_logger(__name__)


class Registry:
    """All integrations of the process."""

    def __init__(self) -> None:
        self._table = PatchTable()
        self._targets: dict[str, str] = dict(TARGETS)
        self._foreign: dict[str, Any] = {}
        self._patches: dict[str, Patches] = {}
        self._states: dict[str, tuple[str, str]] = {}
        self._disabled: dict[str, str] = {}
        self._armed: set[str] = set()
        self._get_tracer: Callable[[], Tracer] | None = None
        self._settings: AgentSettings | None = None
        self._tracer: Tracer | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def install(self, get_tracer: Callable[[], Tracer], settings: AgentSettings) -> None:
        """Patch the targets that are imported now, and each other one on its import. A second call exchanges tracer and settings."""
        from wrapt import register_post_import_hook

        self._get_tracer, self._settings, self._tracer = get_tracer, settings, None
        self._find_foreign()
        for patches in self._patches.values():
            self._equip(patches)
        for module in self._targets:
            if module in self._armed:
                self._on_import(module, sys.modules.get(module))
            else:
                self._armed.add(module)
                register_post_import_hook(functools.partial(self._on_import, module), module)
        self.patches("registry").wrap(importlib, "reload", self._reload)

    def uninstall(self) -> None:
        """Put all originals back. The import hooks stay, and do nothing."""
        self._get_tracer = self._tracer = None
        for patches in self._patches.values():
            patches.switch(None)
            patches.restore()
        self._states.clear()

    def patches(self, name: str) -> Patches:
        """What the integration ``name`` works with."""
        patches = self._patches.get(name)
        if patches is None:
            patches = self._patches[name] = Patches(name, self._table)
            self._equip(patches)
        return patches

    def _equip(self, patches: Patches) -> None:
        settings = self._settings
        if self._get_tracer is None or settings is None:
            return
        if self._tracer is None:
            self._tracer = self._get_tracer()
            hosts = (server.partition("://")[2].partition("/")[0].rpartition("@")[2] for server in settings.servers)
            self._rule = PropagationRule(settings.propagate_to, [host.partition(":")[0] for host in hosts])
        on = patches.name not in self._disabled and settings.instrumented(patches.name)
        patches.switch(self._tracer if on else None)
        patches.settings, patches.propagation = settings, self._rule
        if not on:
            patches.restore()

    # -- hooks -------------------------------------------------------------------------------------------------------

    def _on_import(self, target: str, module: ModuleType | None) -> None:
        """Patch ``target``, whose import has ended. An error of the integration never reaches the import."""
        if module is None or self._get_tracer is None:
            return
        try:
            self._states[target] = self._patch(target, module)
        except Exception as error:  # noqa: BLE001 - the program's import must not fail because of the agent; doctor shows it
            self._states[target] = ("failed", f"{type(error).__name__}: {error}")
            _log.warning("%s is not traced: %s: %s", target, type(error).__name__, error)

    def _patch(self, target: str, module: ModuleType) -> tuple[str, str]:
        name = self._targets[target]
        settings = self._settings
        if settings is not None and not settings.instrumented(name):
            return "off", f"switched off (STARDUST_INSTRUMENT_{name.upper()} or STARDUST_INSTRUMENT)"
        if name in self._disabled:
            return "disabled", self._disabled[name]
        integration = self._integration(name, target)
        top = target.partition(".")[0]
        least = integration.supports.get(top)
        if least is not None and numbers(version := version_of(top)) < least:
            return "unsupported", f"version {version} is older than {'.'.join(map(str, least))}"
        patches = self.patches(name)
        patches.target = target
        integration.targets[target](module, patches)
        return "hooked", ""

    def _integration(self, name: str, target: str) -> Integration:
        entry = self._foreign.get(target)
        loaded = entry.load() if entry is not None else importlib.import_module(f"{__package__}.{name}").INTEGRATION
        if not isinstance(loaded, Integration):
            raise TypeError(f"entry point {target} of {GROUP} is not an Integration")
        return loaded

    def _reload(self, plain: Callable[[ModuleType], ModuleType]) -> Callable[[ModuleType], ModuleType]:
        @functools.wraps(plain)
        def reload(module: ModuleType) -> ModuleType:
            fresh = plain(module)
            if getattr(fresh, "__name__", None) in self._targets:
                self._on_import(fresh.__name__, fresh)
            return fresh

        return reload

    def _find_foreign(self) -> None:
        from importlib.metadata import entry_points

        if self._foreign:
            return
        try:
            found = entry_points(group=GROUP)
        except Exception as error:  # noqa: BLE001 - broken metadata of some distribution
            _log.debug("entry points cannot be read: %s", error)
            return
        for entry in found:
            if entry.name not in TARGETS:
                self._foreign[entry.name] = entry
                self._targets[entry.name] = entry.name

    # -- switches ----------------------------------------------------------------------------------------------------

    def disable(self, name: str, reason: str = "at run time") -> bool:
        """See :func:`stardust_auto.instrumentation.disable`."""
        if name not in self._targets.values():
            return False
        self._disabled[name] = reason
        patches = self.patches(name)
        patches.switch(None)
        for patch in patches.restore():
            _log.info("%s stays: %s wrapped it again", patch.where, patch.covered_by)
        for target, integration in self._targets.items():
            if integration == name and target in self._states:
                self._states[target] = ("disabled", reason)
        return True

    def enable(self, name: str) -> bool:
        """See :func:`stardust_auto.instrumentation.enable`."""
        if name not in self._targets.values():
            return False
        self._disabled.pop(name, None)
        patches = self.patches(name)
        self._equip(patches)
        for target, integration in self._targets.items():
            if integration == name and target in sys.modules:
                self._on_import(target, sys.modules[target])
        return True

    # -- reports -----------------------------------------------------------------------------------------------------

    def states(self) -> tuple[Status, ...]:
        """One line for each target, in the order of the table."""
        return tuple(self._status(target, name) for target, name in self._targets.items())

    def _status(self, target: str, name: str) -> Status:
        state, reason = self._states.get(target, ("waiting", "not imported"))
        patches = self._patches.get(name)
        if state == "hooked" and patches is not None and patches.paused:
            state, reason = "paused", f"its own code failed: {patches.last_fault}"
        top = target.partition(".")[0]
        mine = patches.patched(target) if patches is not None else []
        return Status(
            integration=name,
            module=target,
            state=state,
            version=version_of(top) if top in sys.modules and state != "waiting" else "",
            reason=reason,
            attributes=tuple(patch.where for patch in mine),
            covered=tuple((patch.where, patch.covered_by) for patch in mine if patch.covered_by),
            faults=patches.faults if patches else 0,
        )


registry = Registry()
install = registry.install
