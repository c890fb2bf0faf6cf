"""Configuration values: published, staged, and what an application gets of them (protocol.md §6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError
from stardust_auto.server.resolution import Released, Rows, Sources, effective
from stardust_auto.server.store.apps import split_list

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.database import Database

SET = 1
DELETE = 2
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_WORKERS = 1023  # a 10-bit field in the platform's snowflake ids


@dataclass(frozen=True, slots=True)
class ConfigApp:
    """The configuration of one application as a whole."""

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


def load_state(db: sqlite3.Connection, app_id: int) -> ConfigApp:
    """The row of an application that has one."""
    row = db.execute(
        "SELECT c.*, a.name FROM config_app c JOIN app a ON a.id = c.app_id WHERE c.app_id = ?", (app_id,)
    ).fetchone()
    return _state(row)


def load_sources(db: sqlite3.Connection, state: ConfigApp, *, staged: bool = False) -> Sources:
    """What the application draws on: itself, quoted applications (recursively), global ones, and what it may name.

    With `staged` its own values are those that a publish of it would make live.
    """
    states = [
        _state(row)
        for row in db.execute(
            "SELECT c.*, a.name FROM config_app c JOIN app a ON a.id = c.app_id WHERE c.enabled = 1 OR c.app_id = ? "
            "ORDER BY a.id",
            (state.app_id,),
        )
    ]
    by_name = {item.name.lower(): item for item in states} | {str(item.app_id): item for item in states}
    rows: dict[int, Rows] = {}

    def load(item: ConfigApp) -> Rows:
        if item.app_id not in rows:
            values = _after_publish if staged and item.app_id == state.app_id else _released
            rows[item.app_id] = Rows(item.name, values(db, item.app_id))
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


class Configs:
    """Reading and staging; publishing is in `releases`."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def state(self, app: App) -> ConfigApp:
        """The configuration of `app`, made when it has none: version 1, next version 0 (protocol.md §6.1)."""
        with self._database.read() as db:
            if db.execute("SELECT 1 FROM config_app WHERE app_id = ?", (app.id,)).fetchone() is not None:
                return load_state(db, app.id)
        with self._database.write() as db:
            self._ensure(db, app.id)
            return load_state(db, app.id)

    def _ensure(self, db: sqlite3.Connection, app_id: int) -> None:
        db.execute("INSERT OR IGNORE INTO config_app (app_id, updated) VALUES (?, ?)", (app_id, self._clock()))

    def effective(self, app: App, scope: str, *, staged: bool = False) -> dict[str, str]:
        """The map that an instance gets; with `staged` the one that it would get after a publish.

        Raises:
            CallError: 500, a reference that leads nowhere or in a circle.
        """
        with self._database.read() as db:
            return effective(load_sources(db, load_state(db, app.id), staged=staged), scope)

    def items(self, app: App, scope: str | None = None) -> list[dict[str, Any]]:
        """Values with what is staged; with a scope those of that scope and the unscoped ones."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT * FROM config_item WHERE app_id = :app AND (:scope IS NULL OR scope = :scope OR scope = '') ORDER BY key, scope",
                {"app": app.id, "scope": scope or None},
            ).fetchall()
        return [
            {
                "key": row["key"],
                "scope": row["scope"],
                "value": row["value"],
                "new_value": row["new_value"] if row["staged"] == SET else None,
                "comment": row["comment"],
                "version": row["version"],
                "pending": row["staged"] != 0,
                "action": _ACTIONS[row["staged"]] if row["version"] or row["staged"] != SET else "add",
            }
            for row in rows
        ]

    def scopes(self, app: App) -> list[str]:
        """Scopes that have a value."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT DISTINCT scope FROM config_item WHERE app_id = ? AND scope <> '' ORDER BY scope", (app.id,)
            ).fetchall()
        return [row["scope"] for row in rows]

    def stage(
        self, app: App, scope: str, items: Mapping[str, str | None], comments: Mapping[str, str] | None = None
    ) -> int:
        """Stage values (None = delete); a value equal to the published one withdraws what was staged.

        Returns how many of them are pending now.

        Raises:
            CallError: 400, a key that cannot be one.
        """
        _check(items, scope)
        pending = 0
        with self._database.write() as db:
            self._ensure(db, app.id)
            for key, value in items.items():
                pending += self._stage_one(db, app.id, key, scope, value)
            for key, comment in (comments or {}).items():
                db.execute(
                    "UPDATE config_item SET comment = ? WHERE app_id = ? AND key = ? AND scope = ?",
                    (comment[:200], app.id, key, scope),
                )
            settle(db, app.id, self._clock())
        return pending

    def _stage_one(self, db: sqlite3.Connection, app_id: int, key: str, scope: str, value: str | None) -> int:
        now = self._clock()
        row = db.execute(
            "SELECT id, value, version FROM config_item WHERE app_id = ? AND key = ? AND scope = ?",
            (app_id, key, scope),
        ).fetchone()
        if row is None:
            if value is None:
                return 0
            db.execute(
                "INSERT INTO config_item (app_id, key, scope, staged, new_value, updated) VALUES (?, ?, ?, ?, ?, ?)",
                (app_id, key, scope, SET, value, now),
            )
            return 1
        if value is None and not row["version"]:
            db.execute("DELETE FROM config_item WHERE id = ?", (row["id"],))
            return 0
        if value is not None and row["version"] and row["value"] == value:
            db.execute("UPDATE config_item SET staged = 0, new_value = NULL WHERE id = ?", (row["id"],))
            return 0
        db.execute(
            "UPDATE config_item SET staged = ?, new_value = ?, updated = ? WHERE id = ?",
            (DELETE if value is None else SET, value, now, row["id"]),
        )
        return 1

    def discard(self, app: App) -> None:
        """Drop everything that is staged."""
        with self._database.write() as db:
            db.execute("DELETE FROM config_item WHERE app_id = ? AND version = 0", (app.id,))
            db.execute("UPDATE config_item SET staged = 0, new_value = NULL WHERE app_id = ?", (app.id,))
            settle(db, app.id, self._clock())

    def add_missing(self, app: App, configs: Mapping[str, tuple[str, str]]) -> None:
        """SetAll (protocol.md §6.7): missing keys are staged; existing ones keep their value, get the comment.

        Raises:
            CallError: 500, the configuration is read-only.
        """
        _check({key: value for key, (value, _) in configs.items()}, "")
        with self._database.write() as db:
            self._ensure(db, app.id)
            if load_state(db, app.id).readonly:
                raise CallError(500, f"应用[{app.name}]处于只读模式，禁止修改")
            for key, (value, comment) in configs.items():
                row = db.execute("SELECT 1 FROM config_item WHERE app_id = ? AND key = ?", (app.id, key)).fetchone()
                if row is None:
                    self._stage_one(db, app.id, key, "", value)
                if comment:
                    db.execute(
                        "UPDATE config_item SET comment = ? WHERE app_id = ? AND key = ?", (comment[:200], app.id, key)
                    )
            settle(db, app.id, self._clock())

    def worker_id(self, app_id: int, client_id: str, online: Iterable[str]) -> int:
        """The snowflake worker id of an instance, different from those of the others on line (protocol.md §6.6)."""
        others = set(online) - {client_id}
        with self._database.write() as db:
            rows = db.execute(
                "SELECT client_id, worker_id FROM instance WHERE app_id = ? AND worker_id IS NOT NULL", (app_id,)
            ).fetchall()
            taken = {row["worker_id"] for row in rows if row["client_id"] in others}
            mine = next((int(row["worker_id"]) for row in rows if row["client_id"] == client_id), None)
            if mine is not None and mine not in taken:
                return mine
            free = next((number for number in range(1, _WORKERS + 1) if number not in taken), _WORKERS)
            db.execute(
                "UPDATE instance SET worker_id = ? WHERE app_id = ? AND client_id = ?", (free, app_id, client_id)
            )
            return free


def settle(db: sqlite3.Connection, app_id: int, now: int) -> None:
    """Next version: one more than the version while something is staged, else the version (0 for a fresh one)."""
    db.execute(
        "UPDATE config_app SET updated = :now, next_version = CASE "
        "WHEN EXISTS (SELECT 1 FROM config_item WHERE app_id = :app AND staged <> 0) THEN version + 1 "
        "WHEN next_version = 0 THEN 0 ELSE version END WHERE app_id = :app",
        {"app": app_id, "now": now},
    )


def _check(items: Mapping[str, str | None], scope: str) -> None:
    for key, value in items.items():
        if not _KEY.fullmatch(key) or key != key.strip():
            raise CallError(400, f"not a key: {key[:50]!r}")
        if value is not None and len(value) > 1_000_000:
            raise CallError(400, f"the value of {key} has over 1000000 characters")
    if len(scope) > 50 or (scope and not _KEY.fullmatch(scope)):
        raise CallError(400, f"not a scope: {scope[:50]!r}")


def _released(db: sqlite3.Connection, app_id: int) -> list[Released]:
    rows = db.execute(
        "SELECT key, scope, value FROM config_item WHERE app_id = ? AND version > 0 ORDER BY id", (app_id,)
    )
    return [Released(row["key"], row["scope"], row["value"] or "") for row in rows]


def _after_publish(db: sqlite3.Connection, app_id: int) -> list[Released]:
    rows = db.execute(
        "SELECT key, scope, CASE staged WHEN ? THEN new_value ELSE value END AS value FROM config_item "
        "WHERE app_id = ? AND staged <> ? AND (version > 0 OR staged = ?) ORDER BY id",
        (SET, app_id, DELETE, SET),
    )
    return [Released(row["key"], row["scope"], row["value"] or "") for row in rows]


def _state(row: sqlite3.Row) -> ConfigApp:
    return ConfigApp(
        app_id=row["app_id"],
        name=row["name"],
        enabled=bool(row["enabled"]),
        version=row["version"],
        next_version=row["next_version"],
        next_publish=row["next_publish"],
        is_global=bool(row["is_global"]),
        quotable=bool(row["quotable"]),
        quotes=split_list(row["quotes"]),
        readonly=bool(row["readonly"]),
        enable_worker_id=bool(row["enable_worker_id"]),
        updated=row["updated"],
    )


_ACTIONS = {0: "", SET: "change", DELETE: "delete"}
