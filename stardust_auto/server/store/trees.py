"""Traces put together from samples of all applications (protocol.md §3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from stardust_auto.server.store.database import Database

_SPAN_LIMIT = 5000
_SAMPLES_PER_TRACE = 200
_SPANS = (
    "SELECT s.*, a.name AS app, o.name AS name, o.kind AS kind FROM sample s "
    "JOIN app a ON a.id = s.app_id JOIN operation o ON o.id = s.operation_id "
)


class Trees:
    """Reads traces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recent(self, *, app: str = "", sort: str = "recent", limit: int = 20) -> list[dict[str, Any]]:
        """Traces with their root; `sort` is `slow` or `recent`; cost is from first start to last end, ms."""
        order = "MAX(end_time) - MIN(start_time) DESC, trace_id" if sort == "slow" else "MAX(start_time) DESC, trace_id"
        candidates, arguments = _candidates(app, sort, limit)
        with self._database.read() as db:
            rows = db.execute(
                "SELECT trace_id, MIN(start_time) AS start_time, MAX(end_time) AS end_time, COUNT(DISTINCT span_id) AS spans, "  # noqa: S608 - built from constants
                f"MAX(failed) AS failed FROM sample WHERE {candidates} GROUP BY trace_id ORDER BY {order} LIMIT ?",
                (*arguments, limit),
            ).fetchall()
            found = []
            for row in rows:
                root = db.execute(
                    f"{_SPANS} WHERE s.trace_id = :trace ORDER BY (s.parent_id NOT IN "  # noqa: S608 - a constant
                    "(SELECT span_id FROM sample WHERE trace_id = :trace)) DESC, s.start_time, s.id LIMIT 1",
                    {"trace": row["trace_id"]},
                ).fetchone()
                if root is not None:
                    found.append(_summary(row, root))
        return found

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Spans of a trace, depth first; `[]` when there are none. `trace_id` may be a whole traceparent."""
        parts = trace_id.strip().split("-")
        identity = parts[1] if len(parts) >= 4 else parts[0]
        if not identity:
            return []
        with self._database.read() as db:
            rows = db.execute(
                f"{_SPANS} WHERE s.trace_id = ? ORDER BY s.start_time, s.span_id, s.id LIMIT ?",
                (identity, _SPAN_LIMIT),
            ).fetchall()
        return arrange(rows)


def _candidates(app: str, sort: str, limit: int) -> tuple[str, list[Any]]:
    """Which traces to look at: for the latest ones only the latest samples, whatever the file holds."""
    where, arguments = "trace_id <> ''", list[Any]()
    if app:
        where += " AND app_id = (SELECT id FROM app WHERE name = ?)"
        arguments.append(app)
    if sort != "slow":
        arguments.append(limit * _SAMPLES_PER_TRACE)
        inner = f"SELECT trace_id FROM sample WHERE {where} ORDER BY start_time DESC LIMIT ?"  # noqa: S608 - a constant
        return f"trace_id IN ({inner})", arguments
    return (f"trace_id IN (SELECT trace_id FROM sample WHERE {where})" if app else where), arguments  # noqa: S608 - a constant


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
    return {
        "app": row["app"],
        "name": row["name"],
        "kind": row["kind"],
        "client_id": row["client_id"],
        "span_id": row["span_id"],
        "parent_id": row["parent_id"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        "cost": row["end_time"] - row["start_time"],
        "tag": row["tag"],
        "error": row["error"],
        "failed": bool(row["failed"]),
        "value": row["value"],
        "depth": depth,
    }
