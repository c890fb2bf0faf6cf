"""``stardustctl config``: what is in the center, staged and published."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text

from stardust_auto.ctl import options
from stardust_auto.ctl.center import Configuration, Item, as_int, open_admin_center, open_center
from stardust_auto.ctl.errors import CtlError, UsageError
from stardust_auto.ctl.examine import require_valid
from stardust_auto.ctl.feedback import WAIT_SECONDS, Wait, refused, tell, wait_for_instances
from stardust_auto.ctl.output import clock, count, emit_json, plain, say, show_table
from stardust_auto.ctl.settings_class import Program, find_program
from stardust_auto.ctl.target import Target, find_app_target
from stardust_auto.privacy import mask_value

Reveal = Annotated[bool, typer.Option("--reveal", help="Show values that look secret.")]


def set_values(
    assignments: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="KEY=VALUE pairs, or: KEY VALUE.")],
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the value of one KEY from standard input: for secrets.")
    ] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Publish at once.")] = False,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    settings: options.CheckedBy = None,
    wait: Wait = WAIT_SECONDS,
    json_output: options.Json = False,
) -> None:
    """Stage values: nothing changes for a running program until 'config publish'."""
    if stdin:
        if len(assignments) != 1 or "=" in assignments[0]:
            raise UsageError("--stdin takes one KEY and no value")
        values: dict[str, str | None] = {assignments[0]: sys.stdin.read().rstrip("\r\n")}
    else:
        values = parse_assignments(assignments)
    _stage(values, _place_of(settings, server, app, scope), wait if publish else None, json_output)


def unset_values(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys to delete.")],
    publish: Annotated[bool, typer.Option("--publish", help="Publish at once.")] = False,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    settings: options.CheckedBy = None,
    wait: Wait = WAIT_SECONDS,
    json_output: options.Json = False,
) -> None:
    """Stage the deletion of keys."""
    _stage(dict.fromkeys(keys), _place_of(settings, server, app, scope), wait if publish else None, json_output)


def history(
    server: options.Server = None,
    app: options.App = None,
    json_output: options.Json = False,
    reveal: Reveal = False,
) -> None:
    """List the published versions and what each of them changed."""
    target = find_app_target(server, app, None)
    versions = open_admin_center(target, "reading the history").history()
    for version in versions:
        for change in _changes(version):
            if not reveal:
                key = str(change.get("key") or "")
                change.update({side: mask_value(key, as_shown(change.get(side))) for side in ("old", "new")})
    if json_output:
        emit_json({"app": target.app, "versions": versions})
        return
    rows = [
        (
            version.get("version"),
            clock(version.get("published_at")) or version.get("published_at") or "",
            at_scope(str(change.get("key") or ""), str(change.get("scope") or "")),
            transition(as_shown(change.get("old")), as_shown(change.get("new"))),
        )
        for version in versions
        for change in _changes(version) or [{}]
    ]
    if rows:
        show_table((("version", "right"), "published", "key", "change"), rows)
    else:
        say(f"{target.app}: nothing has been published yet")


def rollback(
    version: Annotated[
        int | None,
        typer.Argument(help="The version whose values come back; without it the one before the last.", min=0),
    ] = None,
    server: options.Server = None,
    app: options.App = None,
    settings: options.CheckedBy = None,
    wait: Wait = WAIT_SECONDS,
    json_output: options.Json = False,
) -> None:
    """Publish the values of an older version again, as a new version; drafts stay. Exit code 1 if an instance refuses it."""
    target, program = _place_of(settings, server, app, None)
    center = open_admin_center(target, "a roll-back")
    if version is None:
        published = [as_int(entry.get("version")) for entry in center.history()]
        if not published:
            raise CtlError(f"{target.app}: nothing has been published yet, so there is nothing to go back to")
        version = published[1] if len(published) > 1 else published[0] - 1
    if program is not None:
        require_valid(program, center.read(version=version), staged=False)
    new = center.rollback(version)
    instances = wait_for_instances(center, wait)
    if json_output:
        emit_json({"app": target.app, "version": new, "values_of": version, "instances": instances})
    else:
        say(f"{target.app}: version {new} is published, with the values of version {version}")
        tell(instances, new)
    if refused(instances):
        raise typer.Exit(1)


def diff_versions(target: Target, text: str) -> dict[str, tuple[str | None, str | None]]:
    """What changed between two published versions, ``OLD..NEW``, by the history."""
    low, high = _version_range(text)
    old: dict[str, str | None] = {}
    new: dict[str, str | None] = {}
    for entry in reversed(open_admin_center(target, "comparing versions").history()):
        if low < as_int(entry.get("version")) <= high:
            for change in _changes(entry):
                name = at_scope(str(change.get("key") or ""), str(change.get("scope") or ""))
                old.setdefault(name, as_shown(change.get("old")))
                new[name] = as_shown(change.get("new"))
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def parse_assignments(words: list[str]) -> dict[str, str | None]:
    """``KEY VALUE``, or any number of ``KEY=VALUE``; the value may be empty and may hold anything."""
    unknown = next((word for word in words if word.startswith("--")), None)
    if unknown is not None and not (len(words) == 2 and unknown == words[1]):
        raise UsageError(f"no such option: {unknown}")
    if len(words) == 2 and "=" not in words[0]:
        return {_checked_key(words[0]): words[1]}
    values: dict[str, str | None] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            raise UsageError(f"{word!r} is not KEY=VALUE; give one pair as KEY VALUE, several as KEY=VALUE KEY=VALUE")
        values[_checked_key(key)] = value
    return values


def _place_of(
    settings: str | None, server: str | None, app: str | None, scope: str | None
) -> tuple[Target, Program | None]:
    """Where to write, and the settings class that must accept what is published."""
    if settings is None:
        return find_app_target(server, app, scope), None
    program = find_program(settings, server, app, scope)
    return program.target, program


def _stage(
    values: dict[str, str | None], place: tuple[Target, Program | None], wait: float | None, json_output: bool
) -> None:
    """Stage ``values`` and say what that means on this kind of server.

    Unless ``wait`` is None, publish them and wait that long for what the instances say.
    """
    target, program = place
    center = open_center(target)
    taken = center.stage(values)
    done: dict[str, object] = {
        "app": target.app,
        "scope": target.scope,
        "staged": sorted(values),
        "published": None,
    }
    if target.key is None:
        note = (
            "a StarServer adds only keys that it does not have yet, and leaves them unpublished: change existing ones "
            "and publish in its console"
        )
        if json_output:
            emit_json({**done, "staged_count": taken, "note": note})
        else:
            say(f"{target.app}: {count(taken, 'key')} sent; {note}")
        return
    same = f", {count(len(values) - taken, 'value')} unchanged" if taken < len(values) else ""
    lines = [f"{_place(target)}: {count(taken, 'value')} staged{same} ({', '.join(sorted(values))})"]
    instances: list[dict[str, object]] = []
    version = 0
    if wait is not None:
        administrator = open_admin_center(target, "publishing")
        if program is not None:
            require_valid(program, administrator.read(), staged=True)
        published = administrator.publish()
        version = published.version
        instances = wait_for_instances(administrator, wait if published.changes else 0)
        done |= {"published": version, "instances": instances}
        lines.append(str(published))
    elif taken:
        lines[0] += "; 'stardustctl config publish' makes " + ("it" if taken == 1 else "them") + " live"
    if json_output:
        emit_json(done)
    for line in lines if not json_output else ():
        say(line)
    if not json_output:
        tell(instances, version)
    if refused(instances):
        raise typer.Exit(1)


def shown_items(configuration: Configuration, reveal: bool) -> list[dict[str, object]]:
    """Rows for people and programs; values that look secret are masked unless ``reveal``."""

    def show(item: Item, value: str | None) -> str | None:
        return value if reveal else mask_value(item.key, value)

    return [
        {
            "key": item.key,
            "scope": item.scope,
            "value": show(item, item.value),
            "new_value": show(item, item.new_value),
            "pending": item.pending,
            "version": item.version,
            "comment": item.comment,
        }
        for item in sorted(configuration.items, key=lambda item: (item.key.casefold(), item.scope))
    ]


def show_configuration(target: Target, *, reveal: bool, json_output: bool) -> None:
    """``config show`` without a settings class: the rows of the center."""
    configuration = open_center(target).read()
    rows = shown_items(configuration, reveal)
    if json_output:
        emit_json(
            {
                "app": configuration.app,
                "scope": configuration.scope,
                "version": configuration.version,
                "next_version": configuration.next_version,
                "items": rows,
            }
        )
        return
    staged = sum(1 for row in rows if row["pending"])
    note = f", {count(staged, 'change')} staged" if staged else ""
    if not configuration.staged_known:
        note = ", published values only" + (
            "; there are unpublished changes" if configuration.next_version > configuration.version else ""
        )
    say(f"{_place(target)}: version {configuration.version}, {count(len(rows), 'key')}{note}")
    if rows:
        show_table(("key", "scope", "value", "staged", "comment"), map(_cells, rows))


def compare(
    old: dict[str, str], new: dict[str, str], *, show: Callable[[str, str | None], str | None]
) -> dict[str, tuple[str | None, str | None]]:
    """Differences of two maps, keys compared without case, values as ``show`` lets them be seen."""
    left = {key.casefold(): (key, value) for key, value in old.items()}
    right = {key.casefold(): (key, value) for key, value in new.items()}
    found: dict[str, tuple[str | None, str | None]] = {}
    for folded in sorted(left.keys() | right.keys()):
        key = (right.get(folded) or left[folded])[0]
        before, after = left.get(folded, (key, None))[1], right.get(folded, (key, None))[1]
        if before != after:
            found[key] = (show(key, before), show(key, after))
    return found


def transition(old: str | None, new: str | None) -> Text:
    """``old -> new`` with ``(none)`` for an absent value."""
    return Text.assemble(_side(old, "red"), " -> ", _side(new, "green"))


def at_scope(key: str, scope: str) -> str:
    """``key`` or ``key@scope``."""
    return f"{key}@{scope}" if scope else key


def as_shown(value: object) -> str | None:
    """A value of a change as text; None stays None."""
    return None if value is None else str(value)


def _side(value: str | None, style: str) -> Text:
    return Text("(none)", style="dim") if value is None else Text(plain(value), style=style)


def _cells(row: dict[str, object]) -> tuple[object, ...]:
    value = Text("(none)", style="dim") if row["value"] is None else row["value"]
    staged: object = ""
    if row["pending"]:
        staged = Text("(deleted)", style="yellow") if row["new_value"] is None else row["new_value"]
    return row["key"], row["scope"], value, staged, row["comment"]


def _changes(version: dict[str, object]) -> list[dict[str, object]]:
    changes = version.get("changes")
    return [change for change in changes if isinstance(change, dict)] if isinstance(changes, list) else []


def _place(target: Target) -> str:
    return f"{target.app} (scope {target.scope})" if target.scope else target.app


def _checked_key(key: str) -> str:
    if not key.strip():
        raise UsageError("a key is missing before '='")
    return key.strip()


def _version_range(text: str) -> tuple[int, int]:
    low, separator, high = text.partition("..")
    if not (separator and low.isdigit() and high.isdigit() and int(low) < int(high)):
        raise UsageError(f"--versions {text!r} cannot be used: OLD..NEW is needed, like 3..5")
    return int(low), int(high)
