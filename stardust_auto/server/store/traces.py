"""Trace reports: counts per operation and samples of spans."""

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


_LONGEST_PERIOD = 3_600_000  # ms: a builder that started before is not looked at (the index is by start)


class Traces:
    """Stores reports and sums them up."""

    def __init__(self, database: Database, settings: ServerSettings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    def store(self, app: App, client_id: str, report: TraceReport) -> bool:
        """Store a report in one transaction; False when this batch (extra member `BatchId`) is here already."""
        now = self._clock()
        dropped: dict[str, int] = {}
        kept: list[Builder] = []
        for builder in (plausible(item, now) for item in report.builders or ()):
            if builder.name and matches(app.excludes, builder.name):
                continue  # asked for, hence no loss
            if not builder.name:
                reason = "no name"
            elif within(builder, now, self._settings.retention_days):
                kept.append(builder)
                continue
            else:
                reason = "start over a day ahead" if builder.start_time > now else "start older than the retention"
            dropped[reason] = dropped.get(reason, 0) + 1
        with self._database.write() as db:
            if report.batch_id:
                inserted = db.execute(
                    "INSERT OR IGNORE INTO batch (app_id, batch_id, received) VALUES (?, ?, ?)",
                    (app.id, report.batch_id, now),
                ).rowcount
                if not inserted:
                    return False
            for builder in kept:
                self._store_builder(db, app.id, client_id, builder)
            if dropped:
                reason = ", ".join(f"{count} x {text}" for text, count in dropped.items())
                db.execute(
                    "UPDATE app SET dropped = dropped + ?, dropped_reason = ? WHERE id = ?",
                    (sum(dropped.values()), reason, app.id),
                )
        return True

    def _store_builder(self, db: sqlite3.Connection, app_id: int, client_id: str, builder: Builder) -> None:
        operation = self._operation(db, app_id, builder)
        db.execute(
            "INSERT INTO builder (app_id, operation_id, client_id, start_time, end_time, total, errors, cost, max_cost,"
            " min_cost, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                app_id,
                operation,
                client_id,
                builder.start_time,
                builder.end_time,
                builder.total,
                builder.errors,
                builder.cost,
                builder.max_cost,
                builder.min_cost,
                builder.value,
            ),
        )
        db.executemany(
            "INSERT INTO sample (app_id, operation_id, client_id, trace_id, span_id, parent_id, start_time, end_time,"
            " value, tag, error, failed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    span.value,
                    span.tag,
                    span.error,
                    int(failed),
                )
                for span, failed in spans_of(builder)
            ],
        )

    def _operation(self, db: sqlite3.Connection, app_id: int, builder: Builder) -> int:
        seen = max(builder.start_time, builder.end_time)
        row = db.execute(
            "SELECT id, last_seen FROM operation WHERE app_id = ? AND name = ?", (app_id, builder.name)
        ).fetchone()
        if row is None:
            cursor = db.execute(
                "INSERT INTO operation (app_id, name, kind, last_seen) VALUES (?, ?, ?, ?)",
                (app_id, builder.name, kind_of(builder.name), seen),
            )
            return int(cursor.lastrowid or 0)
        if seen > row["last_seen"]:
            db.execute("UPDATE operation SET last_seen = ? WHERE id = ?", (seen, row["id"]))
        return int(row["id"])

    def operations(self, app_id: int, minutes: float) -> list[dict[str, Any]]:
        """Sums of the last `minutes` by operation, the costliest first; ms, `mean` with two decimals."""
        since = self._clock() - int(minutes * 60_000)
        with self._database.read() as db:
            rows = db.execute(
                "SELECT o.name, o.kind, SUM(b.total) AS total, SUM(b.errors) AS errors, SUM(b.cost) AS cost, "
                "MAX(b.max_cost) AS max_cost, MIN(CASE WHEN b.min_cost >= 0 AND b.total > 0 THEN b.min_cost END) AS min_cost, "
                "SUM(b.value) AS value, MAX(MAX(b.end_time, b.start_time)) AS last_seen "
                "FROM builder b JOIN operation o ON o.id = b.operation_id "
                "WHERE b.app_id = ? AND b.start_time >= ? AND MAX(b.end_time, b.start_time) >= ? "
                "GROUP BY o.id ORDER BY cost DESC, o.name",
                (app_id, since - _LONGEST_PERIOD, since),
            ).fetchall()
        return [_operation(row) for row in rows]

    def totals(self, minutes: float) -> dict[int, tuple[int, int, int]]:
        """Count, errors and cost (ms) by application id over the last `minutes`."""
        since = self._clock() - int(minutes * 60_000)
        with self._database.read() as db:
            rows = db.execute(
                "SELECT app_id, SUM(total) AS total, SUM(errors) AS errors, SUM(cost) AS cost FROM builder "
                "WHERE start_time >= ? AND MAX(end_time, start_time) >= ? GROUP BY app_id",
                (since - _LONGEST_PERIOD, since),
            ).fetchall()
        return {row["app_id"]: (row["total"], row["errors"], row["cost"]) for row in rows}


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
        "value": row["value"],
        "last_seen": row["last_seen"],
    }
