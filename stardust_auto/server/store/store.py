"""The store: opens the file and composes the subjects."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from stardust_auto.process.clock import SYSTEM_CLOCK
from stardust_auto.server.settings import ServerSettings
from stardust_auto.server.store.apps import Apps
from stardust_auto.server.store.commands import Commands
from stardust_auto.server.store.database import Database
from stardust_auto.server.store.instances import Instances
from stardust_auto.server.store.registry import Registry
from stardust_auto.server.store.retention import Retention
from stardust_auto.server.store.traces import Traces
from stardust_auto.server.store.trees import Trees

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.process.clock import Clock
    from stardust_auto.server.store.apps import App


class Store:
    """Everything a server keeps, in ``folder``/stardust.db (mode 0600). Any thread may call it."""

    def __init__(self, folder: Path, settings: ServerSettings | None = None, time: Clock = SYSTEM_CLOCK) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.settings = settings or ServerSettings()
        #: The one clock of the server.
        self.time = time
        self.database = Database(folder / "stardust.db")
        self.apps = Apps(self.database, self.settings, self.clock)
        self.instances = Instances(self.database, self.settings, self.clock)
        self.traces = Traces(self.database, self.settings, self.clock)
        self.trees = Trees(self.database)
        self.commands = Commands(self.database, self.clock)
        self.registry = Registry(self.database, self.clock)
        self._retention = Retention(self.database, self.settings, time, self.traces.roll_up)

    def clock(self) -> int:
        """The time in Unix milliseconds."""
        return self.time.wall_ns() // 1_000_000

    def delete_app(self, app: App) -> None:
        """Delete an application with everything that it reported and every version of its configuration."""
        with self.database.write() as db:
            for table in (
                "sample",
                "stat",
                "app_stat",
                "operation",
                "event",
                "command",
                "batch",
                "provider",
                "consumer",
            ):
                db.execute(f"DELETE FROM {table} WHERE app_id = ?", (app.id,))
            db.execute("DELETE FROM app WHERE id = ?", (app.id,))
        self.instances.forget(app.id)
        self.traces.forget()

    def secret(self, name: str) -> str:
        """A random text that is made once and kept with the data (token secret, console key, instance)."""
        with self.database.write() as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return str(row["value"])
            value = secrets.token_urlsafe(32)
            db.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))
            return value

    def sign_out(self, session: str, expires: int) -> None:
        """Remember until ``expires`` (Unix seconds) that a session of the console is over."""
        with self.database.write() as db:
            db.execute("INSERT OR IGNORE INTO signed_out (session, expires) VALUES (?, ?)", (session, expires))

    def signed_out(self, session: str) -> bool:
        """Whether a session of the console is over."""
        with self.database.read() as db:
            return db.execute("SELECT 1 FROM signed_out WHERE session = ?", (session,)).fetchone() is not None

    def prune(self) -> int:
        """Remove what is too old or too much; returns the number of rows."""
        self.instances.write()
        removed = self._retention.prune()
        if removed:
            self.traces.forget()
        return removed

    def close(self) -> None:
        """Write what waits in memory, close the file."""
        self.instances.write()
        self.database.close()
