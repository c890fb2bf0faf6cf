"""``stardustctl doctor``: would this program be traced and configured here, and if not, why not."""

import os
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from stardust_auto.ctl import checkup, options
from stardust_auto.ctl.checkup import Finding
from stardust_auto.ctl.errors import UsageError
from stardust_auto.ctl.launched import examine
from stardust_auto.ctl.output import console, count, emit_json, plain, say, show_table
from stardust_auto.ctl.target import Target, find_target

_MARKS = {"ok": ("ok", "green"), "info": ("-", "dim"), "warn": ("warn", "yellow"), "bad": ("BAD", "bold red")}
_STATES = {"hooked": "green", "absent": "dim", "off": "yellow", "disabled": "yellow", "unsupported": "yellow"}


def doctor(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="The command of the program; it is examined, not run."),
    ] = None,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    json_output: options.Json = False,
) -> None:
    """Examine interpreter, activation, libraries, settings and server. Exit code 1 if something is wrong."""
    launched = examine(command) if command else None
    given = dict(launched.variables) if launched is not None else {}
    findings: list[Finding] = []
    facts = checkup.probe(launched)
    findings += checkup.interpreter_findings(launched, facts)
    findings += checkup.uwsgi_findings(command or ())
    agent = facts.get("agent") or {}
    libraries: list[dict[str, Any]] = agent.get("libraries", [])
    findings += checkup.library_findings(libraries)

    settings = checkup.setting_rows(os.environ, given)
    findings += [Finding("bad", row["setting"], row["trouble"]) for row in settings if row["trouble"]]
    target, trouble = _target(server or given.get("STARDUST_SERVER"), app or given.get("STARDUST_APP_ID"), scope)
    if trouble:
        findings.append(Finding("bad", "server", trouble))
    else:
        named = target.app if target is not None else ""
        if not named and launched is not None and launched.interpreter is not None:
            named = str(agent.get("app") or "")  # what the program would call itself
        findings += checkup.server_findings(target, named)

    bad = sum(1 for finding in findings if finding.grade == "bad")
    if json_output:
        emit_json(
            {
                "ok": bad == 0,
                "findings": [asdict(finding) for finding in findings],
                "libraries": libraries,
                "settings": [{key: row[key] for key in ("setting", "value", "source")} for row in settings],
            }
        )
    else:
        _print(findings, libraries, settings)
        say("")
        say(count(bad, "problem") if bad else "no problem", style="bold red" if bad else "bold green")
    if bad:
        raise typer.Exit(1)


def _target(server: str | None, app: str | None, scope: str | None) -> tuple[Target | None, str]:
    """The server that would be used; none is no error here, an unusable address is."""
    try:
        return find_target(server, app, scope), ""
    except UsageError as exc:
        return None, "" if str(exc).startswith("no server") else str(exc)


def _print(findings: list[Finding], libraries: list[dict[str, Any]], settings: list[dict[str, str]]) -> None:
    width = max(len(finding.topic) for finding in findings)
    screen = console()
    for finding in findings:
        mark, style = _MARKS[finding.grade]
        line = Text.assemble((mark.ljust(5), style), plain(finding.topic).ljust(width + 2), plain(finding.text))
        screen.print(line, soft_wrap=True)
    if libraries:
        screen.print()
        show_table(
            ("library", "version", "state", "why"),
            (
                (
                    row["library"],
                    row["version"],
                    Text(row["state"], style=_STATES.get(row["state"], "red")),
                    row["reason"],
                )
                for row in libraries
            ),
        )
    if settings:
        screen.print()
        show_table(("setting", "value", "from"), ((row["setting"], row["value"], row["source"]) for row in settings))
