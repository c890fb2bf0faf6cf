"""Libraries as they were when the program imported them.

A test of the program may put something else in their place later (responses, vcrpy, ``unittest.mock``), for everybody who looks. So
modules of the agent keep what they use, and are imported as soon as the program has the library.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

#: Library, and the module of the agent that keeps what the agent uses of it.
ORIGINALS: Final = {
    "threading": "stardust_auto.process.thread",
    "socket": "stardust_auto.process.sockets",
    "http.client": "stardust_auto.transport.response",
}


def take_originals(library: str) -> None:
    """Keep what the agent uses of ``library``, which the program has imported. Never raises: the start of the agent says what is wrong."""
    try:
        import_module(ORIGINALS[library])
    except Exception as error:  # noqa: BLE001 - a library that is broken, or a stand-in of the program's own
        from stardust_auto.log import get_logger

        get_logger(__name__).debug("%s cannot be used: %s", library, error)
