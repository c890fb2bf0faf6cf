"""The loggers of the package, and where their lines go.

Every module logs through ``get_logger(__name__)``. All of them are children of ``stardust_auto``:
one level and one handler are enough.
Levels: ``INFO`` a change for the better, ``WARNING`` a change for the worse or data lost, ``ERROR`` refused settings, ``DEBUG`` the rest.
No text begins with the name of the library: the logger's name says it.
"""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["STATE", "get_logger", "log_to_stderr", "package_logger", "tell"]

#: Parent of all loggers of the package.
package_logger = logging.getLogger("stardust_auto")
#: Without a handler, the logging module would print warnings to the program's stderr.
package_logger.addHandler(logging.NullHandler())

#: ``extra=`` of a line about the connection with the server. Such a line is not reported to that server.
STATE: Final = {"stardust_state": True}


def get_logger(module: str) -> logging.Logger:
    """The logger of a module: ``get_logger(__name__)``."""
    return logging.getLogger(module)


def log_to_stderr(level: str) -> None:
    """Write the lines of all loggers of the package to stderr, from ``level`` on, and nowhere else. A second call changes the level."""
    if not any(isinstance(handler, _StderrHandler) for handler in package_logger.handlers):
        package_logger.addHandler(_StderrHandler())
        package_logger.propagate = False
    package_logger.setLevel(level.upper())


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg] # generic in the stubs only
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("stardust-auto: %(levelname)s %(name)s [%(process)d] %(message)s"))


def tell(log: logging.Logger, level: int, message: str, *args: object) -> None:
    """Log a line that somebody waits for, such as a refused setting.

    If the program has not configured logging, the line goes to stderr, as lines of loggers without our ``NullHandler`` do.
    """
    if not log.isEnabledFor(level):
        return
    log.log(level, message, *args, stacklevel=2)
    last = logging.lastResort
    if last is not None and level >= last.level and not _is_heard(log):
        last.handle(log.makeRecord(log.name, level, __file__, 0, message, args, None))


def _is_heard(log: logging.Logger) -> bool:
    """Whether a handler of the program gets the lines of ``log``, or the program keeps them from every handler."""
    current: logging.Logger | None = log
    while current is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return True
        if not current.propagate:
            return True
        current = current.parent
    return False
