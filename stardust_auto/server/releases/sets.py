"""Release sets: what one version of a configuration consists of. A set is never changed, so it may be cached."""

from __future__ import annotations

import json
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stardust_auto.server.resolution import Released

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

#: A place is a key and a scope, both in lower case: spelling does not make another value.
Place = tuple[str, str]
#: Sets kept per application. Older versions stay in the history, but nobody can roll back to them.
KEPT_SETS = 100
#: Characters of values that the cache may hold.
_CACHE_CHARACTERS = 20_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One value. In a set ``version`` is the one that brought this value; in a draft ``value`` None deletes."""

    key: str
    scope: str
    value: str | None
    version: int = 0

    @property
    def place(self) -> Place:
        """Where the value stands, regardless of case."""
        return place_of(self.key, self.scope)

    def released(self) -> Released:
        """The form that resolution works with."""
        return Released(self.key, self.scope, self.value or "")


ReleaseSet = tuple[Entry, ...]


def place_of(key: str, scope: str) -> Place:
    """Key and scope in lower case."""
    return key.lower(), scope.lower()


def encode(entries: Iterable[Entry]) -> bytes:
    """Entries as they are stored: compressed JSON."""
    rows = [[entry.key, entry.scope, entry.value, entry.version] for entry in entries]
    return zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"), 1)


def decode(stored: bytes | str, version: int) -> ReleaseSet:
    """Entries of a stored set; text is the form of schema 2, which did not note the version of each value."""
    if isinstance(stored, str):
        return tuple(Entry(row["key"], row["scope"], row["value"], version) for row in json.loads(stored))
    return tuple(Entry(*row) for row in json.loads(zlib.decompress(stored)))


def changed(old: ReleaseSet, drafts: Sequence[Entry], version: int) -> tuple[ReleaseSet, list[dict[str, str | None]]]:
    """``old`` with ``drafts`` put in, as ``version``; and the changes, by key and scope. A known key keeps its spelling."""
    entries = {entry.place: entry for entry in old}
    changes: list[dict[str, str | None]] = []
    for draft in sorted(drafts, key=lambda entry: (entry.key, entry.scope)):
        before = entries.get(draft.place)
        if draft.value == (before.value if before is not None else None):
            continue
        key, scope = (before.key, before.scope) if before is not None else (draft.key, draft.scope)
        changes.append({"key": key, "scope": scope, "old": before.value if before else None, "new": draft.value})
        if draft.value is None:
            del entries[draft.place]
        else:
            entries[draft.place] = Entry(key, scope, draft.value, version)
    return tuple(entries.values()), changes


class SetCache:
    """Decoded sets by application and version, the least recently used dropped first. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sets: OrderedDict[tuple[int, int], ReleaseSet] = OrderedDict()
        self._characters = 0

    def live(self, db: sqlite3.Connection, app_id: int) -> ReleaseSet:
        """The newest set of an application; empty before the first publish."""
        row = db.execute("SELECT MAX(version) AS version FROM release_set WHERE app_id = ?", (app_id,)).fetchone()
        return self.load(db, app_id, row["version"]) or () if row["version"] is not None else ()

    def load(self, db: sqlite3.Connection, app_id: int, version: int) -> ReleaseSet | None:
        """The set of one version, or None when there is none, or none any more."""
        with self._lock:
            found = self._sets.get((app_id, version))
            if found is not None:
                self._sets.move_to_end((app_id, version))
                return found
        row = db.execute(
            "SELECT entries FROM release_set WHERE app_id = ? AND version = ?", (app_id, version)
        ).fetchone()
        if row is None or row["entries"] is None:
            return None
        found = decode(row["entries"], version)
        with self._lock:
            self._sets[app_id, version] = found
            self._characters += _size(found)
            while self._characters > _CACHE_CHARACTERS and len(self._sets) > 1:
                self._characters -= _size(self._sets.popitem(last=False)[1])
        return found

    def clear(self) -> None:
        """Forget everything: an application is deleted, and its number may be given again."""
        with self._lock:
            self._sets.clear()
            self._characters = 0


def _size(entries: ReleaseSet) -> int:
    return 100 + sum(len(entry.value or "") + len(entry.key) + 100 for entry in entries)
