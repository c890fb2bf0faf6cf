"""``/Api`` and ``/``: anonymous signs of life (protocol.md §2.7)."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from stardust_auto.wire.fields import local_text

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call


def api(call: Call) -> dict[str, Any]:
    """GET /Api?state=x: nothing but the state echoed and the time; no version for strangers to look up."""
    return {
        "name": "StardustAuto",
        "title": "stardust_auto embedded server",
        "fileVersion": "",
        "compile": "",
        "os": "Windows" if os.name == "nt" else platform.system() or "Unix",
        "userHost": call.address,
        "remote": call.address,
        "port": call.services.port,
        "time": local_text(call.services.store.clock()),
        "state": call.query.get("state"),
    }


def root(_call: Call) -> dict[str, Any]:
    """GET /: no envelope."""
    return {"message": "StarServer is running. The console is at /console/.", "agent": None}
