"""The tree of commands."""

from typing import Annotated

import typer

from stardust_auto.ctl import (
    app_commands,
    config_commands,
    doctor,
    install,
    options,
    server,
    settings_commands,
    trace_commands,
)

app = typer.Typer(
    name="stardustctl",
    help="Command line of a Stardust platform: configuration, traces, the embedded server, and a doctor.",
    epilog="Exit codes: 0 done, 1 a check failed or the server refused, 2 wrong usage, 3 no server answers, 4 not permitted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config = typer.Typer(help="The configuration center: stage, check, publish, explain.", no_args_is_help=True)
app.add_typer(config, name="config")
applications = typer.Typer(help="List the applications; give one a secret, create or delete it.")
app.add_typer(applications, name="apps")

app.command(
    "server", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)(server.serve)
app.command("traces")(trace_commands.traces)
app.command("trace")(trace_commands.trace)


@app.command("install")
def _install(
    sitecustomize: Annotated[
        bool, typer.Option("--sitecustomize", help="Write a sitecustomize.py, which needs no STARDUST_AUTO.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Write a .pth file (and .start, where Python reads it) into this environment.

    From then on each of its programs is traced that runs with STARDUST_AUTO=1 and STARDUST_SERVER set.
    """
    install.install(sitecustomize=sitecustomize, json_output=json_output)


@app.command("uninstall")
def _uninstall(json_output: options.Json = False) -> None:
    """Remove the files of 'install' from this environment."""
    install.uninstall(json_output=json_output)


@app.command("doctor", context_settings={"allow_interspersed_args": False})
def _doctor(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="The command of the program; it is examined, not run."),
    ] = None,
    server: options.Server = None,
    app: options.App = None,
    scope: options.Scope = None,
    pid: Annotated[int | None, typer.Option("--pid", help="Examine a running process.", show_default=False)] = None,
    json_output: options.Json = False,
) -> None:
    """Would this program be traced and configured here, and if not, why not? Changes nothing. Exit code 1 if something is wrong."""
    code = doctor.doctor(command or [], server=server, app=app, scope=scope, pid=pid, json_output=json_output)
    if code:
        raise typer.Exit(code)


applications.callback(invoke_without_command=True)(app_commands.apps)
applications.command("create")(app_commands.create)
applications.command("secret")(app_commands.secret)
applications.command("delete")(app_commands.delete)

# A value may begin with a dash: 'config set discount -5'.
config.command("set", context_settings={"ignore_unknown_options": True})(config_commands.set_values)
config.command("unset")(config_commands.unset_values)
config.command("publish")(settings_commands.publish)
config.command("show")(settings_commands.show)
config.command("check")(settings_commands.check)
config.command("explain")(settings_commands.explain)
config.command("diff")(settings_commands.diff)
config.command("watch")(settings_commands.watch)
config.command("keys")(settings_commands.keys)
config.command("history")(config_commands.history)
config.command("rollback")(config_commands.rollback)
