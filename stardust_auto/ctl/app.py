"""The tree of commands, and the one place where a failure becomes one line and an exit code."""

from __future__ import annotations

import io
import os
import sys

import typer

from stardust_auto.ctl import config_commands, doctor, install, server, settings_commands, trace_commands
from stardust_auto.ctl.errors import CtlError
from stardust_auto.ctl.output import complain, emit_json
from stardust_auto.errors import ConfigError, InvalidSettingsError
from stardust_auto.process.context import suppressed

app = typer.Typer(
    name="stardustctl",
    help="Command line of a Stardust platform: configuration, traces, the embedded server, and a doctor.",
    epilog="Exit codes: 0 done, 1 a check failed or the server refused, 2 wrong usage, 3 no server answers, 4 not permitted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
config = typer.Typer(help="The configuration center: stage, check, publish, explain.", no_args_is_help=True)
app.add_typer(config, name="config")

app.command(
    "server", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)(server.serve)
app.command("apps")(trace_commands.apps)
app.command("traces")(trace_commands.traces)
app.command("trace")(trace_commands.trace)
app.command("doctor", context_settings={"allow_interspersed_args": False})(doctor.doctor)
app.command("install")(install.install)
app.command("uninstall")(install.uninstall)

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


def run() -> int:
    """Run the command of ``sys.argv``; returns the exit code.

    Our own calls make no spans, also where this process is instrumented by the environment it was started in.
    """
    words = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    _settle_output()
    try:
        with suppressed():
            app()
    except CtlError as exc:
        return _fail(str(exc), exc.exit_code, words)
    except InvalidSettingsError as exc:
        return _fail(f"{exc.title} refuses these values: {exc.one_line()}", CtlError.exit_code, words)
    except ConfigError as exc:
        return _fail(str(exc), CtlError.exit_code, words)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone ('stardustctl traces | head'): nothing can be told, nothing needs to be.
        sys.stdout = None  # the interpreter must not flush into the closed pipe again
        return 141
    return 0


def _fail(text: str, code: int, words: list[str]) -> int:
    if "--json" in words:
        emit_json({"error": text, "exit_code": code})
    else:
        complain(text)
    return code


def _settle_output() -> None:
    """Closed streams swallow what is written, and a character that the terminal's encoding lacks is shown escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
