"""The agent's own errors as events of the application: what one instance logs, somebody at the platform can see."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Final

from stardust_auto.privacy import scrub
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.session.session import Session

#: The same kind of error is told at most once in this many seconds, and all kinds together as often as the limit says.
INTERVAL: Final = 3600.0
LIMIT: Final = 20
_REMARK: Final = 500


class ErrorEvents(logging.NullHandler):
    """Posts each warning and error of the logger ``stardust_auto`` as an event of type ``error``, within limits.

    A ``NullHandler``, since it is none of the application's: whether anybody reads the log does not depend on it.
    """

    def __init__(self, session: Session, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(logging.WARNING)
        self._session = weakref.ref(session)
        self._clock = clock
        self._told: dict[str, float] = {}

    def handle(self, record: logging.LogRecord) -> bool:
        """Take one line; never raises, never waits."""
        session = self._session()
        if session is None or record.levelno < logging.WARNING or hasattr(record, "stardust_state"):
            return False
        now = self._clock()
        kind = f"{record.name}:{record.msg}"[:_REMARK]
        if now - self._told.get(kind, float("-inf")) < INTERVAL:
            return False
        self._told = {kind: when for kind, when in self._told.items() if now - when < INTERVAL}
        if len(self._told) >= LIMIT:
            return False
        self._told[kind] = now
        try:
            text = " ".join(record.getMessage().split())
        except (TypeError, ValueError):
            text = str(record.msg)
        session.post_event("error", record.name, scrub(text, session.secrets)[:_REMARK])
        return True
