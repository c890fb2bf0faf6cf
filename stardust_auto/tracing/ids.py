"""Span and trace ids: random integers, written as hex only where they leave the process."""

from __future__ import annotations

import random


class IdGenerator:
    """64-bit span ids and 128-bit trace ids from a private generator.

    The generator is private, so that ``random.seed(0)`` in the program cannot make ids collide. :meth:`reseed` gives a forked child a
    sequence of its own.
    """

    __slots__ = ("_random", "bits")

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - ids are names, not secrets
        self.bits = self._random.getrandbits

    def reseed(self) -> None:
        """Start a new sequence from the operating system's entropy."""
        self._random = random.Random()  # noqa: S311 - as above
        self.bits = self._random.getrandbits

    def span_id(self) -> int:
        """A non-zero 64-bit integer."""
        return self.bits(64) or 1

    def trace_id(self) -> int:
        """A non-zero 128-bit integer."""
        return self.bits(128) or 1


def span_hex(span_id: int | str) -> str:
    """16 lower-case hex digits; a foreign id stays as it came."""
    return f"{span_id:016x}" if isinstance(span_id, int) else span_id


def trace_hex(trace_id: int | str) -> str:
    """32 lower-case hex digits; a foreign id, of any length, stays as it came (protocol.md §5.1)."""
    return f"{trace_id:032x}" if isinstance(trace_id, int) else trace_id
