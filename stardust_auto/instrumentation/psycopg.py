"""psycopg 3, sync and async: one span for each statement, ``COPY`` and stream. Never parameters, never data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.dbapi import trace_cursors

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches


def _database(connection: Any) -> str:
    return str(connection.info.dbname)


def _patch(module: ModuleType, patches: Patches) -> None:
    trace_cursors(
        patches,
        (module.Cursor, module.ServerCursor, module.AsyncCursor, module.AsyncServerCursor),
        _database,
        methods=("execute", "executemany", "stream"),
        contexts=("copy",),
    )


INTEGRATION = Integration(name="psycopg", targets={"psycopg": _patch}, supports={"psycopg": (3, 1)})
