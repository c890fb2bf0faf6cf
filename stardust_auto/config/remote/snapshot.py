"""One state of the remote map: immutable, with where and when it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from stardust_auto.config.remote import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

Origin = Literal["server", "push", "disk", "memory", "none"]

WORKER_ID = "newlife.workerid"
"""Differs per instance (protocol.md §6.6): kept as metadata, so that it is neither an unknown key nor a change."""


def as_text(value: object) -> str | None:
    """A value of the map as text. ``None`` for null, which means "no such key"; lists and objects become JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True, slots=True, repr=False)
class RawSnapshot:
    """The map as the center gave it: names and texts, nothing typed yet.

    ``time`` is when it was last confirmed (Unix seconds, for people; schedules use the monotonic clock).
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
    content_hash: str = ""
    _views: dict[str, keys.RemoteKeys] = field(default_factory=dict, compare=False)

    def view(self, prefix: str = "") -> keys.RemoteKeys:
        """The map indexed for the settings source; made once per snapshot and prefix."""
        view = self._views.get(prefix)
        if view is None:
            view = self._views.setdefault(prefix, keys.index(self.values, prefix))
        return view

    def confirmed(self, **changes: object) -> RawSnapshot:
        """The same content, seen again: new time, version or origin, without indexing anew."""
        return replace(self, **changes)  # type: ignore[arg-type]  # callers pass field names; the dataclass checks them

    def sharing(self, other: RawSnapshot) -> RawSnapshot:
        """Use the index of ``other`` when the content is the same: a pull that changes nothing builds nothing."""
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


def make_snapshot(configs: Mapping[str, object], **facts: object) -> RawSnapshot:
    """A snapshot of ``configs`` as it came out of JSON: texts only, worker id set apart, hashed."""
    values: dict[str, str] = {}
    worker_id: str | None = None
    for key, value in configs.items():
        text = as_text(value)
        if text is None:
            continue
        if key.lower() == WORKER_ID:
            worker_id = text
        else:
            values[key] = text
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(values):
        digest.update(f"{len(key)}:{key}={values[key]}\0".encode("utf-8", "surrogatepass"))
    return RawSnapshot(MappingProxyType(values), worker_id=worker_id, content_hash=digest.hexdigest(), **facts)  # type: ignore[arg-type]  # as above


EMPTY = make_snapshot({})
