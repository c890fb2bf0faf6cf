"""Every ``STARDUST_*`` variable of the agent: its type, its default and what it means, in one place.

Budget: a process that may never use the agent reads them, so this module imports little. The settings are a plain immutable class:
pydantic alone would cost ten times the start-up budget.
"""

from __future__ import annotations

import os
import sys

from stardust_auto.environment.platform_files import DOTENV, complete
from stardust_auto.environment.variable import (
    IDENTITY_LIMIT,
    Variable,
    parse_bool,
    parse_identity,
    parse_int,
    parse_list,
    parse_log_level,
    parse_servers,
)
from stardust_auto.errors import EnvironmentVariableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VARIABLES: tuple[Variable, ...] = (
    Variable(
        "STARDUST_SERVER",
        "servers",
        parse_servers,
        "Address of the Stardust server; several with commas for failover. Without it nothing is active.",
        aliases=("StarServer",),
        default=(),
    ),
    Variable(
        "STARDUST_APP_ID",
        "app_id",
        parse_identity,
        "Name of the application on the platform. Default: the name of the program.",
        aliases=("StarAppId",),
        default="",
    ),
    Variable("STARDUST_APP_NAME", "app_name", parse_identity, "Name of the application for people. Default: its name."),
    Variable(
        "STARDUST_APP_VERSION",
        "app_version",
        str,
        "Version of the application, as the platform shows it: its dotted numbers, so v1.2.3-rc1 is 1.2.3.",
    ),
    Variable(
        "STARDUST_SECRET",
        "secret",
        str,
        "Secret of the application. Not needed when the server registers new applications by itself.",
        aliases=("StarSecret",),
        secret=True,
    ),
    Variable(
        "STARDUST_SCOPE",
        "scope",
        parse_identity,
        "Configuration scope, such as dev or prod. Default: chosen by the server.",
        default="",
    ),
    Variable("STARDUST_CLIENT_ID", "client_id", parse_identity, "Name of this instance. Default: <ip>@<pid>."),
    Variable(
        "STARDUST_DISCOVER",
        "discover",
        parse_bool,
        "Ask the StarAgent of this machine (UDP port 5500) for the server when none is configured; takes 1 s at most. "
        "Default: off.",
        default=False,
    ),
    Variable("STARDUST_ENABLED", "enabled", parse_bool, "The whole agent on or off. Default: on.", default=True),
    Variable("STARDUST_TRACE_ENABLED", "trace_enabled", parse_bool, "Tracing on or off. Default: on.", default=True),
    Variable(
        "STARDUST_CONFIG_ENABLED",
        "config_enabled",
        parse_bool,
        "Remote configuration on or off. Default: on.",
        default=True,
    ),
    Variable(
        "STARDUST_PUSH_ENABLED",
        "push_enabled",
        parse_bool,
        "The WebSocket for pushed commands on or off. Default: on.",
        default=True,
    ),
    Variable(
        "STARDUST_INSTRUMENT",
        "instrument",
        parse_bool,
        "All integrations on or off; STARDUST_INSTRUMENT_<NAME> decides for one. Default: on.",
        default=True,
    ),
    Variable(
        "STARDUST_EXCLUDES",
        "excludes",
        parse_list,
        "Operations that are not recorded: names with * and ?, separated by commas. Default: the server's list.",
    ),
    Variable(
        "STARDUST_PERIOD",
        "period",
        parse_int(1, 86400, "seconds"),
        "Seconds between two reports. Default: the server's, 60.",
    ),
    Variable(
        "STARDUST_MAX_SAMPLES",
        "max_samples",
        parse_int(0, 1000, "samples"),
        "Samples kept for each operation and period. Default: the server's, 1.",
    ),
    Variable(
        "STARDUST_MAX_ERRORS",
        "max_errors",
        parse_int(0, 1000, "samples"),
        "Error samples kept for each operation and period. Default: the server's, 10.",
    ),
    Variable(
        "STARDUST_TIMEOUT",
        "timeout",
        parse_int(1, 3_600_000, "milliseconds"),
        "Milliseconds after which a call is kept as a sample for being slow. Default: the server's, 5000.",
    ),
    Variable(
        "STARDUST_MAX_TAG_LENGTH",
        "max_tag_length",
        parse_int(0, 2000, "characters"),
        "Characters kept of the tag of a sample. Default: the server's, 1024.",
    ),
    Variable(
        "STARDUST_MAX_NAMES",
        "max_names",
        parse_int(10, 100_000, "names"),
        "Operations told apart in one period; further ones are counted together. Default: 1000.",
        default=1000,
    ),
    Variable(
        "STARDUST_MAX_QUEUE",
        "max_queue",
        parse_int(100, 1_000_000, "operations"),
        "Counts of operations that wait while no server answers, about 400 bytes each; older ones are merged. Default: 20000.",
        default=20_000,
    ),
    Variable(
        "STARDUST_HEARTBEAT",
        "heartbeat",
        parse_int(1, 3600, "seconds"),
        "Seconds between two heartbeats. Default: the server's, 60.",
    ),
    Variable(
        "STARDUST_CONFIG_PERIOD",
        "config_period",
        parse_int(1, 86400, "seconds"),
        "Seconds between two questions for new configuration. Default: the server's, 60.",
    ),
    Variable(
        "STARDUST_PROPAGATE_TO",
        "propagate_to",
        parse_list,
        "Hosts that may receive trace headers (names with * and ?). Default: private addresses, loopback, plain host "
        "names and the server's own domain; 'none' for no host.",
    ),
    Variable(
        "STARDUST_REDIS_KEYS",
        "redis_keys",
        parse_bool,
        "Show the key of a Redis command in the tag of its samples, up to its first digit or separator. Default: off.",
        default=False,
    ),
    Variable(
        "STARDUST_CACHE_DIR",
        "cache_dir",
        str,
        "Folder of issued credentials and configuration copies. Default: the user's cache folder.",
    ),
    Variable(
        "STARDUST_LOG_LEVEL",
        "log_level",
        parse_log_level,
        "Write the agent's own log to stderr from this level on. Default: no output.",
        default="",
    ),
    Variable(
        "STARDUST_AUTO",
        "auto",
        parse_bool,
        "Whether the installed .pth file activates the agent. Default: off.",
        default=False,
    ),
)

#: What the platform's own files and its StarAgent may set, and nothing else.
_PLATFORM = {variable.field: variable for variable in VARIABLES if variable.field in ("servers", "app_id", "secret")}
_PLATFORM["node_code"] = Variable("", "node_code", parse_identity, "Code of this machine's node, from its StarAgent.")

_INSTRUMENT_PREFIX = "STARDUST_INSTRUMENT_"

_DEFAULTS: dict[str, Any] = {**{variable.field: variable.default for variable in VARIABLES}, "node_code": None}


class AgentSettings:
    """The agent's own settings: immutable, complete, checked.

    ``None`` for a limit or an interval means that the server decides. Empty ``servers`` mean that nothing is configured.
    ``sources`` maps a field to what set it: the spelling of a variable, ``argument``, ``StarAgent``, or a file and the name in it.
    ``problems`` are lines about files that cannot be used.
    """

    __slots__ = (*_DEFAULTS, "integrations", "problems", "sources")

    servers: tuple[str, ...]
    app_id: str
    app_name: str | None
    app_version: str | None
    secret: str | None
    scope: str
    client_id: str | None
    node_code: str | None
    discover: bool
    enabled: bool
    trace_enabled: bool
    config_enabled: bool
    push_enabled: bool
    instrument: bool
    excludes: tuple[str, ...] | None
    period: int | None
    max_samples: int | None
    max_errors: int | None
    timeout: int | None
    max_tag_length: int | None
    max_names: int
    max_queue: int
    heartbeat: int | None
    config_period: int | None
    propagate_to: tuple[str, ...] | None
    redis_keys: bool
    cache_dir: str | None
    log_level: str
    auto: bool
    integrations: Mapping[str, bool]
    sources: Mapping[str, str]
    problems: tuple[str, ...]

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - set(self.__slots__)
        if unknown:
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        for field, default in {**_DEFAULTS, "integrations": {}, "sources": {}, "problems": (), **values}.items():
            object.__setattr__(self, field, default)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> AgentSettings:
        """Resolve all settings. Strongest first: ``overrides``, the environment, ``.env``, the platform's files.

        The platform's files of the working directory name server, application and secret, if nothing stronger does.
        With ``STARDUST_DISCOVER`` the StarAgent of this machine is asked for the server as well.

        Args:
            environ: read in the place of ``os.environ``, and then ``.env`` is not read.
            overrides: values by field; ``None`` overrides nothing.

        Raises:
            EnvironmentVariableError: one line that names the first unusable variable, its value unless secret, and what is allowed.
        """
        environ = os.environ if environ is None else environ
        file, problem = _file_variables() if environ is os.environ else ({}, "")
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        integrations: dict[str, bool] = {}
        # The weaker place first.
        for place, given in ((f"{DOTENV}: ", file), ("", environ)):
            for variable in VARIABLES if given else ():
                found = variable.find(given)
                if found is not None:
                    spelling, text = found
                    sources[variable.field] = place + spelling
                    values[variable.field] = variable.read(place + spelling, text)
            for key in given:
                if key.startswith(_INSTRUMENT_PREFIX) and given[key].strip():
                    one = Variable(key, "integrations", parse_bool, "One integration on or off.")
                    integrations[key[len(_INSTRUMENT_PREFIX) :].lower()] = one.read(place + key, given[key])
        for field, value in overrides.items():
            if value is not None:
                values[field] = value
                sources[field] = "argument"
        problems = [problem] if problem else []
        problems += _ask_platform(values, sources)
        return cls(**values, integrations=integrations, sources=sources, problems=tuple(problems))

    def instrumented(self, name: str) -> bool:
        """Whether the integration called ``name`` may be installed."""
        return self.integrations.get(name.lower(), self.instrument)

    @property
    def configured(self) -> bool:
        """Whether the agent is on and knows a server."""
        return self.enabled and bool(self.servers)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"AgentSettings is immutable; {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"AgentSettings is immutable; {name} cannot be deleted")

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field}={'***' if field == 'secret' else getattr(self, field)!r}"
            for field in self.sources
            if field in _DEFAULTS
        )
        return f"AgentSettings({shown})"


#: What ``.env`` said when it was first looked for, and a line about a file that cannot be used. A process reads it once.
_from_file: tuple[Mapping[str, str], str] | None = None


def ignore_dotenv() -> None:
    """Do not read ``.env`` in this process, or what it said does not count any more."""
    global _from_file
    _from_file = {}, ""


def _file_variables() -> tuple[Mapping[str, str], str]:
    global _from_file
    if _from_file is None:
        _from_file = {}, ""
        if os.path.isfile(DOTENV):
            from stardust_auto.environment import dotenv  # Budget: most programs have no such file.

            _from_file = dotenv.read()
    return _from_file


def _ask_platform(values: dict[str, Any], sources: dict[str, str]) -> list[str]:
    problems: list[str] = []

    def accept(field: str, text: str, source: str) -> None:
        try:
            values[field] = _PLATFORM[field].read(source, text)
            sources[field] = source
        except EnvironmentVariableError as error:
            problems.append(str(error))

    return complete(values, accept, discover=values.get("discover", False)) + problems


def program_name() -> str:
    """The application's default name: that of the script, module or console script that runs, at most 50 characters.

    A generic script name (``app.py``, ``main.py``, ``manage.py``, ``wsgi.py``, ``__main__.py``) says nothing: the name of its folder
    is taken instead.
    """
    argv = getattr(sys, "argv", None) or getattr(sys, "orig_argv", [""])
    path = argv[0] or ""
    if path in ("", "-", "-c", "-m"):
        return "python"
    folder, _, file = os.path.abspath(path).replace("\\", "/").rpartition("/")
    stem = file.removesuffix(".py")
    if stem in ("__main__", "app", "main", "manage", "wsgi", "run"):
        stem = folder.rpartition("/")[2] or stem
    name = "".join(c if c.isprintable() and c != "#" else "_" for c in stem)
    return name[:IDENTITY_LIMIT] or "python"
