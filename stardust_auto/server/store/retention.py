"""What is kept: samples and events for days, counts for months, all of it below a size limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.log import get_logger
from stardust_auto.server.store.traces import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.process.clock import Clock
    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store.database import Database

_log = get_logger(__name__)
#: Rows removed in one transaction, so that a report does not wait long for the writer.
_SLICE = 5000
#: A wall clock that is further ahead than this (ms) of what the time since the last look explains is not believed at once.
_LEAP_MS = 3_600_000
_AGED = (("sample", "start_time"), ("event", "time"), ("command", "created"), ("batch", "received"))
#: What grows with traffic, with the bytes of a row and its indexes as measured with ``dbstat`` on 2026-11-24.
_ROW_BYTES = {"sample": 600, "event": 320, "batch": 90, "stat": 48, "command": 250}


class Retention:
    """Removes what is too old, then what is too much, oldest first."""

    def __init__(self, database: Database, settings: ServerSettings, clock: Clock, roll_up: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._roll_up = roll_up
        self._last: tuple[int, int] | None = None

    def prune(self) -> int:
        """Roll up, then remove; returns the number of rows gone. In small transactions.

        A clock that leaps ahead would remove everything: the first look after a leap removes nothing.
        """
        now = self._clock.wall_ns() // 1_000_000
        if self._leapt(now):
            _log.warning("the clock leapt ahead: nothing is removed for its age until it has stayed there for a while")
            return 0
        removed = self._roll_up()
        for table, column in _AGED:
            removed += self._remove(table, column, now - int(self._settings.retention_days * DAY_MS))
        with self._database.write() as db:
            limit = now - int(self._settings.retention_days * DAY_MS)
            removed += db.execute("DELETE FROM instance WHERE last_seen < ?", (limit,)).rowcount
            removed += db.execute("DELETE FROM provider WHERE updated < ?", (now - 2 * DAY_MS,)).rowcount
            db.execute("DELETE FROM signed_out WHERE expires < ?", (now // 1000,))
            oldest = now - int(self._settings.stat_days * DAY_MS)
            for table in ("stat", "app_stat"):
                removed += db.execute(f"DELETE FROM {table} WHERE start < ?", (oldest,)).rowcount
            removed += db.execute("DELETE FROM operation WHERE last_seen < ?", (min(oldest, limit),)).rowcount
        removed += self._shrink()
        self._database.give_back()
        return removed

    def _leapt(self, now: int) -> bool:
        elapsed = self._clock.monotonic_ns() // 1_000_000
        last, self._last = self._last, (now, elapsed)
        if last is None:
            with self._database.read() as db:
                row = db.execute("SELECT MAX(last_seen) AS seen FROM instance").fetchone()
            return row["seen"] is not None and now - row["seen"] > int(self._settings.retention_days * DAY_MS)
        return now - last[0] - (elapsed - last[1]) > _LEAP_MS

    def _remove(self, table: str, column: str, limit: int) -> int:
        removed = 0
        while True:
            with self._database.write() as db:
                key = "batch_id" if table == "batch" else "rowid"
                statement = (
                    f"DELETE FROM {table} WHERE {column} < ?"
                    if table == "batch"
                    else f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {column} < ? LIMIT {_SLICE})"
                )
                count = db.execute(statement, (limit,)).rowcount
            removed += count
            if count < _SLICE or table == "batch":
                return removed

    def _shrink(self) -> int:
        """Remove the oldest tenth of whatever takes most room, until the file is small enough."""
        limit = self._settings.max_data_mb * 1_000_000
        removed = 0
        while self._database.used_bytes() > limit:
            with self._database.read() as db:
                counts = {table: int(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]) for table in _ROW_BYTES}
            table = max(counts, key=lambda name: counts[name] * _ROW_BYTES[name])
            if not counts[table]:
                break
            count = self._remove_oldest(table, max(counts[table] // 10, 1))
            removed += count
            if not count:
                break
        return removed

    def _remove_oldest(self, table: str, wanted: int) -> int:
        removed = 0
        while removed < wanted:
            count = min(_SLICE, wanted - removed)
            with self._database.write() as db:
                if table == "stat":
                    row = db.execute("SELECT start FROM stat ORDER BY start LIMIT 1 OFFSET ?", (wanted - 1,)).fetchone()
                    return db.execute("DELETE FROM stat WHERE start <= ?", (row["start"],)).rowcount
                if table == "batch":
                    statement = (
                        "DELETE FROM batch WHERE (app_id, batch_id) IN "
                        "(SELECT app_id, batch_id FROM batch ORDER BY received LIMIT ?)"
                    )
                else:
                    statement = f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)"
                gone = db.execute(statement, (count,)).rowcount
            removed += gone
            if not gone:
                break
        return removed
