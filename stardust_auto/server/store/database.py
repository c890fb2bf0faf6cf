"""One SQLite file in WAL mode: one writer at a time, readers that never wait for it."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stardust_auto.server.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Database:
    """Connections to one file. Every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)  # SQLite gives -wal and -shm the same mode
        os.close(descriptor)
        os.chmod(path, 0o600)
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._writer = self._connect()
        try:
            self._migrate()
        except BaseException:
            self._writer.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=15, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _migrate(self) -> None:
        current = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
        if not current:
            self._writer.execute(
                "PRAGMA auto_vacuum=INCREMENTAL"
            )  # before the first table, else the file never shrinks
            self._writer.execute("VACUUM")
        for version, script in enumerate(MIGRATIONS, start=1):
            if version > current:
                self._writer.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={version}; COMMIT;")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back on any exception. Not re-entrant."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                if self._writer.in_transaction:  # a full disk has ended it already
                    self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of what is committed."""
        with self._pool_lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the store is closed")
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with self._pool_lock:
                keep = not self._closed and len(self._idle) < 8
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()

    def used_bytes(self) -> int:
        """Bytes of pages that hold something."""
        with self.read() as db:
            pages, free, size = (
                int(db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def give_back(self) -> None:
        """Return free pages to the file system, in small steps."""
        while True:
            with self._write_lock:
                free = int(self._writer.execute("PRAGMA freelist_count").fetchone()[0])
                self._writer.execute("PRAGMA incremental_vacuum(2000)").fetchall()
                left = int(self._writer.execute("PRAGMA freelist_count").fetchone()[0])
            if not left or left >= free:
                return

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        with self._pool_lock:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._write_lock:
            self._writer.close()
