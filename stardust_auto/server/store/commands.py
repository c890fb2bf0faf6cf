"""Commands to instances: kept until answered, so that a missed push comes with the next Ping (protocol.md §12.4)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stardust_auto.wire import messages as wire

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from stardust_auto.server.store.database import Database


@dataclass(frozen=True, slots=True)
class Command:
    """One command; ``client_id`` None means whichever instance pings first. Times are Unix ms, 0 = unset."""

    id: int
    app_id: int
    client_id: str | None
    command: str
    argument: str | None
    start_time: int
    expire: int
    trace_id: str
    status: int
    result: str | None

    @property
    def message(self) -> wire.Command:
        """The command as it travels, in a Ping reply or pushed."""
        return wire.Command(
            self.id, self.command, self.argument, self.start_time, self.expire, self.trace_id, self.status
        )


class Commands:
    """The queue of commands, by application."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        app_id: int,
        client_ids: Sequence[str | None],
        command: str,
        argument: str | None = "",
        *,
        start_time: int = 0,
        expire_seconds: int = 3600,
    ) -> list[Command]:
        """One command for each client id; ids grow and are never used twice. ``start_time`` is Unix ms."""
        now = self._clock()
        expire = now + expire_seconds * 1000 if expire_seconds > 0 else 0
        added = []
        with self._database.write() as db:
            for client_id in client_ids:
                trace_id = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
                cursor = db.execute(
                    "INSERT INTO command (app_id, client_id, command, argument, start_time, expire, trace_id, created, updated)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (app_id, client_id, command, argument, start_time, expire, trace_id, now, now),
                )
                identity = int(cursor.lastrowid or 0)
                added.append(
                    Command(identity, app_id, client_id, command, argument, start_time, expire, trace_id, 0, None)
                )
        return added

    def pending(self, app_id: int, client_id: str) -> list[Command]:
        """What this instance has not answered; each at most 10 times, 100 with an expiry (protocol.md §2.5)."""
        now = self._clock()
        where = "app_id = ? AND status <= 1 AND (client_id IS NULL OR client_id = ?)"
        with self._database.read() as db:  # most pings have nothing to fetch: do not take the writer for them
            if db.execute(f"SELECT 1 FROM command WHERE {where} LIMIT 1", (app_id, client_id)).fetchone() is None:
                return []
        with self._database.write() as db:
            db.execute(
                "UPDATE command SET status = ?, updated = ? WHERE app_id = ? AND status <= 1 AND "
                "((expire > 0 AND expire < ?) OR times >= CASE WHEN expire > 0 THEN 100 ELSE 10 END)",
                (wire.CommandStatus.CANCELLED, now, app_id, now),
            )
            rows = db.execute(
                f"SELECT * FROM command WHERE {where} ORDER BY id LIMIT 100",
                (app_id, client_id),
            ).fetchall()
            db.executemany("UPDATE command SET times = times + 1 WHERE id = ?", [(row["id"],) for row in rows])
        return [_command(row) for row in rows]

    def find(self, command_id: int) -> Command | None:
        """The command, or None."""
        with self._database.read() as db:
            row = db.execute("SELECT * FROM command WHERE id = ?", (command_id,)).fetchone()
        return _command(row) if row is not None else None

    def answer(self, command_id: int, status: int, result: str | None) -> None:
        """Store an answer."""
        with self._database.write() as db:
            db.execute(
                "UPDATE command SET status = ?, result = ?, updated = ? WHERE id = ?",
                (status, result, self._clock(), command_id),
            )


def _command(row: sqlite3.Row) -> Command:
    return Command(
        row["id"],
        row["app_id"],
        row["client_id"],
        row["command"],
        row["argument"],
        row["start_time"],
        row["expire"],
        row["trace_id"],
        row["status"],
        row["result"],
    )
