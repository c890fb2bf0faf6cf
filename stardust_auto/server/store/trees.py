"""Traces put together from samples of all applications (protocol.md §3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from stardust_auto.server.store.database import Database

#: Spans of a trace that are read if nobody asks for more.
SPAN_LIMIT = 5000
_SAMPLES_PER_TRACE = 200
#: By microseconds where a client sends them, then by id: spans of one millisecond keep one order.
_ORDER = "ORDER BY CASE s.start_us WHEN 0 THEN s.start_time * 1000 ELSE s.start_us END, s.span_id, s.id"
_SPANS = (
    "SELECT s.*, a.name AS app, o.name AS name, o.kind AS kind FROM sample s "
    "JOIN app a ON a.id = s.app_id JOIN operation o ON o.id = s.operation_id "
)


class Trees:
    """Reads traces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recent(self, *, app: str = "", sort: str = "recent", limit: int = 20) -> list[dict[str, Any]]:
        """Traces with their root; ``sort`` is ``slow`` or ``recent``; cost is from first start to last end, ms."""
        # The latest is what arrived last: an instance whose clock is ahead must not lead the list for hours.
        order = "MAX(end_time) - MIN(start_time) DESC, trace_id" if sort == "slow" else "MAX(id) DESC"
        candidates, arguments = _candidates(app, sort, limit)
        with self._database.read() as db:
            rows = db.execute(
                "SELECT trace_id, MIN(start_time) AS start_time, MAX(end_time) AS end_time, COUNT(DISTINCT span_id) AS spans, "
                f"MAX(failed) AS failed FROM sample WHERE {candidates} GROUP BY trace_id ORDER BY {order} LIMIT ?",
                (*arguments, limit),
            ).fetchall()
            found = []
            for row in rows:
                root = db.execute(
                    f"{_SPANS} WHERE s.trace_id = :trace ORDER BY (s.parent_id NOT IN "
                    "(SELECT span_id FROM sample WHERE trace_id = :trace)) DESC, s.start_time, s.start_us, s.id LIMIT 1",
                    {"trace": row["trace_id"]},
                ).fetchone()
                if root is not None:
                    found.append(_summary(row, root))
        return found

    def trace(self, trace_id: str, limit: int = SPAN_LIMIT) -> list[dict[str, Any]]:
        """The first ``limit`` spans of a trace, depth first; ``[]`` if there are none. ``trace_id`` may be a whole traceparent.

        :meth:``size`` tells how many there are.
        """
        with self._database.read() as db:
            rows = db.execute(
                f"{_SPANS} WHERE s.trace_id = ? {_ORDER} LIMIT ?", (trace_id_of(trace_id), limit)
            ).fetchall()
        return arrange(rows)

    def size(self, trace_id: str) -> tuple[int, int]:
        """How many spans a trace has, and how many of them failed."""
        with self._database.read() as db:
            row = db.execute(
                "SELECT COUNT(*) AS spans, TOTAL(failed) AS failed FROM "
                "(SELECT MAX(failed) AS failed FROM sample WHERE trace_id = ? "
                "GROUP BY CASE span_id WHEN '' THEN CAST(id AS TEXT) ELSE span_id END)",
                (trace_id_of(trace_id),),
            ).fetchone()
        return int(row["spans"]), int(row["failed"])


def trace_id_of(text: str) -> str:
    """The trace id in a traceparent, or in itself."""
    parts = text.strip().split("-")
    return parts[1] if len(parts) >= 4 else parts[0] or "?"


def _candidates(app: str, sort: str, limit: int) -> tuple[str, list[Any]]:
    """Which traces to look at: for the latest ones only the latest samples, whatever the file holds."""
    where, arguments = "trace_id <> ''", list[Any]()
    if app:
        where += " AND app_id = (SELECT id FROM app WHERE name = ?)"
        arguments.append(app)
    if sort != "slow":
        arguments.append(limit * _SAMPLES_PER_TRACE)
        inner = f"SELECT trace_id FROM sample WHERE {where} ORDER BY id DESC LIMIT ?"
        return f"trace_id IN ({inner})", arguments
    return (f"trace_id IN (SELECT trace_id FROM sample WHERE {where})" if app else where), arguments


def _summary(row: sqlite3.Row, root: sqlite3.Row) -> dict[str, Any]:
    return {
        "trace_id": row["trace_id"],
        "app": root["app"],
        "name": root["name"],
        "start_time": row["start_time"],
        "cost": row["end_time"] - row["start_time"],
        "spans": row["spans"],
        "error": bool(row["failed"]),
    }


def arrange(rows: Sequence[sqlite3.Row]) -> list[dict[str, Any]]:
    """Depth first; children by start time, then span id; a set without a root (a cycle) is shown all the same."""
    by_id: dict[str, sqlite3.Row] = {}
    spans: list[sqlite3.Row] = []
    for row in rows:
        identity = row["span_id"] or f"row {row['id']}"
        if identity not in by_id:  # a span reported twice (as sample and as error sample, or sent again)
            by_id[identity] = row
            spans.append(row)
    children: dict[str, list[sqlite3.Row]] = {}
    roots: list[sqlite3.Row] = []
    for row in spans:
        parent = row["parent_id"]
        if parent and parent in by_id and parent != row["span_id"]:
            children.setdefault(parent, []).append(row)
        else:
            roots.append(row)
    arranged: list[dict[str, Any]] = []
    done: set[int] = set()
    for root in (*roots, *spans):  # after the roots: what only a cycle leads to
        stack = [(root, 0)]
        while stack:
            row, depth = stack.pop()
            if row["id"] in done:
                continue
            done.add(row["id"])
            arranged.append(_span(row, depth))
            stack.extend((child, depth + 1) for child in reversed(children.get(row["span_id"], ())))
    return arranged


def _span(row: sqlite3.Row, depth: int) -> dict[str, Any]:
    start, end = row["start_us"], row["end_us"]
    precise = bool(start) and end >= start
    return {
        "app": row["app"],
        "name": row["name"],
        "kind": row["kind"],
        "client_id": row["client_id"],
        "span_id": row["span_id"],
        "parent_id": row["parent_id"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        "start_us": start if precise else row["start_time"] * 1000,
        "cost": round((end - start) / 1000, 3) if precise else row["end_time"] - row["start_time"],
        "tag": row["tag"],
        "error": row["error"],
        "failed": bool(row["failed"]),
        "value": row["value"],
        "depth": depth,
    }
