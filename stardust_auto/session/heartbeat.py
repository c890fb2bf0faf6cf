"""Keeps the login alive: a Ping each period, and one at once when something looks wrong (protocol.md §2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stardust_auto.errors import StardustError
from stardust_auto.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.process.background import Worker
    from stardust_auto.process.clock import Clock
    from stardust_auto.session.connection import Connection

logger = get_logger(__name__)

#: A new identity is taken at most this often.
_IDENTITY_SECONDS: Final = 300.0
#: Two checks follow each other at this distance at least: a path that always fails must not double the traffic.
_CHECK_SECONDS: Final = 1.0


class Heartbeat:
    """A task of the worker: logs in, pings each period, and comes back when the back-off of the connection is over.

    Args:
        on_checked: called after a Ping that was asked for; the token may be another one.
    """

    name = "heartbeat"

    def __init__(self, connection: Connection, worker: Worker, clock: Clock, *, on_checked: Callable[[], None]) -> None:
        self._connection = connection
        self._worker = worker
        self._clock = clock
        self._on_checked = on_checked
        self.reset()

    def reset(self) -> None:
        """As new, also in a forked child."""
        self._check = False
        self._reset = False
        self._identity_taken = float("-inf")
        self._last_check = float("-inf")

    def wake(self, delay: float = 0.0) -> None:
        """Run in ``delay`` seconds, if that is sooner than planned."""
        self._worker.schedule(self, delay, sooner=True)

    def check(self, *, reset: bool = False) -> None:
        """Ping now, whatever the period, because the push socket or an answer was lost.

        Args:
            reset: the socket was open, and was closed without a close frame.
        """
        self._check = True
        self._reset = self._reset or reset
        self.wake(max(0.0, self._last_check + _CHECK_SECONDS - self._clock.monotonic()))

    def run(self) -> float | None:
        """Ping when due."""
        connection = self._connection
        if connection.online and not self._check and connection.ping_due_in > 0:
            return connection.ping_due_in
        checking, reset = self._check, self._reset
        self._check = self._reset = False
        if checking:
            self._last_check = self._clock.monotonic()
        try:
            connection.beat()
            if reset and self._take_other_identity():
                connection.beat()
        except StardustError as error:
            logger.debug("heartbeat: %s", error)
            return max(0.1, connection.wait)
        if checking:
            self._on_checked()
        return connection.ping_due_in

    def finish(self, deadline: float) -> None:
        """Nothing: the session logs out."""

    def _take_other_identity(self) -> bool:
        # The server answers, but dropped our open socket without a close frame: another instance connected as us (§12.4).
        now = self._clock.monotonic()
        if now - self._identity_taken < _IDENTITY_SECONDS:
            return False
        self._identity_taken = now
        before = self._connection.account.client_id
        self._connection.use_other_identity()
        after = self._connection.account.client_id
        logger.warning("another instance uses the identity %s; this one is %s now", before, after)
        return True
