"""What became of a version at each instance: not asked for, served, used, refused. Served is not used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from stardust_auto.server.store.apps import App
    from stardust_auto.server.store.instances import Instances
    from stardust_auto.wire.messages import ConfigVerdict

State = Literal["used", "refused", "served", "behind"]


@dataclass(frozen=True, slots=True)
class InstanceState:
    """One instance and the live version.

    ``used``: it said that it uses it. ``refused``: it said that it does not, ``reason`` says why. ``served``: it has it, and has not
    said anything (an official client never does). ``behind``: it has an older one, ``used_version`` or ``served_version``.
    """

    client_id: str
    state: State
    served_version: int
    used_version: int
    reason: str = ""
    waits_for_restart: tuple[str, ...] = ()
    #: Whether it has ever said what it uses.
    speaks: bool = False


class Feedback:
    """Answers what every instance on line does with a version."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    def of(self, app: App, version: int) -> list[InstanceState]:
        """The instances on line that have ever asked for their configuration."""
        states = []
        for row in self._instances.of(app.id):
            if not row["online"] or not (row["served_version"] or row["used_version"] or row["refused_version"]):
                continue
            state: State = "behind"
            if row["refused_version"] >= version:
                state = "refused"
            elif row["used_version"] >= version:
                state = "used"
            elif row["served_version"] >= version:
                state = "served"
            waits = tuple(key for key in row["restart_keys"].split(",") if key)
            reason = row["refused_reason"] if state == "refused" else ""
            client = row["client_id"]
            speaks = bool(row["used_version"] or row["refused_version"])
            states.append(
                InstanceState(client, state, row["served_version"], row["used_version"], reason, waits, speaks)
            )
        return states

    def note(self, app_id: int, client_id: str, ip: str, verdict: ConfigVerdict) -> None:
        """Keep what an instance said with a Ping: the version in use, a newer one that it refused, fields that wait for a restart."""
        self._instances.seen(
            app_id,
            client_id,
            ip,
            used_version=verdict.version,
            refused_version=verdict.refused,
            refused_reason=verdict.reason or "",
            restart_keys=verdict.restart or "",
        )
