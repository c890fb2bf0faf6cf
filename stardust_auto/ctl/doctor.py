"""``stardustctl doctor``: would this program be traced and configured here, and if not, why not. Needs the core package only.

Checks come in the order of causes, and one that failed skips what depends on it. Nothing that is examined is changed.
"""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from stardust_auto.ctl import checkup
from stardust_auto.ctl.errors import UsageError
from stardust_auto.ctl.findings import Finding
from stardust_auto.ctl.launched import examine
from stardust_auto.ctl.network import network_findings
from stardust_auto.ctl.output import count, emit_json, painted, plain, say
from stardust_auto.ctl.running import Running, running_findings
from stardust_auto.ctl.target import Target, find_target
from stardust_auto.errors import StardustError
from stardust_auto.instrumentation.targets import TARGETS
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: Seconds for everything.
LIMIT_SECONDS = 5.0
_MARKS = {
    "ok": ("ok", "green"),
    "info": ("-", "dim"),
    "warn": ("warn", "yellow"),
    "bad": ("BAD", "bold red"),
    "skip": ("skip", "dim"),
}
_STATES = {"hooked": "green", "absent": "dim", "off": "yellow", "disabled": "yellow", "unsupported": "yellow"}


class _Question:
    """One question that runs beside the others; what has not been answered in time is a finding, too."""

    def __init__(self, topic: str, ask: Callable[[], Any]) -> None:
        self.topic = topic
        self._ask = ask
        self.answer: Any = None
        self._thread = threading.Thread(target=self._run, name=f"doctor-{topic}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except Exception as error:  # noqa: BLE001 - a check that fails itself must not hide the others
            self.answer = [Finding("bad", self.topic, f"this check failed: {type(error).__name__}: {error}")]

    def wait(self, deadline: float) -> Any:
        self._thread.join(max(deadline - monotonic(), 0.0))
        return self.answer


def doctor(
    command: Sequence[str] = (),
    *,
    server: str | None = None,
    app: str | None = None,
    scope: str | None = None,
    pid: int | None = None,
    json_output: bool = False,
) -> int:
    """Examine interpreter, activation, libraries, settings and server, and say it. Returns 1 if something is wrong, else 0.

    Raises:
        UsageError: there is no such command or process.
    """
    deadline = monotonic() + LIMIT_SECONDS
    running = Running.find(pid) if pid is not None else None
    environ: Mapping[str, str] = running.environ if running is not None else os.environ
    words = list(command) or (running.command if running is not None else [])
    launched = examine(words) if words else None
    given = dict(launched.variables) if launched is not None else {}
    merged = {**environ, **given}
    target, trouble = _target(
        server or merged.get("STARDUST_SERVER") or None, app or merged.get("STARDUST_APP_ID") or None, scope
    )
    if target is not None:
        target = replace(target, secret=merged.get("STARDUST_SECRET") or target.secret)
    named = target.app if target is not None else ""

    probed = _Question("interpreter", lambda: checkup.probe(launched, environ, LIMIT_SECONDS - 0.5))
    asked = None
    if target is not None or not trouble:
        asked = _Question("server", lambda: list(network_findings(target, named))) if named or target is None else None

    answer = probed.wait(deadline - 0.2)
    late = {"executable": "Python", "failure": f"did not answer within {LIMIT_SECONDS:.0f} s"}
    facts: dict[str, Any] = answer if isinstance(answer, dict) else late
    agent = facts.get("agent") or {}
    libraries: list[dict[str, Any]] = agent.get("libraries", [])
    if asked is None and target is not None and not trouble:
        if launched is not None and launched.interpreter is not None:
            named = str(agent.get("app") or "")  # what the program would call itself
        asked = _Question("server", lambda: list(network_findings(target, named)))
    integrations = {*TARGETS.values(), *(str(row["integration"]) for row in libraries)}

    settings = checkup.setting_rows(environ, given)
    findings: list[Finding] = [*checkup.interpreter_findings(launched, facts)]
    findings += checkup.uwsgi_findings(words)
    findings += checkup.command_findings(words, launched, integrations)
    findings += [Finding("bad", row["setting"], row["trouble"]) for row in settings if row["trouble"]]
    findings += checkup.switch_findings(merged, integrations)
    findings += checkup.cache_findings(merged, secret=bool(merged.get("STARDUST_SECRET")))
    if trouble:
        if not any(trouble == finding.text for finding in findings):
            findings.append(Finding("bad", "server", trouble))
    elif asked is not None:
        answer = asked.wait(deadline)
        findings += (
            answer if answer is not None else [Finding("bad", "server", f"no answer within {LIMIT_SECONDS:.0f} s")]
        )
    findings += checkup.library_findings(libraries)
    if running is not None:
        findings += running_findings(running, target)
    return _report(findings, libraries, settings, json_output=json_output)


def _target(server: str | None, app: str | None, scope: str | None) -> tuple[Target | None, str]:
    """The server that would be used; none is no error here, an unusable address is."""
    try:
        return find_target(server, app, scope), ""
    except UsageError as error:
        return None, "" if str(error).startswith("no server") else str(error)
    except StardustError as error:
        return None, str(error)


def _report(
    findings: Sequence[Finding],
    libraries: list[dict[str, Any]],
    settings: list[dict[str, str]],
    *,
    json_output: bool,
) -> int:
    bad = [finding for finding in findings if finding.grade == "bad"]
    if json_output:
        emit_json(
            {
                "ok": not bad,
                "findings": [asdict(finding) for finding in findings],
                "libraries": libraries,
                "settings": [{key: row[key] for key in ("setting", "value", "source")} for row in settings],
            }
        )
        return int(bool(bad))
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        mark, colour = _MARKS[finding.grade]
        print(f"{painted(mark.ljust(5), colour)}{plain(finding.topic).ljust(width + 2)}{plain(finding.text)}")
    _columns(
        ("library", "version", "state", "why"),
        [tuple(str(row[name] or "") for name in ("library", "version", "state", "reason")) for row in libraries],
    )
    _columns(("setting", "value", "from"), [(row["setting"], row["value"], row["source"]) for row in settings])
    say("")
    if bad:
        say(f"{count(len(bad), 'problem')}, first: {bad[0].topic}", colour="bold red")
    else:
        say("no problem", colour="bold green")
    return int(bool(bad))


def _columns(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    rows = list(rows)
    if not rows:
        return
    sizes = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    say("")
    for row in (head, *rows):
        line = "  ".join(plain(cell).ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip()
        print(painted(line, _STATES.get(row[2], "red") if len(head) == 4 and row is not head else ""))
