"""The copy on disk: what a start without the center uses. Only content that was accepted is ever written.

One file per server, application and scope; the folder and the files belong to the user alone. Any fault of the disk is a
warning, never an error of the program.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.log import get_logger

logger = get_logger(__name__)

SCHEMA = 1
_LARGEST = 32 * 1024 * 1024


def default_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("stardust-auto", appauthor=False)) / "config"


class DiskCache:
    """The copy for one server list, application and requested scope. ``folder`` None means the user's cache folder."""

    def __init__(
        self, servers: tuple[str, ...], app_id: str, scope: str, folder: str | os.PathLike[str] | None = None
    ) -> None:
        self._identity = {"servers": list(servers), "app": app_id, "scope": scope}
        self._folder = Path(folder) / "config" if folder is not None else None
        self._warned: set[str] = set()

    @property
    def path(self) -> Path:
        text = json.dumps(self._identity, sort_keys=True)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return (self._folder or default_folder()) / f"{digest}.json"

    def load(self) -> RawSnapshot | None:
        """The copy, or ``None``: absent, unreadable, of another version of this file format, or somebody else's."""
        try:
            path = self.path
            if path.stat().st_size > _LARGEST:
                raise ValueError("too large")
            data = json.loads(path.read_bytes())
            return self._read(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            self._warn("read", error)
            return None

    def _read(self, data: Any) -> RawSnapshot | None:
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError("it has another format")
        if data.get("identity") != self._identity:
            raise ValueError("it belongs to another server, application or scope")
        values = data.get("values")
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise ValueError("it is damaged")
        snapshot = make_snapshot(
            values,
            version=int(data["version"]),
            scope=str(data["resolved_scope"]),
            time=float(data["time"]),
            origin="disk",
            app_id=self._identity["app"],
            server=",".join(self._identity["servers"]),
        )
        if snapshot.content_hash != data.get("hash"):
            raise ValueError("it is damaged")
        return snapshot

    def store(self, snapshot: RawSnapshot) -> bool:
        """Replace the copy in one step: a reader sees the old or the new one, whatever happens meanwhile."""
        data = {
            "schema": SCHEMA,
            "identity": self._identity,
            "version": snapshot.version,
            "resolved_scope": snapshot.scope,
            "time": snapshot.time,
            "hash": snapshot.content_hash,
            "values": dict(snapshot.values),
        }
        temporary = ""
        try:
            path = self.path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)  # 0600 by itself
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, ValueError) as error:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            self._warn("written", error)
            return False
        return True

    def _warn(self, what: str, error: Exception) -> None:
        # The text of a ValueError of json may hold content; ours and those of the operating system do not.
        reason = (
            error.strerror
            if isinstance(error, OSError)
            else "it is damaged"
            if isinstance(error, json.JSONDecodeError)
            else error
        )
        message = f"the copy of the configuration for {self._identity['app']} cannot be {what}: {reason}"
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s", message)
