"""``doctor --pid``: a process that runs already, seen from outside: its environment, and what the server knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stardust_auto.ctl.errors import CtlError, UsageError
from stardust_auto.ctl.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.ctl.target import Target


@dataclass(frozen=True, slots=True)
class Running:
    """A process, its command line and the environment that it was started with."""

    pid: int
    command: list[str]
    environ: dict[str, str]
    threads: int
    seconds: float

    @staticmethod
    def find(pid: int) -> Running:
        """Look at a process of this user.

        Raises:
            UsageError: there is none, or it belongs to somebody else.
        """
        import psutil

        from stardust_auto.process.clock import wall_time

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                age = wall_time() - process.create_time()
                return Running(pid, process.cmdline(), process.environ(), process.num_threads(), age)
        except psutil.NoSuchProcess:
            raise UsageError(f"there is no process {pid}") from None
        except psutil.AccessDenied:
            raise UsageError(f"process {pid} belongs to another user: run the doctor as that user") from None


def running_findings(running: Running, target: Target | None) -> Iterator[Finding]:
    """What the server knows of the process: its pings, its push socket, the configuration that it uses."""
    text = f"{running.pid}, for {running.seconds:.0f} s, {running.threads} threads: {' '.join(running.command)[:100]}"
    yield Finding("ok", "process", text)
    if target is None:
        return
    try:
        apps = target.admin().get("apps")
    except CtlError as error:
        yield Finding("info", "instance", f"what the server knows of it cannot be read: {error}")
        return
    instances = [
        (str(app.get("name")), one)
        for app in (apps if isinstance(apps, list) else ())
        for one in app.get("instances", ())
        if one.get("process_id") == running.pid
    ]
    if not instances:
        yield Finding(
            "bad",
            "instance",
            "no instance with this process id has pinged: it was started without the agent, or has made no record yet",
        )
        return
    name, one = instances[0]
    grade = "ok" if one.get("online") else "bad"
    yield Finding(
        "ok" if grade == "ok" else "bad",
        "ping",
        f"{name} {one.get('client_id')}: {'on line' if one.get('online') else 'off line'}",
    )
    if one.get("connected"):
        yield Finding("ok", "socket", "has a push socket: changes arrive at once")
    else:
        yield Finding("warn", "socket", "has no push socket: changes arrive by polling")
    used, refused = one.get("used_version") or 0, one.get("refused_version") or 0
    if refused > used:
        yield Finding("bad", "config", f"refused version {refused}, uses {used}: {one.get('refused_reason')}")
    elif used:
        yield Finding("ok", "config", f"uses version {used}")
    if one.get("restart_keys"):
        yield Finding("warn", "config", f"wait for a restart: {one.get('restart_keys')}")
