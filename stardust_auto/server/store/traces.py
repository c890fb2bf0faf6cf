"""Trace reports: counts per operation, summed by minute, hour and day, and samples of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.server.reports import plausible, spans_of, within
from stardust_auto.wire.kinds import kind_of
from stardust_auto.wire.wildcards import matches

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.database import Database
    from stardust_auto.wire.messages import Builder, TraceReport

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
#: How long counts stay sums of minutes, then of hours, in ms. After that they are sums of days.
MINUTES_KEPT = 3 * HOUR_MS
HOURS_KEPT = 3 * DAY_MS
_KNOWN_OPERATIONS = 50_000


def grain_of(start: int, now: int) -> int:
    """The grain (ms) in which counts of that age are kept."""
    age = now - start
    return MINUTE_MS if age <= MINUTES_KEPT else HOUR_MS if age <= HOURS_KEPT else DAY_MS


class Traces:
    """Stores reports and sums them up. Any thread may call it."""

    def __init__(self, database: Database, settings: ServerSettings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        #: (id, last noted use) by application and name. Only the holder of the writer changes it.
        self._operations: dict[tuple[int, str], tuple[int, int]] = {}

    def store(self, app: App, client_id: str, report: TraceReport) -> bool:
        """Store a report in one transaction; False when this batch (extra member ``BatchId``) is here already."""
        now = self._clock()
        dropped: dict[str, int] = {}
        kept: list[Builder] = []
        for builder in (plausible(item, now) for item in report.builders or ()):
            if builder.name and matches(app.policy.excludes, builder.name):
                continue  # asked for, hence no loss
            if not builder.name:
                reason = "no name"
            elif within(builder, now, self._settings.retention_days):
                kept.append(builder)
                continue
            else:
                reason = "start over a day ahead" if builder.start_time > now else "start older than the retention"
            dropped[reason] = dropped.get(reason, 0) + 1
        fresh: dict[tuple[int, str], tuple[int, int]] = {}
        with self._database.write() as db:
            if report.batch_id:
                inserted = db.execute(
                    "INSERT OR IGNORE INTO batch (app_id, batch_id, received) VALUES (?, ?, ?)",
                    (app.id, report.batch_id, now),
                ).rowcount
                if not inserted:
                    return False
            totals: dict[tuple[int, int], list[int]] = {}
            for builder in kept:
                self._store_builder(db, app.id, client_id, builder, now, fresh)
                grain, start = _bucket(builder, now)
                total = totals.setdefault((grain, start), [0, 0, 0])
                for index, value in enumerate((builder.total, builder.errors, builder.cost)):
                    total[index] += value
            db.executemany(_ADD_TOTAL, [(app.id, grain, start, *total) for (grain, start), total in totals.items()])
            if dropped:
                reason = ", ".join(f"{count} x {text}" for text, count in dropped.items())
                db.execute(
                    "UPDATE app SET dropped = dropped + ?, dropped_reason = ? WHERE id = ?",
                    (sum(dropped.values()), reason, app.id),
                )
        # Only now: a transaction that is rolled back has given no ids.
        if len(self._operations) > _KNOWN_OPERATIONS:
            self._operations = {}
        self._operations.update(fresh)
        return True

    def forget(self) -> None:
        """Drop the ids in memory, after operations have been deleted."""
        self._operations = {}

    def _store_builder(
        self,
        db: sqlite3.Connection,
        app_id: int,
        client_id: str,
        builder: Builder,
        now: int,
        fresh: dict[tuple[int, str], tuple[int, int]],
    ) -> None:
        operation = self._operation(db, app_id, builder, fresh)
        shortest = builder.min_cost if builder.min_cost >= 0 and builder.total > 0 else None
        counts = (builder.total, builder.errors, builder.cost, builder.max_cost, shortest, builder.value)
        db.execute(_ADD, (app_id, *_bucket(builder, now), operation, *counts))
        db.executemany(
            "INSERT INTO sample (app_id, operation_id, client_id, trace_id, span_id, parent_id, start_time, end_time,"
            " start_us, end_us, value, tag, error, failed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    app_id,
                    operation,
                    client_id,
                    span.trace_id,
                    span.id,
                    span.parent_id,
                    span.start_time,
                    span.end_time,
                    span.start_us,
                    span.end_us,
                    span.value,
                    span.tag,
                    span.error,
                    int(failed),
                )
                for span, failed in spans_of(builder)
            ],
        )

    def _operation(
        self,
        db: sqlite3.Connection,
        app_id: int,
        builder: Builder,
        fresh: dict[tuple[int, str], tuple[int, int]],
    ) -> int:
        seen = max(builder.start_time, builder.end_time)
        key = (app_id, builder.name)
        known = fresh.get(key) or self._operations.get(key)
        if known is None:
            row = db.execute("SELECT id, last_seen FROM operation WHERE app_id = ? AND name = ?", key).fetchone()
            if row is None:
                cursor = db.execute(
                    "INSERT INTO operation (app_id, name, kind, last_seen) VALUES (?, ?, ?, ?)",
                    (*key, kind_of(builder.name), seen),
                )
                known = (int(cursor.lastrowid or 0), seen)
            else:
                known = (int(row["id"]), int(row["last_seen"]))
        if seen > known[1]:
            db.execute("UPDATE operation SET last_seen = ? WHERE id = ?", (seen, known[0]))
            known = (known[0], seen)
        fresh[key] = known
        return known[0]

    def operations(self, app_id: int, minutes: float) -> list[dict[str, Any]]:
        """Sums of the last ``minutes`` by operation, the costliest first; ms, ``mean`` with two decimals.

        Counts that are summed by the hour or day belong to the time that more than half of it is in.
        """
        since = self._clock() - int(minutes * 60_000)
        with self._database.read() as db:
            rows = db.execute(
                "SELECT o.name, o.kind, o.last_seen, SUM(s.total) AS total, SUM(s.errors) AS errors, "
                "CAST(TOTAL(s.cost) AS INTEGER) AS cost, "
                "MAX(s.max_cost) AS max_cost, MIN(s.min_cost) AS min_cost, CAST(TOTAL(s.value) AS INTEGER) AS value "
                f"FROM stat s JOIN operation o ON o.id = s.operation_id WHERE s.app_id = :app AND {_SINCE} "
                "GROUP BY o.id ORDER BY cost DESC, o.name",
                {"app": app_id, "since": since},
            ).fetchall()
        return [_operation(row) for row in rows]

    def totals(self, minutes: float) -> dict[int, tuple[int, int, int]]:
        """Count, errors and cost (ms) by application id over the last ``minutes``."""
        since = self._clock() - int(minutes * 60_000)
        with self._database.read() as db:
            rows = db.execute(
                "SELECT a.id, SUM(s.total) AS total, SUM(s.errors) AS errors, CAST(TOTAL(s.cost) AS INTEGER) AS cost FROM app a "
                f"JOIN app_stat s ON s.app_id = a.id WHERE {_SINCE} GROUP BY a.id",
                {"since": since},
            ).fetchall()
        return {row["id"]: (row["total"], row["errors"], row["cost"]) for row in rows}

    def roll_up(self) -> int:
        """Sum old minutes up to hours and old hours to days; returns how many rows that saved. A transaction per application."""
        now = self._clock()
        with self._database.read() as db:
            apps = [row["id"] for row in db.execute("SELECT id FROM app")]
        saved = 0
        for app_id in apps:
            for fine, coarse, kept in ((MINUTE_MS, HOUR_MS, MINUTES_KEPT), (HOUR_MS, DAY_MS, HOURS_KEPT)):
                values = {"app": app_id, "fine": fine, "coarse": coarse, "cut": (now - kept) // coarse * coarse}
                with self._database.write() as db:
                    for insert, delete in _ROLL_UPS:
                        added = db.execute(insert, values).rowcount
                        saved += db.execute(delete, values).rowcount - added
        return saved


def _bucket(builder: Builder, now: int) -> tuple[int, int]:
    start = min(builder.start_time, now)
    grain = grain_of(start, now)
    return grain, start // grain * grain


_SINCE = (
    "(s.grain = 60000 AND s.start > :since - 60000 OR s.grain = 3600000 AND s.start >= :since - 1800000 "
    "OR s.grain = 86400000 AND s.start >= :since - 43200000)"
)
_MERGE = (
    "ON CONFLICT (app_id, grain, start, operation_id) DO UPDATE SET total = total + excluded.total, "
    "errors = errors + excluded.errors, cost = CAST(cost + excluded.cost AS INTEGER), max_cost = MAX(max_cost, excluded.max_cost), "
    "min_cost = MIN(COALESCE(min_cost, excluded.min_cost), COALESCE(excluded.min_cost, min_cost)), "
    "value = CAST(value + excluded.value AS INTEGER)"
)
_MERGE_TOTAL = (
    "ON CONFLICT (app_id, grain, start) DO UPDATE SET total = total + excluded.total, "
    "errors = errors + excluded.errors, cost = CAST(cost + excluded.cost AS INTEGER)"
)
_OLD = "WHERE app_id = :app AND grain = :fine AND start < :cut"
_ADD = (
    "INSERT INTO stat (app_id, grain, start, operation_id, total, errors, cost, max_cost, min_cost, value) "
    f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {_MERGE}"
)
_ADD_TOTAL = (
    f"INSERT INTO app_stat (app_id, grain, start, total, errors, cost) VALUES (?, ?, ?, ?, ?, ?) {_MERGE_TOTAL}"
)
_ROLL_UP = (
    "INSERT INTO stat (app_id, grain, start, operation_id, total, errors, cost, max_cost, min_cost, value) "
    "SELECT app_id, :coarse, start / :coarse * :coarse, operation_id, SUM(total), SUM(errors), CAST(TOTAL(cost) AS INTEGER), "
    f"MAX(max_cost), MIN(min_cost), CAST(TOTAL(value) AS INTEGER) FROM stat {_OLD} GROUP BY 3, 4 {_MERGE}"
)
_ROLL_UP_TOTAL = (
    "INSERT INTO app_stat (app_id, grain, start, total, errors, cost) "
    "SELECT app_id, :coarse, start / :coarse * :coarse, SUM(total), SUM(errors), CAST(TOTAL(cost) AS INTEGER) "
    f"FROM app_stat {_OLD} GROUP BY 3 {_MERGE_TOTAL}"
)
_ROLL_UPS = ((_ROLL_UP, f"DELETE FROM stat {_OLD}"), (_ROLL_UP_TOTAL, f"DELETE FROM app_stat {_OLD}"))


def _operation(row: sqlite3.Row) -> dict[str, Any]:
    total = int(row["total"])
    return {
        "name": row["name"],
        "kind": row["kind"],
        "total": total,
        "errors": row["errors"],
        "cost": row["cost"],
        "max_cost": row["max_cost"],
        "min_cost": row["min_cost"] if row["min_cost"] is not None else -1,
        "mean": round(row["cost"] / total, 2) if total else 0.0,
        "value": int(row["value"]),
        "last_seen": row["last_seen"],
    }
