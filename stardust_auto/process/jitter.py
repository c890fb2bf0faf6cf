"""Random waits, from a generator of our own: the program may have seeded its, and counts on what that says next."""

from __future__ import annotations

import random

from stardust_auto.process.fork import after_fork_in_child

generator = random.Random()  # noqa: S311 - waits are no secrets
# The children of one process must not all come back at the same moment.
after_fork_in_child(generator.seed)
