"""The copy on disk, which a start without the center uses.

It holds the newest whole answer, whether or not a settings class accepts it, beside it the last set that every class accepted, and what was
not certain yet: a job that lives for ten seconds must not wait for a deleted key from the beginning each time.
One file for each server list, application and scope; folder and file belong to the user alone.
A fault of the disk or of the file is one warning, never an error of the program.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stardust_auto.config.remote.consistency import Pending
from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.environment.cache_folder import cache_folder
from stardust_auto.log import get_logger
from stardust_auto.process.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = get_logger(__name__)

#: Version of the file format; a file of another one is ignored.
SCHEMA: Final = 2
_MOST_BYTES: Final = 32 * 1024 * 1024


class Copy(NamedTuple):
    """What the disk holds: the newest whole answer, the last accepted set if that is another one, and what is pending."""

    held: RawSnapshot
    accepted: RawSnapshot | None = None
    pending: Pending | None = None


class DiskCache:
    """The copy for one server list, application and requested scope. ``folder`` None means the user's cache folder."""

    def __init__(
        self,
        servers: tuple[str, ...],
        app_id: str,
        scope: str,
        folder: str | os.PathLike[str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._identity = {"servers": list(servers), "app": app_id, "scope": scope}
        self._folder = Path(folder) / "config" if folder is not None else None
        self._clock = clock
        self._warned: set[str] = set()

    @property
    def path(self) -> Path:
        """The file. Its name says nothing about the application."""
        text = json.dumps(self._identity, sort_keys=True)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return (self._folder or _default_folder()) / f"{digest}.json"

    def load(self) -> Copy | None:
        """The copy; None if it is missing, cannot be read, has another format, or belongs to another application."""
        try:
            path = self.path
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            return self._read(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - the file may hold anything, such as 1e400 as a number or ten thousand brackets
            self._warn("read", error)
            return None

    def store(self, copy: Copy) -> bool:
        """Replace the copy in one step: a reader sees the old or the new one. Return whether it was written."""
        held, accepted, pending = copy
        data = {
            "schema": SCHEMA,
            "identity": self._identity,
            "held": _from_snapshot(held),
            "accepted": _from_snapshot(accepted) if accepted is not None else None,
            "pending": self._from_pending(pending) if pending is not None else None,
        }
        temporary = ""
        try:
            text = json.dumps(data).encode()
            if len(text) > _MOST_BYTES:
                raise ValueError("it is too large")
            path = self.path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)  # mode 0600
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: there is no home directory
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            self._warn("written", error)
            return False
        return True

    def _read(self, data: Any) -> Copy:
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError("it has another format")
        if data.get("identity") != self._identity:
            raise ValueError("it belongs to another server, application or scope")
        held, accepted, pending = data["held"], data.get("accepted"), data.get("pending")
        return Copy(
            self._to_snapshot(held),
            self._to_snapshot(accepted) if accepted is not None else None,
            self._to_pending(pending) if pending is not None else None,
        )

    def _to_snapshot(self, data: Mapping[str, Any]) -> RawSnapshot:
        values = data["values"]
        if not all(isinstance(value, str) for value in values.values()):
            raise TypeError("a value is not a text")
        snapshot = make_snapshot(
            values,
            version=int(data["version"]),
            scope=str(data["resolved_scope"]),
            time=float(data["time"]),
            origin="disk",
            app_id=self._identity["app"],
            server=",".join(self._identity["servers"]),
        )
        if snapshot.content_hash != data["hash"]:
            raise TypeError("the hash differs")
        return snapshot

    def _from_pending(self, pending: Pending) -> dict[str, Any]:
        # Wall time: the monotonic clock of the next process has another zero.
        offset = self._clock.wall() - self._clock.monotonic()
        missing = {key: since + offset for key, since in pending.missing.items()}
        return {"seen": list(pending.seen), "changed": pending.changed + offset, "missing": missing}

    def _to_pending(self, data: Mapping[str, Any]) -> Pending:
        now = self._clock.monotonic()
        offset = now - self._clock.wall()
        content, version, scope = data["seen"]
        return Pending(
            (str(content), int(version), str(scope)),
            changed=min(now, float(data["changed"]) + offset),
            started=now,
            due=now,
            missing={str(key): min(now, float(since) + offset) for key, since in data["missing"].items()},
        )

    def _warn(self, what: str, error: Exception) -> None:
        # Texts of other errors may quote the content of the file.
        own = type(error) is ValueError and not isinstance(error, UnicodeError)
        reason = error.strerror if isinstance(error, OSError) else error if own else "it is damaged"
        message = f"the copy of the configuration for {self._identity['app']} cannot be {what}: {reason}"
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s", message)


def _from_snapshot(snapshot: RawSnapshot) -> dict[str, Any]:
    return {
        "version": snapshot.version,
        "resolved_scope": snapshot.scope,
        "time": snapshot.time,
        "hash": snapshot.content_hash,
        "values": dict(snapshot.values),
    }


def _default_folder() -> Path:
    return Path(cache_folder()) / "config"
