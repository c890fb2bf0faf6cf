"""The agent's own errors as events of the application: what one instance logs, somebody at the platform can see."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from stardust_auto.privacy import scrub
from stardust_auto.process.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stardust_auto.privacy import Secret
    from stardust_auto.process.clock import Clock

#: How long the same kind of error is not told again.
INTERVAL_SECONDS: Final = 3600.0
#: Kinds of errors told in that time.
LIMIT: Final = 20
_MAX_REMARK: Final = 500


class ErrorEvents(logging.NullHandler):
    """Posts each warning and error of the package as an event of type ``error``, within limits.

    A ``NullHandler``, since the application has not asked for it: a log that nobody reads must not look as if somebody did.

    Args:
        post_event: gets the kind, the name and the text of an event; never waits.
        secrets: what must not show up in a text.
    """

    def __init__(
        self,
        post_event: Callable[[str, str, str], None],
        secrets: Callable[[], Iterable[Secret | None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(logging.WARNING)
        self._post_event = post_event
        self._secrets = secrets
        self._clock = clock
        self._told: dict[str, float] = {}

    def handle(self, record: logging.LogRecord) -> bool:
        """Take one line; never raises, never waits."""
        if record.levelno < logging.WARNING or hasattr(record, "stardust_state"):
            return False
        now = self._clock.monotonic()
        kind = f"{record.name}:{record.msg}"[:_MAX_REMARK]
        self._told = {kind: when for kind, when in self._told.items() if now - when < INTERVAL_SECONDS}
        if kind in self._told or len(self._told) >= LIMIT:
            return False
        self._told[kind] = now
        try:
            text = " ".join(record.getMessage().split())
        except Exception:  # noqa: BLE001 - an argument whose __str__ raises
            text = str(record.msg)
        self._post_event("error", record.name, scrub(text, self._secrets())[:_MAX_REMARK])
        return True
