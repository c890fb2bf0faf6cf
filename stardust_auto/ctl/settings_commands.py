"""``stardustctl config`` as the program sees it: show, check, explain, diff, watch and keys take its settings class."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer
from pydantic_settings import BaseSettings

from stardust_auto.config.typed.builder import Reading
from stardust_auto.ctl import options
from stardust_auto.ctl.center import Configuration, open_admin_center, open_center
from stardust_auto.ctl.config_commands import Reveal, compare, diff_versions, show_configuration, transition
from stardust_auto.ctl.effective import changed_leaves, leaf_rows
from stardust_auto.ctl.errors import CtlError, UsageError
from stardust_auto.ctl.examine import examine, require_valid
from stardust_auto.ctl.feedback import WAIT_SECONDS, Wait, refused, tell, wait_for_instances
from stardust_auto.ctl.key_list import KEY_FORMATS, key_rows
from stardust_auto.ctl.output import complain, count, emit_json, say, show_table
from stardust_auto.ctl.settings_class import Program, find_program, load_class, with_scope
from stardust_auto.ctl.target import Target, find_app_target
from stardust_auto.ctl.watching import watch_keys, watch_program
from stardust_auto.privacy import mask_value

Differences = dict[str, tuple[str | None, str | None]]


def show(
    settings: options.OptionalSettingsClass = None,
    sources: Annotated[bool, typer.Option("--sources", help="Where each value comes from, and what it hides.")] = False,
    staged: Annotated[
        bool, typer.Option("--staged", help="As it will be once everything staged is published.")
    ] = False,
    reveal: Reveal = False,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    json_output: options.Json = False,
) -> None:
    """Show the keys in the center; with SETTINGS the values that the program gets (secrets masked)."""
    if settings is None:
        if sources:
            raise UsageError("--sources needs the settings class: stardustctl config show pkg.mod:Settings --sources")
        show_configuration(find_app_target(server, app, scope), reveal=reveal, json_output=json_output)
        return
    program = find_program(settings, server, app, scope)
    configuration = open_center(program.target).read()
    rows = leaf_rows(_read(program, configuration, staged=staged))
    if json_output:
        emit_json(
            {
                "settings": settings,
                "app": configuration.app,
                "scope": configuration.scope,
                "version": configuration.next_version if staged else configuration.version,
                "values": [row.as_json(sources=sources) for row in rows],
            }
        )
        return
    say(headline(program, configuration, staged=staged))
    if sources:
        show_table(("setting", "value", "from", "instead of"), ((r.path, r.value, r.source, r.losers) for r in rows))
    else:
        show_table(("setting", "value"), ((row.path, row.value) for row in rows))


def check(
    settings: options.SettingsClass,
    published: Annotated[
        bool, typer.Option("--published", help="What is live now, instead of what is staged.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    json_output: options.Json = False,
) -> None:
    """Build the program's settings from what is about to be published, before anybody is hurt. Exit code 1 if refused."""
    program = find_program(settings, server, app, scope)
    configuration = open_center(program.target).read()
    found, hints = examine(program, configuration, staged=not published)
    failed = bool(found) or (strict and bool(hints))
    if json_output:
        emit_json(
            {
                "settings": settings,
                "app": configuration.app,
                "scope": configuration.scope,
                "ok": not failed,
                "errors": found,
                "warnings": hints,
            }
        )
    else:
        for line in found:
            say(f"error: {line}", colour="red")
        for line in hints:
            say(f"warning: {line}", colour="yellow")
        if not failed:
            say(f"{headline(program, configuration, staged=not published)}: valid")
    if failed:
        raise typer.Exit(1)


def publish(
    settings: options.OptionalSettingsClass = None,
    server: options.Server = None,
    app: options.App = None,
    wait: Wait = WAIT_SECONDS,
    json_output: options.Json = False,
) -> None:
    """Make everything staged live, at once, in every running instance; with SETTINGS only if the program accepts it.

    Then say what each instance does with it. Exit code 1 if one refuses it.
    """
    if settings is None:
        target = find_app_target(server, app, None)
    else:
        program = find_program(settings, server, app, None)
        target = program.target
        require_valid(program, open_admin_center(target, "publishing").read(), staged=True)
    center = open_admin_center(target, "publishing")
    published = center.publish()
    instances = wait_for_instances(center, wait if published.changes else 0)
    if json_output:
        emit_json({**asdict(published), "instances": instances})
    else:
        say(str(published))
        tell(instances, published.version)
    if refused(instances):
        raise typer.Exit(1)


def explain(
    settings: options.SettingsClass,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Settings, like database.pool; without: all.")
    ] = None,
    staged: Annotated[
        bool, typer.Option("--staged", help="As it will be once everything staged is published.")
    ] = False,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    json_output: options.Json = False,
) -> None:
    """Say for each setting which source won, with which value, and what it hides."""
    program = find_program(settings, server, app, scope)
    configuration = open_center(program.target).read()
    rows = leaf_rows(_read(program, configuration, staged=staged), paths or None)
    if json_output:
        emit_json([row.as_json(sources=True) for row in rows])
        return
    for row in rows:
        for line in str(row.explanation).splitlines():
            say(line)


def diff(
    settings: options.OptionalSettingsClass = None,
    versions: Annotated[
        str | None, typer.Option("--versions", metavar="OLD..NEW", help="Two published versions.")
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit code 1 if there are differences.")] = False,
    reveal: Reveal = False,
    server: options.Server = None,
    app: options.App = None,
    scope: Annotated[
        str | None,
        typer.Option("--scope", metavar="SCOPE | A..B", help="Scope, or two of them to compare.", show_default=False),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """Compare what is live with what is staged; or two scopes (--scope test..prod), or two versions (--versions 3..5)."""

    def mask(key: str, value: str | None) -> str | None:
        return value if reveal else mask_value(key, value)

    pair = scope.split("..", 1) if scope is not None and ".." in scope else None
    if versions is not None and (settings is not None or pair is not None):
        raise UsageError("--versions compares what was published, key by key; it takes neither SETTINGS nor two scopes")
    if settings is not None:
        found = _diff_program(find_program(settings, server, app, pair[0] if pair else scope), pair)
    else:
        target = find_app_target(server, app, pair[0] if pair else scope)
        if versions is not None:
            raw = diff_versions(target, versions)
            found = {name: (mask(name, old), mask(name, new)) for name, (old, new) in raw.items()}
        else:
            old, new = _two_configurations(target, pair)
            found = compare(old.values(), new.values(staged=pair is None), show=mask)
    if json_output:
        emit_json({name: {"old": old, "new": new} for name, (old, new) in found.items()})
    elif found:
        show_table(
            ("key" if settings is None else "setting", "change"), ((n, transition(*c)) for n, c in found.items())
        )
    else:
        say("no difference")
    if exit_code and found:
        raise typer.Exit(1)


def watch(
    settings: options.OptionalSettingsClass = None,
    changes: Annotated[int | None, typer.Option("--changes", min=1, help="Stop after so many publications.")] = None,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")] = 1.0,
    reveal: Reveal = False,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    json_output: options.Json = False,
) -> None:
    """Tell of each publication as it happens; with SETTINGS whether the program accepts it, and what changes for it."""
    if settings is None:
        watch_keys(find_app_target(server, app, scope), interval, changes, reveal=reveal, json_output=json_output)
    else:
        watch_program(find_program(settings, server, app, scope), interval, changes, json_output=json_output)


def keys(
    settings: options.SettingsClass,
    form: Annotated[
        Literal["table", "md", "jsonschema", "env"], typer.Option("--format", help="How to write them.")
    ] = "table",
    json_output: options.Json = False,
) -> None:
    """List every setting: its key in the center, its environment variable, type, default and meaning. Needs no server."""
    rows = key_rows(load_class(settings))
    if json_output:
        emit_json([row.as_json() for row in rows])
    elif form == "table":
        show_table(
            ("key", "variable", "type", "default", "meaning"),
            ((row.key or "(local)", row.variable, row.type, row.default, row.meaning) for row in rows),
        )
    else:
        typer.echo(KEY_FORMATS[form](load_class(settings), rows))


def headline(program: Program, configuration: Configuration, *, staged: bool) -> str:
    """One line: which class, which application, which version."""
    where = f"{configuration.app}/{configuration.scope}" if configuration.scope else configuration.app
    pending = sum(1 for item in configuration.items if item.pending)
    if staged and not configuration.staged_known:
        complain("staged values cannot be seen without an administrator key: this is about the published ones")
    state = f"version {configuration.version}"
    if staged and pending:
        state += f" and {count(pending, 'staged change')}"
    return f"{program.settings.__name__} of {where}, {state}"


def _diff_program(program: Program, pair: list[str] | None) -> Differences:
    old, new = _two_configurations(program.target, pair)
    before = program.read(program.raw(old))
    after_program = with_scope(program, pair[1]) if pair else program
    return changed_leaves(before, after_program.read(after_program.raw(new, staged=pair is None)))


def _read(program: Program, configuration: Configuration, *, staged: bool) -> Reading[BaseSettings]:
    """What the program's sources give; a refusal is told, and what they give is shown all the same."""
    reading = program.read(program.raw(configuration, staged=staged))
    if reading.error is not None:
        complain(f"{program.settings.__name__} refuses these values: {reading.error.one_line()}")
    return reading


def _two_configurations(target: Target, pair: list[str] | None) -> tuple[Configuration, Configuration]:
    center = open_center(target)
    if pair is not None:
        return center.read(pair[0]), center.read(pair[1])
    found = center.read()
    if not found.staged_known:
        raise CtlError(
            "without an administrator key staged values cannot be seen; compare two scopes: --scope test..prod"
        )
    return found, found
