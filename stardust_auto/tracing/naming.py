"""Names of operations: few, stable, readable, in the platform's own form (protocol.md §5.6).

Each kind has a cache that maps what the call was made with (SQL text, URL, command, path) to its name, so that a name is worked out
once and then costs one dictionary look-up. Every cache is bounded, and so is the number of names that it can give.
"""

from __future__ import annotations

import re

_CACHE_SIZE = 1024
#: Distinct names for one host before its paths are no longer told apart (protocol.md §5.6).
NAMES_PER_HOST = 64
#: Distinct unrouted paths of one application before only their first segment counts.
NAMES_PER_APP = 256
_NAME_LIMIT = 200
#: Names beyond this many in one period share one per kind: 2000 new names took the server 5.7 s (protocol.md §12.2).
MAX_NAMES = 1000


def operation_name(name: str) -> str:
    """A user's own name as the platform takes it: cut at the first ``? # &`` that is not the first character, 200 at most."""
    if type(name) is not str:
        name = str(name)
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


class HttpNames(NameCache):
    """``{scheme}://{authority}/{leading segments}``: a segment counts while it has fewer than 16 characters and is no number.

    After 64 distinct names for a host, only ``{scheme}://{authority}``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hosts: dict[str, set[str]] = {}

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
        for index, segment in enumerate(pieces):
            length = len(segment) + (index < len(pieces) - 1)
            if length > 16 or not segment or _variable(segment):
                break
            segments.append(segment)
        name = f"{base}/{'/'.join(segments)}" if segments else base
        if name == base:
            return base
        known = self._hosts.setdefault(base, set()) if len(self._hosts) < _CACHE_SIZE else {name: None}
        if isinstance(known, set) and name not in known:
            if len(known) >= NAMES_PER_HOST:
                return base
            known.add(name)
        return name


class PathNames(NameCache):
    """``/first/second`` for a request whose route is not known: no method, no query, no host; ``/`` for the root.

    Numbers and long ids are left out, and after 256 distinct names only the first segment counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()

    def make(self, key: str) -> str:
        segments: list[str] = []
        for segment in key.partition("?")[0].split("/"):
            if not segment:
                continue
            if _variable(segment) or len(segments) == 2:
                break
            segments.append(operation_name(segment)[:64])
        name = "/" + "/".join(segments)
        if name in self._known:
            return name
        if len(self._known) >= NAMES_PER_APP:
            first = f"/{segments[0]}" if segments else "/"
            return first if first in self._known else "/(other)"
        self._known.add(name)
        return name
