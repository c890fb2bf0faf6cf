"""The configuration of each application: drafts, publishing, plans, roll-backs (protocol.md §6).

A published value and a draft are rows of two tables. So a roll-back cannot touch a draft, a discarded draft cannot be published,
and a plan publishes exactly the drafts that it was made of. Versions only grow; a roll-back is a new version.

The module is over 400 lines because every write is here: whoever changes what an instance gets raises its version.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError
from stardust_auto.server.releases.sets import KEPT_SETS, Entry, ReleaseSet, SetCache, changed, decode, encode, place_of
from stardust_auto.server.resolution import Rows, Sources, effective
from stardust_auto.server.store.apps import split_list

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.database import Database

#: Characters of a value, of a comment.
VALUE_LIMIT = 1_000_000
COMMENT_LIMIT = 200
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_SWITCHES = ("is_global", "quotable", "readonly", "enable_worker_id", "enabled")


@dataclass(frozen=True, slots=True)
class ConfigApp:
    """The configuration of one application as a whole. ``next_publish`` is Unix ms, 0 without a plan."""

    app_id: int
    name: str
    enabled: bool
    version: int
    next_version: int
    next_publish: int
    is_global: bool
    quotable: bool
    quotes: tuple[str, ...]
    readonly: bool
    enable_worker_id: bool
    updated: int


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did: the version, its changes, and the ids of applications whose instances must hear of it."""

    version: int
    changes: tuple[dict[str, Any], ...]
    affected: tuple[int, ...]


class Releases:
    """Every read and every change of configurations. Reads write nothing. Any thread may call it."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._sets = SetCache()

    # Reading

    def state(self, app: App) -> ConfigApp:
        """The configuration of ``app``; version 1 and next version 0 where nobody has written one (protocol.md §6.1)."""
        with self._database.read() as db:
            return self._state(db, app.id)

    def effective(self, app: App, scope: str, *, staged: bool = False, version: int | None = None) -> dict[str, str]:
        """The map that an instance in ``scope`` gets.

        Args:
            app: the application.
            scope: the instance's scope.
            staged: as it is after a publish of all drafts.
            version: as it is after a roll-back to this version.

        Raises:
            CallError: 500, a reference leads nowhere or in a circle; 404, there is no such version.
        """
        with self._database.read() as db:
            state = self._state(db, app.id)
            own = self._live(db, app.id) if version is None else self._kept(db, app, version)
            if staged:
                own, _ = changed(own, self._drafts(db, app.id), state.version + 1)
            return effective(self._sources(db, state, own), scope)

    def items(self, app: App, scope: str | None = None) -> list[dict[str, Any]]:
        """Published values beside their drafts, by key; with a scope those of that scope and the unscoped ones."""
        with self._database.read() as db:
            live = {entry.place: entry for entry in self._live(db, app.id)}
            drafts = {entry.place: entry for entry in self._drafts(db, app.id)}
            notes = self._notes(db, app.id)
        rows = []
        for place in {**live, **drafts}:
            shown = live.get(place) or drafts[place]
            if scope and shown.scope and shown.scope.lower() != scope.lower():
                continue
            rows.append(_item(shown, live.get(place), drafts.get(place), notes.get(place, "")))
        return sorted(rows, key=lambda row: (row["key"].lower(), row["scope"].lower()))

    def scopes(self, app: App) -> list[str]:
        """Scopes that have a value or a draft."""
        with self._database.read() as db:
            entries = (*self._live(db, app.id), *self._drafts(db, app.id))
        return sorted({entry.scope.lower(): entry.scope for entry in reversed(entries) if entry.scope}.values())

    def history(self, app: App, limit: int = 100) -> list[dict[str, Any]]:
        """Versions, the newest first; ``kept`` tells whether a roll-back to it is possible."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT version, published_at, kind, changes, entries IS NOT NULL AS kept FROM release_set "
                "WHERE app_id = ? ORDER BY version DESC LIMIT ?",
                (app.id, limit),
            ).fetchall()
        return [{**dict(row), "changes": json.loads(row["changes"]), "kept": bool(row["kept"])} for row in rows]

    def due(self) -> list[int]:
        """Applications whose planned time has come."""
        with self._database.read() as db:
            rows = db.execute("SELECT app_id FROM planned WHERE at <= ?", (self._clock(),)).fetchall()
        return [row["app_id"] for row in rows]

    # Drafts

    def stage(
        self, app: App, scope: str, items: Mapping[str, str | None], comments: Mapping[str, str] | None = None
    ) -> int:
        """Draft values (None deletes); a value equal to the published one withdraws its draft.

        Returns how many of them are drafts now.

        Raises:
            CallError: 400, a key, a scope, a value or a comment cannot be one.
        """
        _check(items, scope, comments or {})
        with self._database.write() as db:
            self._touch(db, app.id)
            live = {entry.place: entry for entry in self._live(db, app.id)}
            drafts = [Entry(key, scope, value) for key, value in items.items()]
            pending = sum(self._draft(db, app.id, live, draft) for draft in drafts)
            for key, comment in (comments or {}).items():
                self._note(db, app.id, key, scope, comment)
        return pending

    def add_missing(self, app: App, configs: Mapping[str, tuple[str, str]]) -> None:
        """SetAll (protocol.md §6.7): draft the keys that are missing; known ones keep their value, take the comment.

        Raises:
            CallError: 500, the configuration is read-only; 400 as :meth:``stage``.
        """
        _check({key: value for key, (value, _) in configs.items()}, "", {})
        with self._database.write() as db:
            self._touch(db, app.id)
            if self._state(db, app.id).readonly:
                raise CallError(500, f"应用[{app.name}]处于只读模式，禁止修改")
            live = {entry.place: entry for entry in self._live(db, app.id)}
            known = {key for key, _ in (*live, *(entry.place for entry in self._drafts(db, app.id)))}
            for key, (value, comment) in configs.items():
                if key.lower() not in known:
                    self._draft(db, app.id, live, Entry(key, "", value))
                if comment:
                    self._note(db, app.id, key, "", comment[:COMMENT_LIMIT])

    def discard(self, app: App) -> None:
        """Drop every draft, and the plan that was made of drafts."""
        with self._database.write() as db:
            db.execute("DELETE FROM draft WHERE app_id = ?", (app.id,))
            db.execute("DELETE FROM planned WHERE app_id = ?", (app.id,))

    # Publishing

    def publish(self, app: App, *, expected: int | None = None) -> Published:
        """Make every draft part of the next version; without drafts nothing happens. A plan ends with it.

        ``expected`` is the version that the caller has seen.

        Raises:
            CallError: 409, a reference would lead nowhere, or somebody else published since ``expected``.
        """
        with self._database.write() as db:
            state = self._state(db, app.id)
            if expected is not None and expected != state.version:
                raise CallError(
                    409, f"not published: version {state.version} was published meanwhile; look at it first"
                )
            drafts = self._drafts(db, app.id)
            db.execute("DELETE FROM planned WHERE app_id = ?", (app.id,))
            db.execute("DELETE FROM draft WHERE app_id = ?", (app.id,))
            return self._publish(db, state, drafts, "publish")

    def plan(self, app: App, at: int) -> Published:
        """Publish today's drafts, and only these, at ``at`` (Unix ms).

        Raises:
            CallError: 409, there is no draft, or a reference would lead nowhere.
        """
        with self._database.write() as db:
            state = self._state(db, app.id)
            drafts = self._drafts(db, app.id)
            if not drafts:
                raise CallError(409, "nothing is staged, so there is nothing to plan")
            self._check_references(db, state, changed(self._live(db, app.id), drafts, state.version + 1)[0])
            db.execute("REPLACE INTO planned (app_id, at, entries) VALUES (?, ?, ?)", (app.id, at, encode(drafts)))
        return Published(state.version, (), ())

    def cancel_plan(self, app: App) -> None:
        """Forget the plan; the drafts stay."""
        with self._database.write() as db:
            db.execute("DELETE FROM planned WHERE app_id = ?", (app.id,))

    def publish_planned(self, app: App) -> Published:
        """Publish what was planned. Drafts that differ from the plan by now stay drafts.

        Raises:
            CallError: 409, a reference leads nowhere by now. The plan is gone in any case.
        """
        with self._database.write() as db:
            row = db.execute("SELECT entries FROM planned WHERE app_id = ?", (app.id,)).fetchone()
            db.execute("DELETE FROM planned WHERE app_id = ?", (app.id,))
        with self._database.write() as db:
            state = self._state(db, app.id)
            planned = decode(row["entries"], 0) if row is not None else ()
            for entry in planned:
                db.execute(
                    "DELETE FROM draft WHERE app_id = ? AND key = ? AND scope = ? AND value IS ?",
                    (app.id, entry.key, entry.scope, entry.value),
                )
            return self._publish(db, state, planned, "planned publish")

    def rollback(self, app: App, version: int) -> Published:
        """Publish the set of an old version again, as a new version. Drafts stay.

        Raises:
            CallError: 404, there is no such version, or its set is not kept any more; 409 as :meth:``publish``.
        """
        with self._database.write() as db:
            state = self._state(db, app.id)
            wanted = self._kept(db, app, version)
            places = {entry.place for entry in wanted}
            ends = [
                Entry(entry.key, entry.scope, None) for entry in self._live(db, app.id) if entry.place not in places
            ]
            return self._publish(db, state, [*wanted, *ends], f"rollback to {version}")

    def configure(self, app: App, changes: Mapping[str, Any]) -> Published:
        """Change how the configuration is shared (``is_global``, ``quotable``, ``quotes``, ``readonly``, ``enable_worker_id``,
        ``enabled``). Every application whose values may differ now gets a new version."""
        with self._database.write() as db:
            self._touch(db, app.id)
            before = self._state(db, app.id)
            for name in _SWITCHES:
                if name in changes:
                    db.execute(f"UPDATE config_app SET {name} = ? WHERE app_id = ?", (int(bool(changes[name])), app.id))  # noqa: S608 - names from the tuple above
            if "quotes" in changes:
                quotes = ",".join(changes["quotes"] or ())
                db.execute("UPDATE config_app SET quotes = ? WHERE app_id = ?", (quotes, app.id))
            after = self._state(db, app.id)
            affected: set[int] = set()
            if before.quotes != after.quotes or before.enable_worker_id != after.enable_worker_id:
                affected.add(app.id)
            if (before.is_global, before.quotable, before.enabled) != (after.is_global, after.quotable, after.enabled):
                affected.update(self._users(db, before), self._users(db, after))
            for user in affected:
                self._raise_version(db, user, f"settings of {app.name}", self._live(db, user), [])
            return Published(self._state(db, app.id).version, (), tuple(sorted(affected)))

    def forget(self) -> None:
        """Drop what is cached, after an application has been deleted."""
        self._sets.clear()

    # In one transaction

    def _live(self, db: sqlite3.Connection, app_id: int) -> ReleaseSet:
        return self._sets.live(db, app_id)

    def _kept(self, db: sqlite3.Connection, app: App, version: int) -> ReleaseSet:
        """The set of an old version. Version 1 is empty unless it was published."""
        row = db.execute(
            "SELECT entries IS NOT NULL AS kept FROM release_set WHERE app_id = ? AND version = ?", (app.id, version)
        ).fetchone()
        wanted = self._sets.load(db, app.id, version) if row is not None and row["kept"] else None
        if wanted is None and version != 1:
            raise CallError(404, f"{app.name} has no version {version} to go back to")
        return wanted or ()

    def _drafts(self, db: sqlite3.Connection, app_id: int) -> list[Entry]:
        rows = db.execute("SELECT key, scope, value FROM draft WHERE app_id = ? ORDER BY id", (app_id,))
        return [Entry(row["key"], row["scope"], row["value"]) for row in rows]

    def _notes(self, db: sqlite3.Connection, app_id: int) -> dict[tuple[str, str], str]:
        rows = db.execute("SELECT key, scope, comment FROM key_note WHERE app_id = ?", (app_id,))
        return {place_of(row["key"], row["scope"]): row["comment"] for row in rows}

    def _note(self, db: sqlite3.Connection, app_id: int, key: str, scope: str, comment: str) -> None:
        db.execute(
            "REPLACE INTO key_note (app_id, key, scope, comment) VALUES (?, ?, ?, ?)", (app_id, key, scope, comment)
        )

    def _touch(self, db: sqlite3.Connection, app_id: int) -> None:
        db.execute("INSERT OR IGNORE INTO config_app (app_id, updated) VALUES (?, ?)", (app_id, self._clock()))

    def _draft(self, db: sqlite3.Connection, app_id: int, live: Mapping[tuple[str, str], Entry], draft: Entry) -> int:
        published = live.get(draft.place)
        if draft.value == (published.value if published is not None else None):
            statement = "DELETE FROM draft WHERE app_id = ? AND key = ? AND scope = ?"
            db.execute(statement, (app_id, draft.key, draft.scope))
            return 0
        db.execute(
            "INSERT INTO draft (app_id, key, scope, value, updated) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (app_id, key, scope) DO UPDATE SET value = excluded.value, updated = excluded.updated",
            (app_id, draft.key, draft.scope, draft.value, self._clock()),
        )
        return 1

    def _state(self, db: sqlite3.Connection, app_id: int) -> ConfigApp:
        rows = db.execute(f"{_STATES} WHERE a.id = ?", (app_id,)).fetchall()
        return _config_app(rows[0])

    def _sources(self, db: sqlite3.Connection, state: ConfigApp, own: ReleaseSet) -> Sources:
        """What an application draws on: itself, quoted applications (recursively), global ones, and those it may name."""
        states = [_config_app(row) for row in db.execute(f"{_STATES} ORDER BY a.id")]
        states = [item for item in states if item.enabled or item.app_id == state.app_id]
        by_name = {item.name.lower(): item for item in states} | {str(item.app_id): item for item in states}
        rows: dict[int, Rows] = {}

        def load(item: ConfigApp) -> Rows:
            if item.app_id not in rows:
                entries = own if item.app_id == state.app_id else self._live(db, item.app_id)
                rows[item.app_id] = Rows(item.name, [entry.released() for entry in entries])
            return rows[item.app_id]

        quoted: list[ConfigApp] = []
        queue = list(state.quotes)
        while queue:
            item = by_name.get(queue.pop(0).lower())
            if item is not None and item.app_id != state.app_id and item not in quoted:
                quoted.append(item)
                queue.extend(item.quotes)
        shared = [item for item in states if item.is_global and item.app_id != state.app_id and item not in quoted]
        named = {item.name.lower(): load(item) for item in (*quoted, *shared, state)}
        named |= {item.name.lower(): load(item) for item in states if item.quotable}
        return Sources(load(state), [load(item) for item in quoted], [load(item) for item in shared], named)

    def _publish(self, db: sqlite3.Connection, state: ConfigApp, drafts: Sequence[Entry], kind: str) -> Published:
        entries, changes = changed(self._live(db, state.app_id), drafts, state.version + 1)
        if not changes:
            return Published(state.version, (), ())
        self._check_references(db, state, entries)
        version = self._raise_version(db, state.app_id, kind, entries, changes)
        users = self._users(db, state)
        for user in users:
            self._raise_version(db, user, f"shared change of {state.name}", self._live(db, user), [])
        return Published(version, tuple(changes), (state.app_id, *users))

    def _raise_version(
        self, db: sqlite3.Connection, app_id: int, kind: str, entries: ReleaseSet, changes: Sequence[object]
    ) -> int:
        now = self._clock()
        self._touch(db, app_id)
        db.execute("UPDATE config_app SET version = version + 1, updated = ? WHERE app_id = ?", (now, app_id))
        version = int(db.execute("SELECT version FROM config_app WHERE app_id = ?", (app_id,)).fetchone()["version"])
        text = json.dumps(changes, ensure_ascii=False, separators=(",", ":"))
        db.execute(
            "INSERT INTO release_set (app_id, version, published_at, kind, changes, entries) VALUES (?, ?, ?, ?, ?, ?)",
            (app_id, version, now, kind, text, encode(entries)),
        )
        db.execute(
            "UPDATE release_set SET entries = NULL WHERE app_id = ? AND version <= ? AND entries IS NOT NULL",
            (app_id, version - KEPT_SETS),
        )
        return version

    def _check_references(self, db: sqlite3.Connection, state: ConfigApp, entries: ReleaseSet) -> None:
        sources = self._sources(db, state, entries)
        for scope in {"", *(entry.scope for entry in entries)}:
            try:
                effective(sources, scope)
            except CallError as error:
                raise CallError(409, f"not published: {error.message}") from error

    def _users(self, db: sqlite3.Connection, state: ConfigApp) -> list[int]:
        """Applications that get values of this one: all of them if it is global, else those that quote or name it."""
        states = [_config_app(row) for row in db.execute(f"{_STATES} ORDER BY a.id")]
        if state.is_global:
            return [item.app_id for item in states if item.app_id != state.app_id]
        name = f"@{state.name.lower()}"
        found = {
            item.app_id
            for item in states
            if any(name in (entry.value or "").lower() for entry in self._live(db, item.app_id))
        }
        wanted = {state.name.lower(), str(state.app_id)}
        grown = True
        while grown:
            grown = False
            for item in states:
                if {quote.lower() for quote in item.quotes} & wanted and item.name.lower() not in wanted:
                    wanted |= {item.name.lower(), str(item.app_id)}
                    found.add(item.app_id)
                    grown = True
        return sorted(found - {state.app_id})


_STATES = (
    "SELECT a.id, a.name, a.created, c.*, p.at AS planned_at, "
    "EXISTS (SELECT 1 FROM draft d WHERE d.app_id = a.id) AS drafted "
    "FROM app a LEFT JOIN config_app c ON c.app_id = a.id LEFT JOIN planned p ON p.app_id = a.id"
)


def _config_app(row: sqlite3.Row) -> ConfigApp:
    known = row["app_id"] is not None
    version = int(row["version"]) if known else 1
    return ConfigApp(
        app_id=row["id"],
        name=row["name"],
        enabled=not known or bool(row["enabled"]),
        version=version,
        next_version=version + 1 if row["drafted"] else version if version > 1 else 0,
        next_publish=row["planned_at"] or 0,
        is_global=known and bool(row["is_global"]),
        quotable=known and bool(row["quotable"]),
        quotes=split_list(row["quotes"]) if known else (),
        readonly=known and bool(row["readonly"]),
        enable_worker_id=known and bool(row["enable_worker_id"]),
        updated=row["updated"] if known else row["created"],
    )


def _item(shown: Entry, live: Entry | None, draft: Entry | None, comment: str) -> dict[str, Any]:
    action = "" if draft is None else "add" if live is None else "delete" if draft.value is None else "change"
    return {
        "key": shown.key,
        "scope": shown.scope,
        "value": live.value if live is not None else None,
        "new_value": draft.value if draft is not None else None,
        "comment": comment,
        "version": live.version if live is not None else 0,
        "pending": draft is not None,
        "action": action,
    }


def _check(items: Mapping[str, str | None], scope: str, comments: Mapping[str, str]) -> None:
    for key, value in items.items():
        if not _KEY.fullmatch(key) or key != key.strip():
            raise CallError(400, f"not a key: {key[:50]!r}")
        if value is not None and len(value) > VALUE_LIMIT:
            raise CallError(400, f"the value of {key} has over {VALUE_LIMIT} characters")
    for key, comment in comments.items():
        if len(comment) > COMMENT_LIMIT:
            raise CallError(400, f"the comment of {key[:50]} has over {COMMENT_LIMIT} characters")
    if len(scope) > 50 or (scope and not _KEY.fullmatch(scope)):
        raise CallError(400, f"not a scope: {scope[:50]!r}")
