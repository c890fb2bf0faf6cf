"""One state of the center's map: immutable, with its version, scope, origin, content hash and age."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from stardust_auto.config.remote import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

Origin = Literal["server", "disk", "memory", "none"]

#: A key whose value differs per instance (protocol.md §6.6). It is kept apart, so that it is neither an unknown key nor a change.
WORKER_ID: Final = "newlife.workerid"


@dataclass(frozen=True, slots=True, repr=False)
class RawSnapshot:
    """The map as the center gave it: keys and texts, nothing typed yet.

    Attributes:
        values: key to text, in the spelling of the center.
        version: published version, 0 before the first load.
        scope: the scope that the server used.
        origin: ``server``, ``disk``, ``memory``, or ``none`` while nothing is loaded.
        time: when the values were last confirmed, in Unix seconds, for people; schedules use the monotonic clock.
        app_id: the application.
        server: the addresses that were asked, comma-separated.
        worker_id: ``NewLife.WorkerId`` of this instance.
        next_version: above ``version`` while the center holds unpublished edits.
        next_publish: time of a planned publish as text, empty without one.
        coherent: whether the server guarantees that version and values belong together (protocol.md §12.7).
        source_ip: address of this instance as the server sees it.
        content_hash: hash of ``values``.
    """

    values: Mapping[str, str]
    version: int = 0
    scope: str = ""
    origin: Origin = "none"
    time: float = 0.0
    app_id: str = ""
    server: str = ""
    worker_id: str | None = None
    next_version: int = 0
    next_publish: str = ""
    coherent: bool = False
    source_ip: str = ""
    content_hash: str = ""
    _views: dict[str, keys.RemoteKeys] = field(default_factory=dict, compare=False)

    def view(self, prefix: str = "") -> keys.RemoteKeys:
        """The map indexed for the settings source; made once for each snapshot and prefix."""
        view = self._views.get(prefix)
        if view is None:
            view = self._views.setdefault(prefix, keys.index(self.values, prefix))
        return view

    def confirmed(self, answer: RawSnapshot) -> RawSnapshot:
        """The same values and version, seen again with ``answer``: its time, origin and plans."""
        return replace(
            self,
            time=answer.time,
            origin=answer.origin,
            worker_id=answer.worker_id,
            next_version=answer.next_version,
            next_publish=answer.next_publish,
            source_ip=answer.source_ip,
        )

    def sharing(self, other: RawSnapshot) -> RawSnapshot:
        """Use the index of ``other`` if the content is the same, so that a pull that changes nothing builds nothing."""
        if other.content_hash == self.content_hash:
            return replace(self, values=other.values, _views=other._views)
        return self

    @property
    def label(self) -> str:
        """How messages name this state: ``shop/prod v42``."""
        name = f"{self.app_id or '-'}/{self.scope}" if self.scope else self.app_id or "-"
        return f"{name} v{self.version}"

    def __repr__(self) -> str:
        return f"RawSnapshot({self.label}, {len(self.values)} keys, origin={self.origin})"


def make_snapshot(configs: Mapping[str, object], **facts: Any) -> RawSnapshot:
    """A snapshot of ``configs`` as it came out of JSON, with the other fields given by name.

    Values become texts: lists and objects JSON, booleans ``true`` and ``false``. A null means that there is no such key.
    """
    values: dict[str, str] = {}
    worker_id: str | None = None
    for key, value in configs.items():
        text = _as_text(value)
        if text is None:
            continue
        if key.lower() == WORKER_ID:
            worker_id = text
        else:
            values[key] = text
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(values):
        digest.update(f"{len(key)}:{key}={values[key]}\0".encode("utf-8", "surrogatepass"))
    return RawSnapshot(MappingProxyType(values), worker_id=worker_id, content_hash=digest.hexdigest(), **facts)


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str)


#: No map at all.
EMPTY = make_snapshot({})
