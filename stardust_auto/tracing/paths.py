"""Which words of a path belong to its name, and which stand for a value.

A level of the tree has the words that stand at one place, such as those after ``/users/``. A place that takes more than
:data:`MAX_WORDS` different words holds values, and is called ``*`` from then on: ``/users/*/profile``. Such a level is watched, and has
its words back once few come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.process.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stardust_auto.process.clock import Clock

#: Different words at one place of a path before all of them are called ``*``.
MAX_WORDS = 40
#: Nanoseconds in which a level that is called ``*`` must take at most :data:`MAX_WORDS` words to have them back.
RECOVERY_NS = 600_000_000_000
_ANY = "*"


class _Level:
    """The words at one place. ``seen`` and ``since`` belong to a level that is called ``*``: its words in the current watch."""

    __slots__ = ("seen", "since", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Level] = {}
        self.seen: set[str] | None = None
        self.since = 0


class PathTree:
    """The paths of one host or one application.

    Args:
        limit: names that may be told apart. Beyond them, the widest levels at the ends of paths are called ``*``.
    """

    def __init__(self, limit: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._limit = limit
        self._clock = clock
        self._root = _Level()
        self._size = 0

    def name(self, words: Sequence[str]) -> list[str]:
        """The words of a path as they are called now. Nothing is remembered: the path may not exist."""
        named: list[str] = []
        level: _Level | None = self._root
        for word in words:
            if level is not None and level.seen is not None:
                word = _ANY  # noqa: PLW2901 - what the word is called
            named.append(word)
            level = level.words.get(word) if level is not None else None
        return named

    def learn(self, words: Sequence[str]) -> bool:
        """Remember a path that exists. Whether names that were given before have changed with that."""
        changed = False
        level = self._root
        for word in words:
            if level.seen is not None:
                changed = self._watch(level, word) or changed
            elif word not in level.words and len(level.words) >= MAX_WORDS:
                self._close(level)
                changed = True
            called = word if level.seen is None else _ANY
            if called not in level.words:
                level.words[called] = _Level()
                self._size += 1
            level = level.words[called]
        while self._size > self._limit and self._close_widest():
            changed = True
        return changed

    def _watch(self, level: _Level, word: str) -> bool:
        """Note a word of a level that is called ``*``; whether the level has its words back."""
        seen = level.seen or set()
        now = self._clock.monotonic_ns()
        few = len(seen) <= MAX_WORDS
        if now - level.since < RECOVERY_NS:
            if few:
                seen.add(word)
            level.seen = seen
            return False
        level.since = now
        level.seen = None if few else {word}
        if few:
            level.words.clear()
            self._size = sum(1 for _ in _levels(self._root)) - 1
        return True  # Also where it stays: each path must come by here once in each watch, and not be answered from a cache.

    def _close(self, level: _Level) -> None:
        """Call all words of ``level`` ``*``; what stood below any of them stands below that."""
        level.words = {_ANY: _merged(list(level.words.values()))}
        level.seen, level.since = set(), self._clock.monotonic_ns()
        self._size = sum(1 for _ in _levels(self._root)) - 1

    def _close_widest(self) -> bool:
        """Close the level with most words among those at the ends of paths, where the words say least."""
        ends = [
            level
            for level in _levels(self._root)
            if len(level.words) > 1 and not any(below.words for below in list(level.words.values()))
        ]
        open_levels = ends or [level for level in _levels(self._root) if len(level.words) > 1]
        if open_levels:
            self._close(max(open_levels, key=lambda level: len(level.words)))
        return bool(open_levels)


def _levels(level: _Level) -> Iterator[_Level]:
    yield level
    for below in list(level.words.values()):  # another thread may add a word
        yield from _levels(below)


def _merged(levels: Iterable[_Level]) -> _Level:
    """One level with what stands below any of ``levels``."""
    together: dict[str, list[_Level]] = {}
    closed = False
    merged = _Level()
    for level in levels:
        if level.seen is not None:
            closed, merged.since = True, max(merged.since, level.since)
        for word, below in list(level.words.items()):
            together.setdefault(word, []).append(below)
    if closed or len(together) > MAX_WORDS:
        merged.seen = set()
        together = {_ANY: [below for group in together.values() for below in group]} if together else {}
    merged.words = {word: _merged(group) for word, group in together.items()}
    return merged
