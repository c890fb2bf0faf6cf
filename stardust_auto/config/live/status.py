"""What ``config.status`` tells: a picture of one moment, without values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stardust_auto.config.remote.keys import Collision
    from stardust_auto.config.remote.provider import ProviderState


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """``state``: INITIALIZING no answer yet · VALID current · STALE the last answer failed, or values are from disk · INTERRUPTED
    failing for some time · OFF no center, or stopped. ``age`` in seconds since the values were last confirmed, ``None`` without any.
    """

    state: ProviderState
    version: int
    scope: str
    origin: str
    age: float | None
    last_error: str
    rejected_version: int | None
    rejection: str
    pending_restart: tuple[str, ...]
    unknown_keys: tuple[str, ...]
    ignored_local: tuple[str, ...]
    collisions: tuple[Collision, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
