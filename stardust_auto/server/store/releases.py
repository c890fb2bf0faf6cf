"""Publishing: versions only grow, a roll-back is a new version, changes of shared applications reach their users."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError
from stardust_auto.server.resolution import effective
from stardust_auto.server.store.configs import DELETE, SET, load_sources, load_state, settle

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.configs import ConfigApp
    from stardust_auto.server.store.database import Database


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome: the version, what changed, and the ids of applications whose instances must hear of it."""

    version: int
    changes: tuple[dict[str, Any], ...]
    affected: tuple[int, ...]


class Releases:
    """Versions of configurations."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def publish(self, app: App) -> Published:
        """Make everything staged the next version; nothing staged: nothing happens.

        Raises:
            CallError: 409, a `${reference}` would lead nowhere or in a circle, which would fail every reader.
        """
        with self._database.write() as db:
            state = load_state(db, app.id)
            changes = []
            for row in db.execute(
                "SELECT * FROM config_item WHERE app_id = ? AND staged <> 0 ORDER BY key, scope", (app.id,)
            ).fetchall():
                old = row["value"] if row["version"] else None
                new = row["new_value"] if row["staged"] == SET else None
                changes.append({"key": row["key"], "scope": row["scope"], "old": old, "new": new})
                if row["staged"] == DELETE:
                    db.execute("DELETE FROM config_item WHERE id = ?", (row["id"],))
                else:
                    db.execute(
                        "UPDATE config_item SET value = ?, version = ?, staged = 0, new_value = NULL WHERE id = ?",
                        (new, state.version + 1, row["id"]),
                    )
            db.execute("UPDATE config_app SET next_publish = 0 WHERE app_id = ?", (app.id,))
            if not changes:
                return Published(state.version, (), ())
            return self._release(db, state, "publish", changes)

    def rollback(self, app: App, version: int) -> Published:
        """Publish the values of an old version again, as a new version; what is staged stays staged.

        Raises:
            CallError: 404, no such version; 409 as `publish`.
        """
        with self._database.write() as db:
            state = load_state(db, app.id)
            row = db.execute(
                "SELECT snapshot FROM config_release WHERE app_id = ? AND version = ?", (app.id, version)
            ).fetchone()
            if row is None and version != 1:
                raise CallError(404, f"{app.name} has no version {version}")
            wanted = {(item["key"], item["scope"]): item for item in json.loads(row["snapshot"])} if row else {}
            current = {
                (item["key"], item["scope"]): item
                for item in db.execute("SELECT * FROM config_item WHERE app_id = ? AND version > 0", (app.id,))
            }
            changes = []
            for place in sorted({*wanted, *current}):
                old = current[place]["value"] if place in current else None
                new = wanted[place]["value"] if place in wanted else None
                if old == new:
                    continue
                changes.append({"key": place[0], "scope": place[1], "old": old, "new": new})
                self._put(db, app.id, place, new, state.version + 1, wanted.get(place))
            if not changes:
                return Published(state.version, (), ())
            return self._release(db, state, f"rollback to {version}", changes)

    def _put(
        self,
        db: sqlite3.Connection,
        app_id: int,
        place: tuple[str, str],
        value: str | None,
        version: int,
        wanted: Mapping[str, Any] | None,
    ) -> None:
        key, scope = place
        if value is None:
            statement = "DELETE FROM config_item WHERE app_id = ? AND key = ? AND scope = ?"
            db.execute(statement, (app_id, key, scope))
            return
        db.execute(
            "INSERT INTO config_item (app_id, key, scope, value, version, comment, updated) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (app_id, key, scope) DO UPDATE SET value = excluded.value, version = excluded.version, "
            "updated = excluded.updated",
            (app_id, key, scope, value, version, (wanted or {}).get("comment", ""), self._clock()),
        )

    def _release(self, db: sqlite3.Connection, state: ConfigApp, kind: str, changes: list[dict[str, Any]]) -> Published:
        self._check_references(db, load_state(db, state.app_id))
        version = self._raise_version(db, state.app_id, kind, changes)
        users = consumers(db, state)
        for user in users:
            self._raise_version(db, user, f"shared change of {state.name}", [])
        return Published(version, tuple(changes), (state.app_id, *users))

    def _raise_version(self, db: sqlite3.Connection, app_id: int, kind: str, changes: list[dict[str, Any]]) -> int:
        now = self._clock()
        db.execute(
            "UPDATE config_app SET version = version + 1, next_version = version + 1 WHERE app_id = ?", (app_id,)
        )
        settle(db, app_id, now)
        version = load_state(db, app_id).version
        snapshot = [
            dict(row)
            for row in db.execute(
                "SELECT key, scope, value, comment FROM config_item WHERE app_id = ? AND version > 0", (app_id,)
            )
        ]
        db.execute(
            "INSERT INTO config_release (app_id, version, published_at, kind, changes, snapshot) VALUES (?, ?, ?, ?, ?, ?)",
            (app_id, version, now, kind, _json(changes), _json(snapshot)),
        )
        return version

    def _check_references(self, db: sqlite3.Connection, state: ConfigApp) -> None:
        sources = load_sources(db, state)
        scopes = db.execute("SELECT DISTINCT scope FROM config_item WHERE app_id = ?", (state.app_id,)).fetchall()
        for scope in {"", *(row["scope"] for row in scopes)}:
            try:
                effective(sources, scope)
            except CallError as exc:
                raise CallError(409, f"not published: {exc.message}") from exc

    def configure(self, app: App, changes: Mapping[str, Any]) -> Published:
        """Change how the configuration is shared (`is_global`, `quotable`, `quotes`, `readonly`, `enable_worker_id`,
        `enabled`, `next_publish` in Unix ms); whoever is affected gets a new version."""
        with self._database.write() as db:
            before = load_state(db, app.id)
            for name in ("is_global", "quotable", "readonly", "enable_worker_id", "enabled"):
                if name in changes:
                    db.execute(f"UPDATE config_app SET {name} = ? WHERE app_id = ?", (int(bool(changes[name])), app.id))  # noqa: S608 - names from the tuple above
            if "quotes" in changes:
                quotes = ",".join(changes["quotes"] or ())
                db.execute("UPDATE config_app SET quotes = ? WHERE app_id = ?", (quotes, app.id))
            if "next_publish" in changes:
                moment = int(changes["next_publish"] or 0)
                db.execute("UPDATE config_app SET next_publish = ? WHERE app_id = ?", (moment, app.id))
            after = load_state(db, app.id)
            affected: set[int] = set()
            if before.quotes != after.quotes or before.enable_worker_id != after.enable_worker_id:
                affected.add(app.id)
            if (before.is_global, before.quotable, before.enabled) != (after.is_global, after.quotable, after.enabled):
                affected.update(consumers(db, before), consumers(db, after))
            for user in affected:
                self._raise_version(db, user, f"settings of {app.name}", [])
            return Published(load_state(db, app.id).version, (), tuple(sorted(affected)))

    def due(self) -> list[int]:
        """Applications whose planned time of publishing has come."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT app_id FROM config_app WHERE next_publish > 0 AND next_publish <= ?", (self._clock(),)
            ).fetchall()
        return [row["app_id"] for row in rows]

    def history(self, app: App, limit: int = 100) -> list[dict[str, Any]]:
        """Versions, the newest first."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT version, published_at, kind, changes FROM config_release WHERE app_id = ? "
                "ORDER BY version DESC LIMIT ?",
                (app.id, limit),
            ).fetchall()
        return [
            {
                "version": row["version"],
                "published_at": row["published_at"],
                "kind": row["kind"],
                "changes": json.loads(row["changes"]),
            }
            for row in rows
        ]


def consumers(db: sqlite3.Connection, state: ConfigApp) -> list[int]:
    """Applications that get values of this one: all of them when it is global, else those that quote or name it."""
    rows = db.execute(
        "SELECT c.app_id, c.quotes, a.name FROM config_app c JOIN app a ON a.id = c.app_id ORDER BY c.app_id"
    ).fetchall()
    if state.is_global:
        return [row["app_id"] for row in rows if row["app_id"] != state.app_id]
    pattern = "%@" + state.name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    found = {
        row["app_id"]
        for row in db.execute(
            "SELECT DISTINCT app_id FROM config_item WHERE version > 0 AND value LIKE ? ESCAPE '\\'", (pattern,)
        )
    }
    wanted = {state.name.lower(), str(state.app_id)}
    grown = True
    while grown:
        grown = False
        for row in rows:
            quotes = {part.strip().lower() for part in row["quotes"].split(",")}
            if quotes & wanted and row["name"].lower() not in wanted:
                wanted |= {row["name"].lower(), str(row["app_id"])}
                found.add(row["app_id"])
                grown = True
    return sorted(found - {state.app_id})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
