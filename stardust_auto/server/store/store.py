"""The store: opens the file and composes the subjects."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from stardust_auto.server.settings import ServerSettings
from stardust_auto.server.store.apps import Apps
from stardust_auto.server.store.commands import Commands
from stardust_auto.server.store.configs import Configs
from stardust_auto.server.store.database import Database
from stardust_auto.server.store.instances import Instances
from stardust_auto.server.store.registry import Registry
from stardust_auto.server.store.releases import Releases
from stardust_auto.server.store.traces import Traces
from stardust_auto.server.store.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Store:
    """Everything a server keeps, in `folder`/stardust.db (mode 0600). Thread-safe.

    `clock` returns Unix milliseconds; tests give their own.
    """

    def __init__(self, folder: Path, settings: ServerSettings | None = None, clock: Callable[[], int] = now_ms) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.settings = settings or ServerSettings()
        self.clock = clock
        self.database = Database(folder / "stardust.db")
        self.apps = Apps(self.database, self.settings, clock)
        self.instances = Instances(self.database, self.settings, clock)
        self.traces = Traces(self.database, self.settings, clock)
        self.trees = Trees(self.database)
        self.configs = Configs(self.database, clock)
        self.releases = Releases(self.database, clock)
        self.commands = Commands(self.database, clock)
        self.registry = Registry(self.database, clock)

    def secret(self, name: str) -> str:
        """A random text that is made once and kept with the data (token secret, console key, instance)."""
        with self.database.write() as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return str(row["value"])
            value = secrets.token_urlsafe(32)
            db.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))
            return value

    def prune(self) -> int:
        """Remove what is older than the retention; returns the number of rows. In small transactions."""
        limit = self.clock() - int(self.settings.retention_days * 86_400_000)
        removed = 0
        for table, column in _AGED:
            while True:
                with self.database.write() as db:
                    statement = (
                        f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608 - names from _AGED, a constant
                        f"(SELECT rowid FROM {table} WHERE {column} < ? LIMIT 5000)"
                    )
                    count = db.execute(statement, (limit,)).rowcount
                removed += count
                if count < 5000:
                    break
        with self.database.write() as db:
            removed += db.execute("DELETE FROM batch WHERE received < ?", (limit,)).rowcount
            removed += db.execute("DELETE FROM instance WHERE last_seen < ?", (limit,)).rowcount
            removed += db.execute("DELETE FROM provider WHERE updated < ?", (self.clock() - 172_800_000,)).rowcount
            removed += db.execute(
                "DELETE FROM operation WHERE last_seen < ? AND NOT EXISTS "
                "(SELECT 1 FROM builder WHERE builder.operation_id = operation.id)",
                (limit,),
            ).rowcount
        return removed + self._shrink()

    def _shrink(self) -> int:
        """Remove the oldest samples while there is too much; freed pages are used again."""
        limit = self.settings.max_data_mb * 1_000_000
        removed = 0
        while True:
            with self.database.write() as db:
                pages, free, size = (
                    int(db.execute(f"PRAGMA {name}").fetchone()[0])
                    for name in ("page_count", "freelist_count", "page_size")
                )
                if (pages - free) * size <= limit:
                    return removed
                statement = "DELETE FROM sample WHERE id IN (SELECT id FROM sample ORDER BY start_time LIMIT 5000)"
                count = db.execute(statement).rowcount
            removed += count
            if not count:
                return removed

    def close(self) -> None:
        """Close the file."""
        self.database.close()


_AGED = (
    ("sample", "start_time"),
    ("builder", "start_time"),
    ("meter", "time"),
    ("event", "time"),
    ("command", "created"),
)
