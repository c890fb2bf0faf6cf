"""Every ``STARDUST_*`` variable of the agent: its type, its default and what it means, in one place.

Read by a process that may never use the agent, so nothing but ``os`` and ``sys`` is imported here, and the settings
are a plain immutable class: pydantic alone would cost ten times the start-up budget (docs/architecture.md, "Start-up").
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_TRUE = frozenset(("1", "true", "yes", "on", "y", "t"))
_FALSE = frozenset(("0", "false", "no", "off", "n", "f"))
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
#: The server stores identities in columns of 50 characters, and ``#`` separates the parts of its bus messages.
_IDENTITY_LIMIT = 50


class SettingError(ValueError):
    """A variable has a value that cannot be used. The text is one line: variable, value unless secret, what is allowed."""


class Variable:
    """One documented variable: where it comes from, how it is read, what it means."""

    __slots__ = ("aliases", "default", "field", "help", "name", "parse", "secret")

    def __init__(
        self,
        name: str,
        field: str,
        parse: Callable[[str], Any],
        help: str,  # noqa: A002 - the word of every command-line library
        *,
        default: Any = None,
        aliases: tuple[str, ...] = (),
        secret: bool = False,
    ) -> None:
        self.name = name
        self.field = field
        self.parse = parse
        self.help = help
        self.default = default
        self.aliases = aliases
        self.secret = secret

    def find(self, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """The spelling that is set and its value. An empty value counts as not set."""
        value = environ.get(self.name, "").strip()
        if value:
            return self.name, value
        for alias in self.aliases:
            value = environ.get(alias, "").strip()
            if value:
                return alias, value
        if self.aliases:
            lowered = tuple(alias.lower() for alias in self.aliases)
            for key in environ:
                if key.lower() in lowered and environ[key].strip():
                    return key, environ[key].strip()
        return None

    def read(self, spelling: str, value: str) -> Any:
        """``value`` as this variable's type; :class:`SettingError` names the ``spelling`` that was used."""
        try:
            return self.parse(value)
        except ValueError as error:
            shown = "(a secret, not shown)" if self.secret else repr(_without_credentials(value))
            raise SettingError(f"{spelling}={shown} cannot be used: {error}") from None


def _without_credentials(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        return f"{scheme}://***@{rest.partition('@')[2]}"
    return value if len(value) <= 200 else value[:200] + "..."


def parse_bool(value: str) -> bool:
    """``1 true yes on`` or ``0 false no off``, in any case."""
    lowered = value.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError("allowed are 1, true, yes, on, 0, false, no, off")


def parse_list(value: str) -> tuple[str, ...]:
    """Entries separated by ``,`` or ``;``; blanks around them and empty entries are dropped."""
    return tuple(entry for entry in (part.strip() for part in value.replace(";", ",").split(",")) if entry)


def parse_servers(value: str) -> tuple[str, ...]:
    """A failover list of addresses, each ``[name=][weight*]http(s)://host[:port]`` (protocol.md §8.3)."""
    servers = []
    for entry in parse_list(value):
        start = entry.find("http")
        url = entry[start:] if start > 0 and entry[start - 1] in "=*" else entry
        url = url.partition("#")[0].rstrip("/")
        scheme, separator, rest = url.partition("://")
        host = rest.partition("/")[0].rpartition("@")[2]
        if scheme.lower() not in ("http", "https") or not separator or not host or any(c.isspace() for c in url):
            raise ValueError(
                "each server needs a scheme and a host, like http://127.0.0.1:6600 or https://star.example.com; "
                "separate several with commas"
            )
        port = host.rpartition(":")[2] if ":" in host and not host.endswith("]") else ""
        if port and not (port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("a port is a number from 1 to 65535, like http://127.0.0.1:6600")
        servers.append(url)
    if not servers:
        raise ValueError("at least one address is needed, like http://127.0.0.1:6600")
    return tuple(servers)


def parse_identity(value: str) -> str:
    """An application or instance name: at most 50 characters, no ``#``, no control characters (protocol.md §2.8)."""
    if len(value) > _IDENTITY_LIMIT or "#" in value or not value.isprintable():
        raise ValueError(f"at most {_IDENTITY_LIMIT} printable characters without '#'")
    return value


def parse_log_level(value: str) -> str:
    """A level name of the logging module, in any case."""
    lowered = value.strip().lower()
    if lowered not in _LOG_LEVELS:
        raise ValueError(f"allowed are {', '.join(_LOG_LEVELS)}")
    return lowered


def parse_int(low: int, high: int, unit: str) -> Callable[[str], int]:
    """A reader of whole numbers from ``low`` to ``high``."""

    def parse(value: str) -> int:
        text = value.strip()
        if not (text.isascii() and text.isdigit() and low <= int(text[:19]) <= high):
            raise ValueError(f"a whole number of {unit} from {low} to {high} is needed")
        return int(text)

    return parse


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
        "STARDUST_PROPAGATE_TO",
        "propagate_to",
        parse_list,
        "Hosts that may receive trace headers (names with * and ?). Default: private addresses, loopback, plain host "
        "names and the server's own domain; 'none' for no host.",
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

#: What the platform's own sources may say: never more than these.
_PLATFORM = {variable.field: variable for variable in VARIABLES if variable.field in ("servers", "app_id", "secret")}
_PLATFORM["node_code"] = Variable(
    "", "node_code", parse_identity, "Code of this machine's node, told by its StarAgent."
)

_INSTRUMENT_PREFIX = "STARDUST_INSTRUMENT_"

_DEFAULTS: dict[str, Any] = {**{variable.field: variable.default for variable in VARIABLES}, "node_code": None}


class AgentSettings:
    """The agent's own settings: immutable, complete, checked.

    ``None`` for a sampling value means that the server decides; an empty ``servers`` means that nothing is configured.
    ``sources`` maps a field to what set it: the spelling of a variable, ``argument``, ``StarAgent``, or a file of the platform
    and the name in it. ``problems`` are lines about such files that cannot be used.
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
    propagate_to: tuple[str, ...] | None
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
        """Read all variables; ``overrides`` that are not ``None`` win.

        Server, application and secret that neither says come from the platform's files of the working directory and, with
        ``STARDUST_DISCOVER``, from the StarAgent of this machine (``platform_files.py``).

        Raises:
            SettingError: one line that names the first unusable variable, its value unless secret, and what is allowed.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for variable in VARIABLES:
            found = variable.find(environ)
            if found is not None:
                spelling, text = found
                values[variable.field] = variable.read(spelling, text)
                sources[variable.field] = spelling
        integrations = {}
        for key in environ:
            if key.startswith(_INSTRUMENT_PREFIX) and environ[key].strip():
                one = Variable(key, "integrations", parse_bool, "One integration on or off.")
                integrations[key[len(_INSTRUMENT_PREFIX) :].lower()] = one.read(key, environ[key])
        for field, value in overrides.items():
            if value is not None:
                values[field] = value
                sources[field] = "argument"
        problems = _ask_platform(values, sources)
        return cls(**values, integrations=integrations, sources=sources, problems=tuple(problems))

    def instrumented(self, name: str) -> bool:
        """Whether the integration called ``name`` may be installed."""
        return self.integrations.get(name.lower(), self.instrument)

    @property
    def configured(self) -> bool:
        """Whether there is anything to do at all."""
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


def _ask_platform(values: dict[str, Any], sources: dict[str, str]) -> list[str]:
    from stardust_auto import platform_files

    problems: list[str] = []

    def accept(field: str, text: str, source: str) -> None:
        try:
            values[field] = _PLATFORM[field].read(source, text)
            sources[field] = source
        except SettingError as error:
            problems.append(str(error))

    return platform_files.complete(values, accept, discover=values.get("discover", False)) + problems


def program_name() -> str:
    """The application's default name: that of the script, module or console script that runs, at most 50 characters.

    A generic script name (``app.py``, ``main.py``, ``manage.py``, ``wsgi.py``, ``__main__.py``) says nothing, so the name of its
    folder is taken instead.
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
    return name[:_IDENTITY_LIMIT] or "python"
