"""The values that an application gets: scopes, quoted and global applications, ``${references}`` (protocol.md §6.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stardust_auto.server.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_REFERENCE = re.compile(r"\$\{([^{}]+)\}")
#: In characters. A few references that double each other would otherwise fill the memory.
_VALUE_LIMIT = 1_000_000
_STEP_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Released:
    """One published value."""

    key: str
    scope: str
    value: str


class Rows:
    """The published values of one application; keys and scopes regardless of case."""

    def __init__(self, app: str, released: Iterable[Released]) -> None:
        self.app = app
        self._values: dict[tuple[str, str], str] = {}
        self._newest: dict[str, str] = {}
        #: Spelling by lower-case key; the first spelling wins.
        self.keys: dict[str, str] = {}
        for row in released:
            key = row.key.lower()
            self._values[key, row.scope.lower()] = row.value
            self._newest[key] = row.value
            self.keys.setdefault(key, row.key)

    def get(self, key: str, scope: str) -> str | None:
        """The value in exactly this scope."""
        return self._values.get((key.lower(), scope.lower()))

    def newest(self, key: str) -> str | None:
        """The value of the row that was released last, in any scope."""
        return self._newest.get(key.lower())


@dataclass(frozen=True, slots=True)
class Sources:
    """The values that one application may use, in this order; ``named`` (lower case) is for ``${key@app}``."""

    own: Rows
    quoted: Sequence[Rows]
    shared: Sequence[Rows]
    named: Mapping[str, Rows]


def effective(sources: Sources, scope: str) -> dict[str, str]:
    """The map of one application in one scope, references replaced; keys with a leading ``_`` are internal.

    Raises:
        CallError: 500, a reference that leads nowhere or in a circle.
    """
    result: dict[str, str] = {}
    seen: set[str] = set()
    resolver = _Resolver(sources, scope)
    for rows in (sources.own, *sources.quoted, *sources.shared):
        for lower, key in rows.keys.items():
            if lower in seen or key.startswith("_"):
                continue
            value = rows.get(key, scope)
            if value is None and scope:
                value = rows.get(key, "")
            if value is None:
                continue
            seen.add(lower)
            result[key] = resolver.expand(rows, key, value)
    return result


class _Resolver:
    def __init__(self, sources: Sources, scope: str) -> None:
        self._sources = sources
        self._scope = scope
        self._open: list[tuple[str, str]] = []
        self._steps = 0

    def expand(self, rows: Rows, key: str, value: str) -> str:
        if "${" not in value:
            return value
        self._steps += 1
        mark = (rows.app.lower(), key.lower())
        if mark in self._open or self._steps > _STEP_LIMIT:
            raise CallError(500, f"在应用[{rows.app}]的[{key}]中循环引用 (a reference leads back to itself)")
        self._open.append(mark)
        try:
            expanded = _REFERENCE.sub(lambda match: self._referenced(rows, key, match[1]), value)
        finally:
            self._open.pop()
        if len(expanded) > _VALUE_LIMIT:
            raise CallError(500, f"在应用[{rows.app}]的[{key}]中引用过长 (over {_VALUE_LIMIT} characters)")
        return expanded

    def _referenced(self, rows: Rows, key: str, reference: str) -> str:
        wanted, _, place = reference.partition("@")
        app, _, scope = place.partition(":")
        wanted, app, scope = wanted.strip(), app.strip(), scope.strip() or self._scope
        if app:
            named = self._sources.named.get(app.lower())
            candidates = [named] if named is not None else []
        else:
            candidates = [rows, *(other for other in self._chain() if other is not rows)]
        found = _look_up(candidates, wanted, scope)
        if found is None:
            raise CallError(500, f"在应用[{rows.app}]的[{key}]中无法解析[{reference}]")
        return self.expand(found[0], wanted, found[1])

    def _chain(self) -> Sequence[Rows]:
        return (self._sources.own, *self._sources.quoted, *self._sources.shared)


def _look_up(candidates: Sequence[Rows], key: str, scope: str) -> tuple[Rows, str] | None:
    for wanted in (scope, "") if scope else ("",):
        for rows in candidates:
            value = rows.get(key, wanted)
            if value is not None:
                return rows, value
    if not scope:
        for rows in candidates:
            value = rows.newest(key)
            if value is not None:
                return rows, value
    return None
