"""``stardustctl apps``: applications of the embedded server, their secrets, their end."""

from typing import Annotated

import typer
from rich.text import Text

from stardust_auto.ctl import options
from stardust_auto.ctl.admin import segment
from stardust_auto.ctl.center import as_int, as_object
from stardust_auto.ctl.errors import UsageError
from stardust_auto.ctl.output import emit_json, say, show_table
from stardust_auto.ctl.target import find_target
from stardust_auto.ctl.trace_commands import rows_of

Name = Annotated[str, typer.Argument(metavar="NAME", help="The application.", show_default=False)]


def apps(context: typer.Context, server: options.Server = None, json_output: options.Json = False) -> None:
    """List the applications and their running instances; see the sub-commands for one of them."""
    if context.invoked_subcommand is not None:
        return
    found = rows_of(find_target(server).admin().get("apps"))
    if json_output:
        emit_json(found)
        return
    if not found:
        say("no application has logged in yet")
        return
    show_table(
        ("application", "version", ("online", "right"), ("seen", "right"), ("period", "right"), "state", "online as"),
        [_row(entry, rows_of(entry.get("instances"))) for entry in found],
    )


def _row(entry: dict[str, object], instances: list[dict[str, object]]) -> tuple[object, ...]:
    online = [one for one in instances if one.get("online")]
    state = "enabled" if entry.get("enabled", True) else Text("disabled", style="yellow")
    names = ", ".join(_instance(one) for one in online)
    return (
        entry.get("name"),
        entry.get("version"),
        len(online),
        len(instances),
        f"{entry.get('period')} s",
        state,
        names,
    )


def _instance(one: dict[str, object]) -> str:
    refused, used = as_int(one.get("refused_version")), as_int(one.get("used_version"))
    note = f" (refused v{refused}, uses v{used})" if refused > used else f" (v{used})" if used else ""
    return f"{one.get('client_id')}{note}"


def create(name: Name, server: options.Server = None, json_output: options.Json = False) -> None:
    """Create an application, for a server with closed registration; its first login is issued a secret."""
    found = as_object(find_target(server).admin().post(f"apps/{segment(name)}", {"create": True}))
    emit_json(found) if json_output else say(f"{found.get('name')}: created")


def secret(
    name: Name,
    given: Annotated[
        str | None, typer.Option("--set", metavar="SECRET", help="This one instead of a new one.", show_default=False)
    ] = None,
    server: options.Server = None,
    json_output: options.Json = False,
) -> None:
    """Give an application a secret and print it, for STARDUST_SECRET. The server keeps its hash, so it cannot show the present one."""
    body: dict[str, object] = {} if given is None else {"secret": given}
    found = as_object(find_target(server).admin().post(f"apps/{segment(name)}/secret", body))
    emit_json(found) if json_output else say(str(found.get("secret")))


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: options.Server = None,
    json_output: options.Json = False,
) -> None:
    """Delete an application with its traces, its counts and its whole configuration."""
    if not yes and not typer.confirm(f"Delete {name} with its traces and its whole configuration?", err=True):
        raise UsageError("nothing is deleted")
    found = as_object(find_target(server).admin().delete(f"apps/{segment(name)}"))
    emit_json(found) if json_output else say(f"{found.get('deleted')}: deleted")
