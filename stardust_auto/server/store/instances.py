"""Running instances of applications: signs of life, what they report of themselves, events.

A sign of life comes with nearly every request, also with one that only reads. So they are gathered in memory and written once a second:
a read never waits for the writer, and a full disk does not stop it. Whoever asks sees what is gathered and what is stored as one.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from stardust_auto.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store.database import Database
    from stardust_auto.wire.messages import AppInfo

_log = get_logger(__name__)
_MB = 1024 * 1024
#: Instances whose signs of life may wait in memory while the disk takes none.
_WAITING = 10_000
#: A 10-bit field in the platform's snowflake ids.
_WORKERS = 1023

_Key = tuple[int, str]


class Instances:
    """Instances by application and client id (``jti`` of the token, protocol.md §2.1). Any thread may call it."""

    def __init__(self, database: Database, settings: ServerSettings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[_Key, dict[str, Any]] = {}
        self._failed = False

    def seen(self, app_id: int, client_id: str, ip: str, **columns: Any) -> None:
        """Take a sign of life, with what is known of the instance (column names of the table)."""
        now = self._clock()
        key = (app_id, client_id)
        with self._lock:
            row = self._waiting.setdefault(key, {"created": now})
            row.update(columns, ip=ip, last_seen=now, online=1)
            if len(self._waiting) > _WAITING:
                del self._waiting[next(iter(self._waiting))]

    def ping(self, app_id: int, client_id: str, ip: str, info: AppInfo) -> None:
        """Take one AppInfo (protocol.md §2.5): bytes become MB."""
        given = {name: getattr(info, name) for name in (*_INFO, *_BYTES)}
        columns: dict[str, Any] = {column: given[name] for name, column in _INFO.items() if given[name] is not None}
        columns |= {column: given[name] // _MB for name, column in _BYTES.items() if given[name] is not None}
        if not math.isfinite(columns.get("cpu", 0.0)):  # JSON has no such number, so nobody could read the list again
            columns["cpu"] = 0.0
        self.seen(app_id, client_id, ip, **columns)

    def leave(self, app_id: int, client_id: str) -> None:
        """The instance logged out, or its push socket closed: off line until its next sign of life."""
        with self._lock:
            row = self._waiting.setdefault((app_id, client_id), {})
            row["online"] = 0

    def scope(self, app_id: int, client_id: str) -> str | None:
        """The scope that the instance asked for last, None for a new instance."""
        with self._lock:
            waiting = self._waiting.get((app_id, client_id), {}).get("scope")
        if waiting is not None:
            return str(waiting)
        with self._database.read() as db:
            row = db.execute(
                "SELECT scope FROM instance WHERE app_id = ? AND client_id = ?", (app_id, client_id)
            ).fetchone()
        return row["scope"] if row is not None else None

    def known_at(self, ip: str, app_id: int | None = None, client_id: str | None = None) -> bool:
        """Whether an instance, or this one, has logged in from ``ip`` and not logged out.

        An instance without a sign of life for as long as a token lives is not known any more.
        """
        since = self._clock() - self._settings.token_seconds * 1000
        with self._lock:
            waiting = {key: dict(columns) for key, columns in self._waiting.items()}
        for key, columns in waiting.items():
            wanted = app_id is None or key == (app_id, client_id)
            if wanted and columns.get("ip") == ip and columns.get("online") and columns["last_seen"] >= since:
                return True
        with self._database.read() as db:
            rows = db.execute(
                "SELECT app_id, client_id FROM instance WHERE ip = ? AND online = 1 AND last_seen >= ? "
                "AND (? IS NULL OR (app_id = ? AND client_id = ?))",
                (ip, since, app_id, app_id, client_id),
            )
            return any(waiting.get((row["app_id"], row["client_id"]), {}).get("online", 1) for row in rows)

    def worker_id(self, app_id: int, client_id: str) -> int:
        """The snowflake worker id of an instance, different from those of the others on line (protocol.md §6.6)."""
        with self._lock:
            rows = {row["client_id"]: row for row in self._rows(app_id)}
            taken = {row["worker_id"] for name, row in rows.items() if name != client_id and row["online"]}
            mine = rows[client_id]["worker_id"] if client_id in rows else None
            if mine is not None and mine not in taken:
                return int(mine)
            free = next((number for number in range(1, _WORKERS + 1) if number not in taken), _WORKERS)
            self._waiting.setdefault((app_id, client_id), {})["worker_id"] = free
            return free

    def of(self, app_id: int) -> list[dict[str, Any]]:
        """Instances of one application, the latest first; ``online`` follows the session time-out."""
        with self._lock:
            rows = self._rows(app_id)
        return sorted(rows, key=lambda row: row["last_seen"], reverse=True)

    def online_ids(self, app_id: int) -> list[str]:
        """Client ids that are on line."""
        return [row["client_id"] for row in self.of(app_id) if row["online"]]

    def overview(self) -> dict[int, tuple[int, int, int]]:
        """Instances, those on line, and the latest sign of life, by application id."""
        limit = self._limit()
        with self._lock, self._database.read() as db:
            last: dict[_Key, dict[str, Any]] = {
                (row["app_id"], row["client_id"]): {"seen": row["seen"], "online": row["online"]}
                for row in db.execute("SELECT app_id, client_id, last_seen AS seen, online FROM instance")
            }
            for key, columns in self._waiting.items():
                newer = {"seen": 0, "online": 1, **last.get(key, {})}
                newer["seen"] = columns.get("last_seen", newer["seen"])
                newer["online"] = columns.get("online", newer["online"])
                last[key] = newer
        found: dict[int, tuple[int, int, int]] = {}
        for (app_id, _), row in last.items():
            count, alive, latest = found.get(app_id, (0, 0, 0))
            online = bool(row["online"]) and row["seen"] >= limit
            found[app_id] = (count + 1, alive + int(online), max(latest, row["seen"]))
        return found

    def _rows(self, app_id: int) -> list[dict[str, Any]]:
        """What is stored with what is waiting on top; the lock is held."""
        with self._database.read() as db:
            stored = db.execute("SELECT * FROM instance WHERE app_id = ?", (app_id,)).fetchall()
        rows = {row["client_id"]: dict(row) for row in stored}
        for (app, client_id), columns in self._waiting.items():
            if app == app_id and (client_id in rows or "last_seen" in columns):
                rows[client_id] = {
                    **(rows.get(client_id) or {**_NEW, "app_id": app, "client_id": client_id}),
                    **(columns if client_id not in rows else {k: v for k, v in columns.items() if k != "created"}),
                }
        limit = self._limit()
        return [{**row, "online": bool(row["online"]) and row["last_seen"] >= limit} for row in rows.values()]

    def _limit(self) -> int:
        return self._clock() - self._settings.session_seconds * 1000

    def write(self) -> None:
        """Write the waiting signs of life; what cannot be written waits on."""
        with self._lock:
            taken = {key: dict(columns) for key, columns in self._waiting.items()}
        if not taken:
            return
        try:
            with self._database.write() as db:
                for (app_id, client_id), columns in taken.items():
                    self._write(db, app_id, client_id, columns)
        except sqlite3.OperationalError as error:
            if not self._failed:
                _log.warning("signs of life are kept in memory, the disk does not take them: %s", error)
            self._failed = True
            return
        self._failed = False
        with self._lock:
            for key, columns in taken.items():
                if self._waiting.get(key) == columns:
                    del self._waiting[key]

    def _write(self, db: sqlite3.Connection, app_id: int, client_id: str, columns: Mapping[str, Any]) -> None:
        if "last_seen" in columns:
            db.execute(
                "INSERT INTO instance (app_id, client_id, created, last_seen) SELECT id, ?, ?, ? FROM app WHERE id = ? "
                "ON CONFLICT (app_id, client_id) DO NOTHING",
                (client_id, columns.get("created", columns["last_seen"]), columns["last_seen"], app_id),
            )
        values = {name: value for name, value in columns.items() if name != "created"}
        names = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE instance SET {names} WHERE app_id = ? AND client_id = ?"
        db.execute(statement, (*values.values(), app_id, client_id))

    def forget(self, app_id: int) -> None:
        """Drop what waits for an application that is deleted."""
        with self._lock:
            self._waiting = {key: columns for key, columns in self._waiting.items() if key[0] != app_id}

    def add_events(self, app_id: int, client_id: str, events: Sequence[tuple[int, str, str, str]]) -> None:
        """Store events as (time ms, kind, name, remark)."""
        with self._database.write() as db:
            db.executemany(
                "INSERT INTO event (app_id, client_id, time, kind, name, remark) VALUES (?, ?, ?, ?, ?, ?)",
                [(app_id, client_id, *event) for event in events],
            )

    def events(self, app_id: int, limit: int = 50) -> list[dict[str, Any]]:
        """The latest events of one application."""
        with self._database.read() as db:
            rows: Iterable[sqlite3.Row] = db.execute(
                "SELECT * FROM event WHERE app_id = ? ORDER BY time DESC, id DESC LIMIT ?", (app_id, limit)
            ).fetchall()
        return [dict(row) for row in rows]


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
}
_BYTES = {"working_set": "memory_mb", "heap_size": "heap_mb"}
#: An instance that is not in the file yet.
_NEW: dict[str, Any] = {
    **dict.fromkeys(("ip", "local_ip", "machine", "user", "process_name", "command_line", "version"), ""),
    **dict.fromkeys(("used_keys", "missed_keys", "refused_reason", "restart_keys"), ""),
    **dict.fromkeys(("process_id", "started", "created", "last_seen", "memory_mb", "heap_mb", "threads"), 0),
    **dict.fromkeys(("served_version", "used_version", "refused_version"), 0),
    "online": 1,
    "cpu": 0.0,
    "scope": None,
    "worker_id": None,
}
