"""What the running instances make of a published version: ``publish`` waits for them and says it, one line an instance."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from stardust_auto.ctl.center import as_int
from stardust_auto.ctl.output import plain, say
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from stardust_auto.ctl.center import AdminCenter

#: The option of every command that publishes.
Wait = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", min=0, max=600, help="How long to wait for what the instances say; 0: not at all."
    ),
]
WAIT_SECONDS = 10.0
#: An instance that has never said what it uses may be an official client, which never will.
_SILENT_SECONDS = 1.5
_LOOK_SECONDS = 0.05


def wait_for_instances(center: AdminCenter, seconds: float) -> list[dict[str, object]]:
    """The instances on line, each with its ``state``; returns once all have said something, or after ``seconds``.

    ``after`` is the time from the publish to what the instance said, in seconds.
    """
    began = monotonic()
    seen: dict[str, float] = {}
    pause = threading.Event()
    while True:
        instances = center.instances() if seconds > 0 else []
        elapsed = monotonic() - began
        waiting = [one for one in instances if one.get("state") not in ("used", "refused")]
        for one in instances:
            if one not in waiting:
                one["after"] = round(seen.setdefault(str(one.get("client_id")), elapsed), 3)
        patience = seconds if any(one.get("speaks") for one in waiting) else min(seconds, _SILENT_SECONDS)
        if not waiting or elapsed >= patience:
            return instances
        pause.wait(_LOOK_SECONDS)


def refused(instances: list[dict[str, object]]) -> bool:
    """Whether any instance refused the version."""
    return any(one.get("state") == "refused" for one in instances)


def tell(instances: list[dict[str, object]], version: int) -> None:
    """One line an instance."""
    for one in instances:
        client = plain(one.get("client_id"))
        state = one.get("state")
        if state == "refused":
            kept = as_int(one.get("used_version"))
            say(f"  {client} refused it, keeps version {kept}: {one.get('reason')}", colour="red")
        elif state == "used":
            restart = one.get("waits_for_restart")
            later = (
                f"; after a restart: {', '.join(map(str, restart))}" if isinstance(restart, list) and restart else ""
            )
            say(f"  {client} uses it after {one.get('after')} s{later}", colour="green")
        elif state == "served":
            say(f"  {client} has it, and does not say whether it uses it")
        else:
            has = as_int(one.get("used_version")) or as_int(one.get("served_version"))
            say(f"  {client} still has version {has}, not {version}", colour="yellow")
