"""What each library that can be traced is like in this interpreter: imported here and now, so that the answer is real.

Runs inside the examined interpreter (see ``probe.py``), so it needs none of the command line's own packages.
"""

from __future__ import annotations

import importlib
import importlib.util

from stardust_auto.agent import active_options
from stardust_auto.instrumentation.registry import Status, registry
from stardust_auto.instrumentation.targets import TARGET_MODULES


def examine_libraries() -> list[dict[str, object]]:
    """Import every target that is installed, then ask the registry for its state, version and who wrapped it.

    ``state`` is one of the registry's, or ``absent`` (not installed), or ``broken`` (its own import fails).
    """
    if active_options() is None:
        return []
    # Ours first: the first of them brings in the integrations of other distributions, and the registry then knows those.
    troubles = {name: _import(name) for name in TARGET_MODULES}
    troubles |= {status.module: _import(status.module) for status in registry.states()}
    return [_row(status, troubles[status.module]) for status in registry.states()]


def _import(name: str) -> tuple[str, str] | None:
    top = name.partition(".")[0]
    try:
        if importlib.util.find_spec(top) is None:
            return "absent", "not installed"
        importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name == name:
            return "absent", f"this version has no {name}"
        return "broken", str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever an import of somebody else's library raises is the finding
        return "broken", f"{type(exc).__name__}: {exc}"
    return None


def _row(status: Status, trouble: tuple[str, str] | None) -> dict[str, object]:
    state, reason = trouble if trouble is not None else (status.state, status.reason)
    return {
        "library": status.module,
        "integration": status.integration,
        "version": status.version,
        "state": state,
        "reason": reason,
        "hooks": list(status.attributes),
        "covered": [list(pair) for pair in status.covered],
        "faults": status.faults,
    }
