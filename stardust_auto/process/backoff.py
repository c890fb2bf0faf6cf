"""How long to wait after a failure: the one rule for everything that is tried again."""

from __future__ import annotations

import random
from typing import Final

from stardust_auto.process import fork


class _Generator(random.Random):
    def reset_after_fork(self) -> None:
        """The children of one process must not all come back at the same moment."""
        self.seed()


#: Random waits. The program may have seeded the generator of ``random``, and counts on what that one says next.
generator: Final = _Generator()
fork.register(generator)


class Backoff:
    """Waits that grow with each failure in a row.

    Args:
        first: seconds after the first failure.
        longest: seconds after many failures.
        factor: how much longer each wait is than the one before.
        jitter: share of a wait that is random, so that many instances do not come back at the same moment.
    """

    __slots__ = ("_factor", "_first", "_jitter", "_longest", "failures")

    def __init__(self, first: float, longest: float, *, factor: float = 2.0, jitter: float = 0.2) -> None:
        self._first = first
        self._longest = longest
        self._factor = factor
        self._jitter = jitter
        #: Failures since the last success.
        self.failures = 0

    def failed(self, *, at_least: float | None = None) -> float:
        """Note a failure; return the seconds to wait.

        Args:
            at_least: seconds that the server asked for (``Retry-After``). They are kept even where they exceed ``longest``.
        """
        # The exponent is bounded: 2.0 ** 2000 raises OverflowError.
        wait = min(self._longest, self._first * self._factor ** min(self.failures, 60))
        self.failures += 1
        wait *= 1 - self._jitter * generator.random()
        return wait if at_least is None else max(wait, at_least)

    def succeeded(self) -> None:
        """Begin again with the first wait."""
        self.failures = 0
