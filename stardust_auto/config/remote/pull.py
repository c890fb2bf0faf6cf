"""One request to the center and its answer as a snapshot (protocol.md §6.1, §6.3, §12.3)."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.config.remote.keys import DELIMITER, normalise
from stardust_auto.config.remote.snapshot import RawSnapshot, make_snapshot
from stardust_auto.errors import BadReplyError
from stardust_auto.wire.messages import ConfigReply, ConfigRequest
from stardust_auto.wire.reading import members

if TYPE_CHECKING:
    from stardust_auto.session.session import Session

#: How many characters of key names a request reports at most.
_MOST_CHARACTERS: Final = 1000


class UsedKeys:
    """The names that the program reads, for the center's pages. Names only, the first ones, bounded."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._length = 0
        self._lock = threading.Lock()

    def reset_after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def add(self, key: str) -> None:
        """Remember ``key``, unless there are too many."""
        name = key.lower()
        if name in self._names or "," in key or self._length + len(key) > _MOST_CHARACTERS:
            return
        with self._lock:
            if name not in self._names:
                self._names[name] = key
                self._length += len(key) + 1

    def report(self, snapshot: RawSnapshot) -> tuple[str | None, str | None]:
        """Two comma lists: the names in use, and those of them that the map lacks."""
        with self._lock:
            names = list(self._names.values())
        there = snapshot.view().variables
        missed = [
            name
            for name in names
            if name.lower() not in there
            and normalise(name) not in there
            and normalise(name).partition(DELIMITER)[0] not in there
        ]
        return ",".join(names) or None, ",".join(missed) or None


def pull(
    session: Session, scope: str, held: RawSnapshot, *, full: bool, used: UsedKeys | None, timeout: float, now: float
) -> RawSnapshot:
    """Ask for the map, at most twice. Return the server's state, which has the content of ``held`` if nothing changed.

    Args:
        session: what carries the request.
        scope: the scope to ask for; empty to let the server choose.
        held: what we have.
        full: whether to ask for everything, whatever version we have.
        used: the keys to report.
        timeout: seconds for each request.
        now: Unix seconds.

    Raises:
        StardustError: there is no usable answer. An unresolvable reference makes the server fail the whole request (§12.3).
    """

    def ask(version: int) -> ConfigReply:
        names, missed = used.report(held) if used is not None else (None, None)
        request = ConfigRequest(
            app_id=session.account.app_id,
            client_id=session.account.client_id,
            scope=scope or None,
            version=version,
            used_keys=names,
            missed_keys=missed,
        )
        data = session.call("/Config/GetAll", request.to_wire(), timeout=timeout)
        if "version" not in members(data):
            raise BadReplyError("the answer to /Config/GetAll has no data")
        return ConfigReply.from_wire(data)

    known = 0 if full or held.origin == "none" else held.version
    reply = ask(known)
    moved = reply.version < known or (reply.scope is not None and reply.scope != held.scope)
    if reply.configs is None and known > 0 and moved:
        # "Unchanged", but the version is lower (a restored server) or the scope is another one: what we hold is not what it means.
        reply = ask(0)
    if reply.configs is None and held.origin == "none":
        raise BadReplyError("the server says that the configuration is unchanged, though none was ever sent")
    plans: dict[str, Any] = {
        "next_version": reply.next_version,
        "next_publish": reply.next_publish or "",
        "coherent": reply.coherent is True,
        "source_ip": reply.source_ip or held.source_ip,
    }
    if reply.configs is None:
        return replace(held, version=reply.version or held.version, origin="server", time=now, **plans)
    return make_snapshot(
        reply.configs,
        version=reply.version,
        scope=reply.scope or "",
        origin="server",
        time=now,
        app_id=held.app_id,
        server=held.server,
        **plans,
    ).sharing(held)
