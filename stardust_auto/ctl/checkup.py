"""What the doctor looks at: the interpreter and what gets hooked in it, the settings, the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from stardust_auto import activation
from stardust_auto.activation import launcher
from stardust_auto.ctl.admin import TIMEOUT, reason
from stardust_auto.environment.settings import VARIABLES
from stardust_auto.errors import EnvironmentVariableError
from stardust_auto.privacy import MASK, mask_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stardust_auto.ctl.launched import Launched
    from stardust_auto.ctl.target import Target

#: Something that no program listens on: the agent is activated by having an address, and never calls it while being examined.
_NO_SERVER = "http://127.0.0.1:9"
_PROBE_SECONDS = 60
#: A salted login is good for 600 s (protocol.md §2.2); half of it, and people should be told.
_OFFSET_WARN_MS = 60_000
_OFFSET_BAD_MS = 300_000

Grade = Literal["ok", "info", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    grade: Grade
    topic: str
    text: str


def probe(launched: Launched | None) -> dict[str, Any]:
    """Run our questions in the interpreter and under the flags of the command, as ``stardust-auto`` would start it."""
    interpreter = launched.interpreter if launched is not None and launched.interpreter else sys.executable
    flags = launched.flags if launched is not None else ()
    script = launched.script if launched is not None else ""
    environ = launcher.prepare(dict(launched.variables) if launched is not None else {}, set(), dict(os.environ))
    environ.setdefault("STARDUST_SERVER", _NO_SERVER)
    environ.pop("STARDUST_LOG_LEVEL", None)
    source = files("stardust_auto.ctl").joinpath("probe.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(  # noqa: S603 - the user's own interpreter, asked for by the user
            [interpreter, *flags, "-c", source, script],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
        )
        facts = json.loads(done.stdout.strip().rpartition("\n")[2])
    except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
        return {"executable": interpreter, "failure": f"{type(exc).__name__}: cannot be examined"}
    complaints = [line for line in done.stderr.splitlines() if line.startswith("stardust-auto:")]
    return {**facts, "complaint": complaints[0].partition(": ")[2] if complaints else ""}


def interpreter_findings(launched: Launched | None, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Interpreter and activation, from the facts of :func:`probe`."""
    if launched is not None and launched.interpreter is None:
        yield Finding(
            "warn",
            "command",
            f"{launched.program} runs {launched.starts}, which is no Python; the Pythons of this environment that it "
            "starts will be traced. What follows is about this environment",
        )
    if "failure" in facts:
        yield Finding("bad", "interpreter", f"{facts['executable']}: {facts['failure']}")
        return
    venv = "a virtual environment" if facts["venv"] else "not in a virtual environment"
    flags = f", started with {' '.join(launched.flags)}" if launched is not None and launched.flags else ""
    yield Finding("ok", "interpreter", f"Python {facts['version']} at {facts['executable']}, {venv}{flags}")
    agent = facts.get("agent")
    if not isinstance(agent, dict):
        yield Finding(
            "bad",
            "agent",
            f"stardust_auto is not installed there ({facts['trouble']}): {facts['executable']} -m pip install stardust-auto",
        )
        return
    yield Finding("ok", "agent", f"stardust_auto {agent['version']} in {agent['folder']}")
    yield _activation(facts, agent)
    if agent["pth"]:
        yield Finding("ok", "installed", f"{', '.join(agent['pth'])}: also active without launcher, if STARDUST_AUTO=1")
    else:
        yield Finding("info", "installed", "no .pth file: needed only without launcher ('stardustctl install')")


def uwsgi_findings(command: Sequence[str]) -> Iterator[Finding]:
    """What an older uWSGI needs to let our thread run. Its option may also stand in a file, so this is a hint."""
    names = {os.path.basename(word) for word in command}
    if "uwsgi" in names and not names & {"--enable-threads", "--threads"}:
        yield Finding(
            "info",
            "uwsgi",
            "before 2.0.27 it needs --enable-threads: without it a worker reports only when it ends",
        )


def _activation(facts: Mapping[str, Any], agent: Mapping[str, Any]) -> Finding:
    if agent["active"]:
        return Finding("ok", "activation", "active when started by stardust-auto")
    if facts["no_site"]:
        text = "-S keeps Python from reading any start-up file: nothing can activate the agent"
    elif facts["ignore_environment"]:
        text = "-I and -E hide PYTHONPATH from the launcher: run 'stardustctl install' in that environment once"
    elif agent["mark"] != activation.interpreter_mark():
        text = f"that is another environment than the one of this stardust-auto ({sys.prefix}): use the launcher installed there"
    elif facts["complaint"]:
        text = str(facts["complaint"])
    else:
        text = "not active: STARDUST_ENABLED is off, or another sitecustomize is in front of ours"
    return Finding("bad", "activation", text)


def library_findings(libraries: list[dict[str, Any]]) -> Iterator[Finding]:
    """Libraries that are there and are not traced though nobody switched them off, or that others wrapped."""
    for row in libraries:
        if row["state"] in ("failed", "broken", "unsupported"):
            yield Finding(
                "bad" if row["state"] == "failed" else "warn", row["library"], f"{row['state']}: {row['reason']}"
            )
        for attribute, other in row["covered"]:
            yield Finding("warn", row["library"], f"{attribute} is wrapped again by {other}")


def setting_rows(environ: Mapping[str, str], options: Mapping[str, str]) -> list[dict[str, str]]:
    """Every variable of the agent that is set, with its spelling; secrets masked. Launcher options win over the environment."""
    rows = []
    merged = {**environ, **options}
    for variable in VARIABLES:
        found = variable.find(merged)
        if found is None:
            continue
        spelling, value = found
        trouble = ""
        try:
            variable.read(spelling, value)
        except EnvironmentVariableError as exc:
            trouble = str(exc)
        rows.append(
            {
                "setting": variable.name,
                "value": MASK if variable.secret else mask_value(variable.name, value) or "",
                "source": "stardust-auto option" if spelling in options else f"environment, {spelling}",
                "trouble": trouble,
            }
        )
    rows += [
        {"setting": name, "value": value, "source": f"environment, {name}", "trouble": ""}
        for name, value in sorted(environ.items())
        if name.startswith("STARDUST_INSTRUMENT_")
    ]
    return rows


def server_findings(target: Target | None, app: str) -> Iterator[Finding]:
    """Is the server there, does it take our login, and do the clocks agree."""
    if target is None:
        yield Finding(
            "warn", "server", "none is configured: nothing is active without --server, --local or STARDUST_SERVER"
        )
        return
    yield from _reachable(target)
    if not app:
        yield Finding("info", "login", "not tried: no application is named (--app, STARDUST_APP_ID, or a command)")
        return
    yield from _login(target, app)


def _reachable(target: Target) -> Iterator[Finding]:
    import requests

    for server in target.servers:
        try:
            with requests.get(f"{server}/", timeout=TIMEOUT, allow_redirects=False, stream=True) as reply:
                yield Finding("ok", "server", f"{server} answers (HTTP {reply.status_code}); from {target.origin}")
        except requests.exceptions.RequestException as exc:
            yield Finding("bad", "server", f"{server} does not answer ({reason(exc)}); from {target.origin}")


def _login(target: Target, app: str) -> Iterator[Finding]:
    from stardust_auto.environment.identity import Identity
    from stardust_auto.errors import StardustError
    from stardust_auto.session.session import Session

    session = Session.acquire(Identity(target.servers, app, target.secret, push=False, cache_dir=target.cache_dir))
    try:
        session.call("/Config/GetAll", {"AppId": app, "Scope": target.scope, "Version": 0})
        offset = session.connection.clock_offset_ms
    except StardustError as exc:
        yield Finding("bad", "login", f"as {app!r}: {exc}")
        return
    finally:
        session.release()
    yield Finding("ok", "login", f"as {app!r}, configuration readable")
    grade: Grade = "bad" if abs(offset) > _OFFSET_BAD_MS else "warn" if abs(offset) > _OFFSET_WARN_MS else "ok"
    yield Finding(
        grade,
        "clock",
        f"this machine is {abs(offset) / 1000:.1f} s {'behind' if offset > 0 else 'ahead of'} the server",
    )
