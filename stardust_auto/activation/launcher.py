"""``stardust-auto COMMAND...``: run a program with the agent active.

Only prepares the environment and replaces itself by the program (``execve``): same process, arguments as typed, same
exit code. Nothing but the standard library is imported, and little of that: a launcher's own start-up is paid by every
run (docs/architecture.md, "Start-up").
"""

from __future__ import annotations

import errno
import os
import sys

from stardust_auto import __version__
from stardust_auto.activation import marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, TextIO

    from stardust_auto.server.local import LocalServer

USAGE = """\
usage: stardust-auto [OPTIONS] COMMAND [ARGS...]

Runs COMMAND (python app.py, gunicorn shop:app, ...) with tracing and remote settings from a Stardust server.

  --server URL   address of the server; several with commas for failover   (STARDUST_SERVER)
  --app NAME     name of the application on the platform                   (STARDUST_APP_ID)
  --secret S     secret of the application; better set by the environment  (STARDUST_SECRET)
  --scope S      scope of the configuration, such as dev or prod           (STARDUST_SCOPE)
  --local        no platform needed: use, or start, a server on this machine that keeps its data in .stardust/
  --summary      when the program ends, a table of its operations and its slowest trace on stderr
  --debug        the agent's own log on stderr                             (STARDUST_LOG_LEVEL=debug)
  --version      version of stardust-auto and of the Python it belongs to
  --help         this text
  --             end of the options; what follows is the command

Every other setting is a STARDUST_* variable: see README.md.
"""

#: Options with a value and the variables that they set.
_VALUES = {
    "--server": "STARDUST_SERVER",
    "--app": "STARDUST_APP_ID",
    "--secret": "STARDUST_SECRET",
    "--scope": "STARDUST_SCOPE",
}
_FLAGS = ("--local", "--summary", "--debug", "--version", "--help", "-h")

USAGE_ERROR, NOT_EXECUTABLE, NOT_FOUND = 2, 126, 127


class LaunchError(Exception):
    """The command cannot be started. The text is one line; ``code`` is the exit code that shells use for it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def parse(arguments: Sequence[str]) -> tuple[dict[str, str], set[str], list[str]]:
    """Split a command line into the variables of our options, our flags, and the command.

    Raises:
        LaunchError: an unknown option, or an option without its value (exit code 2).
    """
    variables: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        if option == "--":
            break
        name, equals, value = option.partition("=")
        if name in _VALUES:
            if not equals:
                if not rest or rest[0] == "--":
                    raise LaunchError(f"{name} needs a value", USAGE_ERROR)
                value = rest.pop(0)
            variables[_VALUES[name]] = value
        elif option in _FLAGS:
            flags.add("--help" if option == "-h" else option)
        else:
            raise LaunchError(f"unknown option {name}; 'stardust-auto --help' lists the options", USAGE_ERROR)
    return variables, flags, rest


def find_program(command: str, search: str) -> str:
    """The file that a shell would run for ``command``, looked up in the ``PATH`` given as ``search``.

    Raises:
        LaunchError: nothing has this name (127), or what has it cannot be executed (126).
    """
    if not command:
        raise LaunchError("the command is empty", NOT_FOUND)
    candidates = [command] if "/" in command else [f"{folder or '.'}/{command}" for folder in search.split(os.pathsep)]
    blocked = ""
    for path in candidates:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
        if not blocked and os.path.exists(path) and ("/" in command or not os.path.isdir(path)):
            blocked = path
    if blocked:
        what = "is a directory" if os.path.isdir(blocked) else "permission denied"
        raise LaunchError(f"cannot execute {blocked}: {what}", NOT_EXECUTABLE)
    raise LaunchError(f"command not found: {command}", NOT_FOUND)


def with_site(pythonpath: str) -> str:
    """``PYTHONPATH`` with our one directory in front: once, however launchers are nested, and without an empty entry.

    All other entries stay as they are, in their order, duplicates and all.
    """
    others = [entry for entry in pythonpath.split(os.pathsep) if entry != marks.SITE] if pythonpath else []
    return os.pathsep.join([marks.SITE, *others])


def local_server(folder: str) -> LocalServer:
    """The embedded server that keeps its data in ``folder``; started if it is not running.

    Raises:
        LaunchError: the extra ``local`` is not installed, or the server does not start.
    """
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "jinja2") if find_spec(name) is None]
    if missing:
        raise LaunchError(
            f"--local needs the extra 'local' ({', '.join(missing)} is missing): pip install 'stardust-auto[local]'",
            USAGE_ERROR,
        )
    from stardust_auto.server.local import ensure_local_server

    try:
        return ensure_local_server(folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise LaunchError(f"--local: the server did not start: {error}", 1) from error


def prepare(variables: dict[str, str], flags: set[str], environ: dict[str, str]) -> dict[str, str]:
    """The program's environment: ``environ`` with our options, our directory and the mark of this interpreter."""
    prepared = {**environ, **variables}
    prepared["PYTHONPATH"] = with_site(environ.get("PYTHONPATH", ""))
    prepared["STARDUST_AUTO"] = "1"
    prepared[marks.MARK] = marks.interpreter_mark()
    prepared.pop(marks.SUMMARY, None)
    if "--summary" in flags:
        prepared[marks.SUMMARY] = str(os.getpid())
    if "--debug" in flags:
        prepared["STARDUST_LOG_LEVEL"] = "debug"
    if "--local" in flags:
        if "STARDUST_SERVER" in variables:
            raise LaunchError("--local and --server exclude each other", USAGE_ERROR)
        folder = os.path.abspath(".stardust")
        server = local_server(folder)
        prepared["STARDUST_SERVER"] = server.url
        if "STARDUST_SECRET" not in variables and server.app_secret:
            prepared["STARDUST_SECRET"] = server.app_secret  # what the environment has is for another server
        prepared.setdefault("STARDUST_CACHE_DIR", os.path.join(folder, "cache"))
        _write(sys.stderr, f"stardust-auto: console at {server.console_url}\n")
    return prepared


def why_inactive(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """One line on why the agent will not be active in this program, or ``""``: it will be, it was switched off, or nobody can tell."""
    if environ.get("STARDUST_ENABLED", "").strip().lower() in marks.OFF:
        return ""
    if not _server_is_known(environ):
        return "no server is known: give --server URL, set STARDUST_SERVER, or use --local"
    interpreter = _interpreter(program)
    if not interpreter:
        return ""
    if not _is_own_environment(interpreter):
        return f"{interpreter} belongs to another environment than this stardust-auto ({sys.prefix}): use the one installed there"
    flags = _flags(arguments) if interpreter == program else set()
    if "S" in flags:
        return "with -S Python reads no start-up file"
    if flags & {"I", "E"}:
        from stardust_auto.activation.install import installed

        if not installed():
            return "-I and -E hide PYTHONPATH from Python: run 'stardustctl install' in that environment once"
    return ""


def _server_is_known(environ: Mapping[str, str]) -> bool:
    named = any(key.lower() in ("stardust_server", "starserver") and value.strip() for key, value in environ.items())
    if named or marks.SUMMARY in environ or environ.get("STARDUST_DISCOVER", "").strip():
        return True
    from stardust_auto.environment import platform_files

    if not platform_files.present():
        return False
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.errors import EnvironmentVariableError

    try:
        settings = AgentSettings.from_environ()
    except EnvironmentVariableError:  # the start of the program says it, and what is wrong with a file
        return True
    return bool(settings.servers or settings.problems)


def _interpreter(program: str) -> str:
    """The Python that runs ``program``: itself, or the one that its first line names; ``""`` if neither is one."""
    try:
        with open(program, "rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else [program]
    path = words[0] if words else ""
    return path if os.path.basename(path).rstrip("0123456789.") == "python" and os.path.exists(path) else ""


def _is_own_environment(interpreter: str) -> bool:
    """Whether an interpreter has the prefix of this one: that of its virtual environment, if any, else that of its installation."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))
    if not os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(interpreter)))
    try:
        return os.path.samefile(prefix, sys.prefix)
    except OSError:
        return True


def _flags(arguments: Sequence[str]) -> set[str]:
    """The one-letter options before the program of a Python command line."""
    flags: set[str] = set()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        option = rest.pop(0)
        if option.startswith("--"):
            continue
        for position, letter in enumerate(option[1:], 1):
            if letter in "cm":
                return flags
            if letter in "WX":
                if position == len(option) - 1 and rest:
                    rest.pop(0)
                break
            flags.add(letter)
    return flags


def execute(command: list[str], environ: dict[str, str]) -> NoReturn:
    """Become ``command``. A file without an interpreter line is run by ``/bin/sh``, as ``execvp`` does.

    Raises:
        LaunchError: the system refuses it (126).
    """
    program = find_program(command[0], environ.get("PATH", os.defpath))
    try:
        os.execve(program, command, environ)  # noqa: S606 - what a launcher is for
    except OSError as error:
        reason: OSError = error
        if error.errno == errno.ENOEXEC:
            try:
                os.execve("/bin/sh", ["/bin/sh", program, *command[1:]], environ)  # noqa: S606 - as above
            except OSError as fallback:
                reason = fallback
        raise LaunchError(f"cannot execute {program}: {reason.strerror}", NOT_EXECUTABLE) from error


def _write(stream: TextIO | None, text: str) -> None:
    """Write and flush now: what is buffered is lost when the program takes over. A closed stream is nobody reading."""
    if stream is not None:
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``stardust-auto``. Returns only when there is nothing to run: the exit code."""
    try:
        variables, flags, command = parse(sys.argv[1:] if arguments is None else arguments)
        if "--help" in flags:
            _write(sys.stdout, USAGE)
            return 0
        if "--version" in flags:
            _write(sys.stdout, f"stardust-auto {__version__} (Python {sys.version.split()[0]}, {sys.executable})\n")
            return 0
        if not command:
            _write(sys.stderr, USAGE)
            return USAGE_ERROR
        # Before a server is started for it: a command that is mistyped leaves nothing behind.
        program = find_program(command[0], os.environ.get("PATH", os.defpath))
        environ = prepare(variables, flags, dict(os.environ))
        reason = why_inactive(program, command[1:], environ)
        if reason:
            _write(sys.stderr, f"stardust-auto: not active: {reason}\n")
        execute(command, environ)
    except LaunchError as error:
        _write(sys.stderr, f"stardust-auto: {error}\n")
        return error.code
