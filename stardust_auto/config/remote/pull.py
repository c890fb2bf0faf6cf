"""One question to the center and what its answer means (protocol.md §6.1, §6.3, §12.3)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.errors import BadReplyError
from stardust_auto.process.clock import wall_time
from stardust_auto.wire.messages import ConfigReply, ConfigRequest

if TYPE_CHECKING:
    from stardust_auto.session.session import Session

_MOST_TEXT = 1000


class UsedKeys:
    """The names that the program reads, for the center's pages: names only, first come, bounded."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._length = 0
        self._lock = threading.Lock()

    def use(self, key: str) -> None:
        name = key.lower()
        if name in self._names or "," in key or self._length + len(key) > _MOST_TEXT:
            return
        with self._lock:
            if name not in self._names:
                self._names[name] = key
                self._length += len(key) + 1

    def report(self, snapshot: RawSnapshot) -> tuple[str | None, str | None]:
        """Comma lists: the names in use, and those of them that the map does not have."""
        with self._lock:
            names = list(self._names.values())
        present = snapshot.view()
        from stardust_auto.config.remote.keys import DELIMITER, normalise

        missed = [
            name
            for name in names
            if name.lower() not in present.variables
            and normalise(name) not in present.variables
            and normalise(name).partition(DELIMITER)[0] not in present.variables
        ]
        return ",".join(names) or None, ",".join(missed) or None


class Pull:
    """Asks until the answer is usable: at most twice."""

    def __init__(self, session: Session, scope: str, keys: UsedKeys | None, timeout: float) -> None:
        self._session = session
        self._scope = scope
        self._keys = keys
        self._timeout = timeout

    def fetch(self, have: RawSnapshot, full: bool) -> RawSnapshot:
        """The state of the center; ``have`` with a new time when nothing changed.

        Raises:
            StardustError: no usable answer. An unresolvable reference makes the server fail the whole request (§12.3).
        """
        known = 0 if full or have.origin == "none" else have.version
        reply = self._ask(known, have)
        scope = reply.scope or ""
        if (
            reply.configs is None
            and known > 0
            and (reply.version < known or (reply.scope is not None and scope != have.scope))
        ):
            # "Unchanged", but of a lower version (a restored server) or another scope: what we have is not what it has.
            reply = self._ask(0, have)
            scope = reply.scope or ""
        now = wall_time()
        if reply.configs is None:
            if have.origin == "none":
                raise BadReplyError("the server says that the configuration is unchanged, though none was ever sent")
            return have.confirmed(
                time=now,
                origin="server" if have.origin == "disk" else have.origin,
                version=reply.version or have.version,
                next_version=reply.next_version,
                next_publish=reply.next_publish or "",
            )
        return make_snapshot(
            reply.configs,
            version=reply.version,
            scope=scope,
            origin="server",
            time=now,
            app_id=have.app_id,
            server=have.server,
            next_version=reply.next_version,
            next_publish=reply.next_publish or "",
        ).sharing(have)

    def _ask(self, version: int, have: RawSnapshot) -> ConfigReply:
        used, missed = self._keys.report(have) if self._keys is not None else (None, None)
        request = ConfigRequest(
            app_id=self._session.app_id,
            client_id=self._session.client_id,
            scope=self._scope or None,
            version=version,
            used_keys=used,
            missed_keys=missed,
        )
        data = self._session.call("/Config/GetAll", request.to_wire(), timeout=self._timeout)
        if not isinstance(data, dict) or not any(str(name).lower() == "version" for name in data):
            raise BadReplyError("the answer to /Config/GetAll has no data")
        return ConfigReply.from_wire(data)
