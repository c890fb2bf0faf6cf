"""One file per library: receives the imported module, tells the tracer what happened, never imports its target.

``registry`` is the only place that patches, restores, checks versions and knows the state of each integration.
"""

from __future__ import annotations

__all__ = ["disable", "enable", "states"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stardust_auto.instrumentation.kit.contract import Status


def disable(name: str) -> bool:
    """Put the original objects of the integration ``name`` back, now. ``False`` if there is no such integration."""
    from stardust_auto.instrumentation.registry import registry

    return registry.disable(name)


def enable(name: str) -> bool:
    """Undo :func:`disable`: patch again what is imported, wait for the rest. ``False`` if there is no such integration."""
    from stardust_auto.instrumentation.registry import registry

    return registry.enable(name)


def states() -> tuple[Status, ...]:
    """State of each target module: hooked or why not, version, who wrapped on top."""
    from stardust_auto.instrumentation.registry import registry

    return registry.states()
