"""Running instances of applications: sign of life, metrics, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store.database import Database
    from stardust_auto.wire.messages import AppInfo

_MB = 1024 * 1024
_SEEN = (
    "INSERT INTO instance (app_id, client_id, ip, created, last_seen) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (app_id, client_id) DO UPDATE SET ip = excluded.ip, last_seen = excluded.last_seen, online = 1"
)


class Instances:
    """Instances by application and client id (`jti` of the token, protocol.md §2.1)."""

    def __init__(self, database: Database, settings: ServerSettings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    def seen(self, app_id: int, client_id: str, ip: str, **columns: Any) -> None:
        """A sign of life, with what is known of the instance (column names of the table)."""
        with self._database.write() as db:
            self._seen(db, app_id, client_id, ip, columns)

    def _seen(self, db: sqlite3.Connection, app_id: int, client_id: str, ip: str, columns: Mapping[str, Any]) -> None:
        now = self._clock()
        db.execute(_SEEN, (app_id, client_id, ip, now, now))
        if columns:
            names = ", ".join(f"{name} = ?" for name in columns)
            statement = f"UPDATE instance SET {names} WHERE app_id = ? AND client_id = ?"  # noqa: S608 - names from our callers, not from a request
            db.execute(statement, (*columns.values(), app_id, client_id))

    def ping(self, app_id: int, client_id: str, ip: str, info: AppInfo) -> None:
        """Store one AppInfo (protocol.md §2.5): bytes become MB, milliseconds of CPU seconds."""
        columns = {column: getattr(info, name) for name, column in _INFO.items() if getattr(info, name) is not None}
        for name, column, unit in _SCALED:
            if getattr(info, name) is not None:
                columns[column] = getattr(info, name) // unit
        with self._database.write() as db:
            self._seen(db, app_id, client_id, ip, columns)
            if info.working_set is not None or info.cpu_usage is not None:
                db.execute(
                    "INSERT INTO meter (app_id, client_id, time, cpu, memory_mb, heap_mb, threads) VALUES (?,?,?,?,?,?,?)",
                    (
                        app_id,
                        client_id,
                        self._clock(),
                        info.cpu_usage or 0.0,
                        columns.get("memory_mb", 0),
                        columns.get("heap_mb", 0),
                        info.threads or 0,
                    ),
                )

    def scope(self, app_id: int, client_id: str) -> str | None:
        """The scope this instance asked for last, None for a new instance."""
        with self._database.read() as db:
            row = db.execute(
                "SELECT scope FROM instance WHERE app_id = ? AND client_id = ?", (app_id, client_id)
            ).fetchone()
        return row["scope"] if row is not None else None

    def known_at(self, ip: str, app_id: int | None = None, client_id: str | None = None) -> bool:
        """Whether an instance, or this one, has logged in from ``ip`` and not logged out.

        An instance without a sign of life for as long as a token lives is not known any more.
        """
        with self._database.read() as db:
            row = db.execute(
                "SELECT 1 FROM instance WHERE ip = ? AND online = 1 AND last_seen >= ? "
                "AND (? IS NULL OR (app_id = ? AND client_id = ?)) LIMIT 1",
                (ip, self._clock() - self._settings.token_seconds * 1000, app_id, app_id, client_id),
            ).fetchone()
        return row is not None

    def leave(self, app_id: int, client_id: str) -> None:
        """The instance logged out: off line, kept."""
        with self._database.write() as db:
            db.execute("UPDATE instance SET online = 0 WHERE app_id = ? AND client_id = ?", (app_id, client_id))

    def of(self, app_id: int) -> list[dict[str, Any]]:
        """Instances of one application, the latest first; `online` follows the session time-out."""
        with self._database.read() as db:
            rows = db.execute("SELECT * FROM instance WHERE app_id = ? ORDER BY last_seen DESC", (app_id,)).fetchall()
        limit = self._limit()
        return [{**dict(row), "online": bool(row["online"]) and row["last_seen"] >= limit} for row in rows]

    def online_ids(self, app_id: int) -> list[str]:
        """Client ids that are on line."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT client_id FROM instance WHERE app_id = ? AND online = 1 AND last_seen >= ?",
                (app_id, self._limit()),
            ).fetchall()
        return [row["client_id"] for row in rows]

    def _limit(self) -> int:
        return self._clock() - self._settings.session_seconds * 1000

    def add_events(self, app_id: int, client_id: str, events: Sequence[tuple[int, str, str, str]]) -> None:
        """Events as (time ms, kind, name, remark)."""
        with self._database.write() as db:
            db.executemany(
                "INSERT INTO event (app_id, client_id, time, kind, name, remark) VALUES (?, ?, ?, ?, ?, ?)",
                [(app_id, client_id, *event) for event in events],
            )

    def events(self, app_id: int, limit: int = 50) -> list[dict[str, Any]]:
        """The latest events of one application."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT * FROM event WHERE app_id = ? ORDER BY time DESC, id DESC LIMIT ?", (app_id, limit)
            ).fetchall()
        return [dict(row) for row in rows]


#: Attribute of an AppInfo -> column of the instance.
_INFO = {
    "id": "process_id",
    "name": "process_name",
    "version": "version",
    "command_line": "command_line",
    "user_name": "user",
    "machine_name": "machine",
    "ip": "local_ip",
    "start_time": "started",
    "cpu_usage": "cpu",
    "threads": "threads",
    "handles": "handles",
    "connections": "connections",
    "gc_count": "collections",
}
_SCALED = (
    ("working_set", "memory_mb", _MB),
    ("heap_size", "heap_mb", _MB),
    ("processor_time", "processor_seconds", 1000),
)
