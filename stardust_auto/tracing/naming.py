"""Names of operations: few, stable, readable, in the platform's own form (protocol.md §5.6).

Each kind has a cache that maps what a call was made with (SQL text, URL, command, path) to its name. A name is worked out once and then
costs one dictionary look-up. Every cache is bounded, and so is the number of its names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.tracing.paths import PathTree

if TYPE_CHECKING:
    from stardust_auto.process.clock import Clock

_CACHE_SIZE = 1024
#: Names of one host that are told apart (protocol.md §5.6).
NAMES_PER_HOST = 64
#: Names of one application's unrouted paths that are told apart.
NAMES_PER_APP = 256
_NAME_LIMIT = 200
#: Names beyond this many in one period share one per kind: 2000 new names took the server 5.7 s (protocol.md §12.2).
MAX_NAMES = 1000


def operation_name(name: str) -> str:
    """A user's own name as the platform takes it: cut at the first ``? # &`` that is not the first character, 200 at most."""
    if type(name) is not str:
        try:
            name = str(name)
        except Exception:  # noqa: BLE001 - an object of the program; a span never raises into it
            name = type(name).__name__
    for position, character in enumerate(name):
        if character in "?#&" and position:
            name = name[:position]
            break
    return name[:_NAME_LIMIT]


def shared_name(name: str) -> str:
    """What stands for ``name`` when there are too many: ``db:(other)`` for a kind, ``/(other)`` for paths."""
    kind = name.partition(":")[0] if not name.startswith("/") else ""
    return f"{kind}:(other)" if kind else "/(other)"


class NameCache(dict[str, str]):
    """A bounded dictionary that works out missing names. Emptied when full: refilling costs less than bookkeeping."""

    def make(self, key: str) -> str:
        """The name for ``key``; must not raise for any text."""
        raise NotImplementedError

    def __missing__(self, key: str) -> str:
        name = self.make(key)[:_NAME_LIMIT]
        if len(self) >= _CACHE_SIZE:
            self.clear()
        if len(key) <= 16_384:
            self[key] = name
        return name


def _variable(segment: str) -> bool:
    """Whether a path segment is a value (a number, a long id) and not a word."""
    digits = sum(map(str.isdigit, segment))
    return digits == len(segment) or (len(segment) >= 16 and digits >= 4)


#: Segments of a path that belong to a name.
_MAX_SEGMENTS = 8


class HttpNames(NameCache):
    """``{scheme}://{authority}/{leading segments}``: a segment counts while it has fewer than 16 characters and is no number.

    A segment where more than ``MAX_WORDS`` different words stand is ``*``: ``https://api.example.com/users/*/profile``.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__()
        self._clock = clock
        self._hosts: dict[str, PathTree] = {}

    def make(self, key: str) -> str:
        scheme, separator, rest = key.partition("://")
        if not separator:
            return "http:(no host)"
        end = len(rest)
        for stop in "/?#":
            position = rest.find(stop)
            if 0 <= position < end:
                end = position
        scheme = scheme.lower()
        authority = rest[:end].rpartition("@")[2].lower()
        default_port = {"http": ":80", "https": ":443"}.get(scheme)
        if default_port and authority.endswith(default_port):
            authority = authority[: -len(default_port)]
        base = f"{scheme}://{authority}"[:100]
        path = re.split("[?#]", rest[end:], maxsplit=1)[0]
        segments: list[str] = []
        pieces = path.split("/")[1:]
        for index, segment in enumerate(pieces[:_MAX_SEGMENTS]):
            length = len(segment) + (index < len(pieces) - 1)
            if length > 16 or not segment or _variable(segment):
                break
            segments.append(segment)
        if not segments:
            return base
        tree = self._hosts.get(base)
        if tree is None:
            if len(self._hosts) >= _CACHE_SIZE:
                return base
            tree = self._hosts[base] = PathTree(NAMES_PER_HOST, self._clock)
        if tree.learn(segments):
            self.clear()
        return f"{base}/{'/'.join(tree.name(segments))}"


class UnsettledName(str):
    """The name of a path that may not exist. A span is not sampled because such a name is new."""

    __slots__ = ()


class PathNames(NameCache):
    """``/first/second`` for a request whose route is not known: no method, no query, no host; ``/`` for the root.

    A name ends before the first number or long id. A segment where more than ``MAX_WORDS`` different words stand is ``*``: ``/users/*``.
    Only paths that the application has answered count, so requests for what does not exist use no names up: :meth:`settle`.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__()
        self._clock = clock
        self._tree = PathTree(NAMES_PER_APP, clock)

    def make(self, key: str) -> str:
        return "/" + "/".join(self._tree.name(self._words(key)))

    def __missing__(self, key: str) -> str:
        return UnsettledName(self.make(key)[:_NAME_LIMIT])

    def settle(self, key: str) -> str:
        """The name of a path that exists: remembered, and the same from now on until its level is called ``*``."""
        if self._tree.learn(self._words(key)):
            self.clear()
        return super().__missing__(key)

    def forget(self) -> None:
        """Start anew."""
        self.clear()
        self._tree = PathTree(NAMES_PER_APP, self._clock)

    @staticmethod
    def _words(key: str) -> list[str]:
        words: list[str] = []
        for segment in key.partition("?")[0].split("/"):
            if not segment:
                continue
            if _variable(segment) or len(words) == 2:
                break
            words.append(operation_name(segment)[:64])
        return words
