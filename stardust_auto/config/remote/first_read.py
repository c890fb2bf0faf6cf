"""The first read after ``start()`` waits for the center: once, for a bounded time, and never on an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stardust_auto.log import get_logger
from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.process.loops import loop_is_running

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)

#: How long the first reads of one client wait for the center, all together.
FIRST_READ_SECONDS: Final = 3.0


class FirstRead:
    """The wait of one client.

    Args:
        name: the application, for the log.
        wait_loaded: waits for at most so many seconds.
    """

    def __init__(self, name: str, wait_loaded: Callable[[float], bool]) -> None:
        self._name = name
        self._wait_loaded = wait_loaded
        self._deadline = 0.0
        self._logged = False

    def wait(self) -> None:
        """Wait for the first answer. Later calls wait for what is left of the time, which is nothing for a dead server."""
        now = SYSTEM_CLOCK.monotonic()
        self._deadline = self._deadline or now + FIRST_READ_SECONDS
        if now < self._deadline:
            self._wait_loaded(self._deadline - now)

    def wait_unless_on_loop(self) -> None:
        """As :meth:`wait`; on an event loop return at once, and log so once."""
        if not loop_is_running():
            self.wait()
        elif not self._logged:
            self._logged = True
            logger.warning(
                "settings of %s are read on an event loop before they are loaded: values come from memory; await astart() first",
                self._name,
            )
