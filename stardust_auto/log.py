"""The one logger of the package. The application decides where its lines go."""

from __future__ import annotations

import logging
from typing import Final

#: The logger of the package. All others are its children, so an application sets one level and one handler.
logger = logging.getLogger("stardust_auto")

#: ``extra=`` of a line that says how the connection with the server stands; such a line is not reported to that server.
STATE: Final = {"stardust_state": True}


def get_logger(module: str) -> logging.Logger:
    """The logger of a module: ``get_logger(__name__)``. Its name is the prefix of its lines; no text repeats it.

    Levels: INFO a change for the better, WARNING one for the worse or data lost, ERROR refused settings, DEBUG the rest.
    """
    return logging.getLogger(module)


def tell(level: int, message: str, *args: object) -> None:
    """A line that must be seen: of a program that never configured logging it goes to stderr, as the logging module does by default.

    Lines about the network are silent there (the session's NullHandler). That a published value was refused is not about the network:
    somebody waits for it to take effect.
    """
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(logger.name, level, __file__, 0, message, args, None)
    logger.handle(record)
    if not _heard() and logging.lastResort is not None and not logger.disabled and level >= logging.lastResort.level:
        logging.lastResort.handle(record)


def _heard() -> bool:
    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return True
        if not current.propagate:
            return True  # silenced on purpose
        current = current.parent
    return False
