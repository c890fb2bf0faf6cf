"""What integrations are made of. Read the modules in this order:

``contract``  what an integration is, and what ``doctor`` shows of it
``patches``   what an integration is handed: replace, restore, count faults
``calls``     wrappers of calls: ``leaf``, ``spanned``, ``adjusted``, each for sync and async
``outbound``  HTTP requests that the program sends; ``urllib3_wire``: what goes over a connection of urllib3
``inbound``   requests that the program answers
``database``  statements; ``dbapi``: drivers that follow PEP 249
``cover``     which outer call names the span
``weak``      what is known of somebody else's object
``caller``, ``same_class``: how a wrapper stays out of sight in warnings and types

An integration imports this room, ``tracing``, ``privacy``, ``log`` and ``process``, and never another integration.
The names in ``__all__`` are for integrations in other distributions, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stardust_auto.instrumentation.kit.calls import adjusted, leaf, spanned
    from stardust_auto.instrumentation.kit.contract import Integration
    from stardust_auto.instrumentation.kit.covering import cover
    from stardust_auto.instrumentation.kit.dbapi import trace_cursors
    from stardust_auto.instrumentation.kit.patches import Patches

__all__ = ["Integration", "Patches", "adjusted", "cover", "leaf", "spanned", "trace_cursors"]

_HOMES = {
    "Integration": "contract",
    "Patches": "patches",
    "adjusted": "calls",
    "cover": "covering",
    "leaf": "calls",
    "spanned": "calls",
    "trace_cursors": "dbapi",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
