"""The service registry (protocol.md §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.server.errors import CallError
from stardust_auto.server.store.apps import split_list
from stardust_auto.wire.fields import local_text
from stardust_auto.wire.messages import ServiceInstance

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from stardust_auto.server.store.database import Database

_STALE_MS = 300_000


class Registry:
    """Providers and consumers of services. A provider repeats itself; after five silent minutes it is left out."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def register(
        self, name: str, app_id: int, client_id: str, *, version: str, address: str, tag: str
    ) -> tuple[ServiceInstance, bool]:
        """Store a provider; returns its ServiceModel and whether consumers must hear of it.

        Raises:
            CallError: 403, the service is disabled.
        """
        now = self._clock()
        with self._database.write() as db:
            service = self._service(db, name)
            before = db.execute(
                "SELECT address, updated FROM provider WHERE service_id = ? AND app_id = ? AND client_id = ?",
                (service, app_id, client_id),
            ).fetchone()
            db.execute(
                "INSERT INTO provider (service_id, app_id, client_id, version, address, tag, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (service_id, app_id, client_id) DO UPDATE SET "
                "version = excluded.version, address = excluded.address, tag = excluded.tag, updated = excluded.updated",
                (service, app_id, client_id, version, address, tag, now, now),
            )
            row = db.execute(
                f"{_SELECT} WHERE p.service_id = ? AND p.app_id = ? AND p.client_id = ?", (service, app_id, client_id)
            ).fetchone()
        changed = before is None or before["address"] != address or before["updated"] < now - _STALE_MS
        return _model(row), changed

    def unregister(self, name: str, app_id: int, client_id: str) -> ServiceInstance | None:
        """Remove a provider; its ServiceModel, or None when there was none."""
        with self._database.write() as db:
            row = db.execute(
                f"{_SELECT} WHERE s.name = ? AND p.app_id = ? AND p.client_id = ?", (name, app_id, client_id)
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "DELETE FROM provider WHERE service_id = ? AND app_id = ? AND client_id = ?",
                (row["service_id"], app_id, client_id),
            )
        return _model(row)

    def resolve(
        self, name: str, app_id: int, client_id: str, *, min_version: str = "", tag: str = ""
    ) -> list[ServiceInstance]:
        """Providers that are alive, not older than ``min_version`` and carry every asked tag; notes the consumer."""
        now = self._clock()
        wanted = set(split_list(tag))
        with self._database.write() as db:
            service = self._service(db, name)
            db.execute(
                "INSERT INTO consumer (service_id, app_id, client_id, updated) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (service_id, app_id, client_id) DO UPDATE SET updated = excluded.updated",
                (service, app_id, client_id, now),
            )
            rows = db.execute(
                f"{_SELECT} WHERE p.service_id = ? AND p.updated >= ? ORDER BY p.created", (service, now - _STALE_MS)
            ).fetchall()
        return [
            _model(row)
            for row in rows
            if (not min_version or row["version"] >= min_version) and wanted <= set(split_list(row["tag"]))
        ]

    def search(self, name: str, key: str) -> list[ServiceInstance]:
        """Providers of a service whose address, client or tag contains ``key``."""
        with self._database.read() as db:
            rows = db.execute(f"{_SELECT} WHERE s.name = ?", (name,)).fetchall()
        return [_model(row) for row in rows if key in f"{row['address']} {row['client_id']} {row['tag']}"]

    def consumers(self, name: str) -> list[tuple[int, str]]:
        """(app id, client id) of those that resolved the service in the last ten minutes."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT c.app_id, c.client_id FROM consumer c JOIN service s ON s.id = c.service_id "
                "WHERE s.name = ? AND c.updated >= ?",
                (name, self._clock() - 600_000),
            ).fetchall()
        return [(row["app_id"], row["client_id"]) for row in rows]

    def _service(self, db: sqlite3.Connection, name: str) -> int:
        db.execute("INSERT OR IGNORE INTO service (name) VALUES (?)", (name,))
        row = db.execute("SELECT id, enabled FROM service WHERE name = ?", (name,)).fetchone()
        if not row["enabled"]:
            raise CallError(403, f"服务[{name}]已停用！")
        return int(row["id"])


_SELECT = "SELECT p.*, s.name AS service FROM provider p JOIN service s ON s.id = p.service_id"


def _model(row: sqlite3.Row) -> ServiceInstance:
    return ServiceInstance(
        service_name=row["service"],
        client=row["client_id"],
        version=row["version"],
        address=row["address"],
        scope=row["scope"],
        tag=row["tag"] or None,
        weight=row["weight"],
        create_time=local_text(row["created"]),
        update_time=local_text(row["updated"]),
    )
