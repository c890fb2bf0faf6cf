"""How one environment variable is found and read, and what its text may be."""

from __future__ import annotations

from stardust_auto.errors import EnvironmentVariableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_TRUE = frozenset(("1", "true", "yes", "on", "y", "t"))
_FALSE = frozenset(("0", "false", "no", "off", "n", "f"))
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
#: The server stores identities in columns of 50 characters, and ``#`` separates the parts of its bus messages.
IDENTITY_LIMIT = 50
#: Characters of a refused value in an error text.
_SHOWN = 200


class Variable:
    """One documented variable: its names, its type, its default and its meaning."""

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
        """The name that is set, as it is spelled, and its value. An empty value counts as not set."""
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
        """``value`` as this variable's type.

        Raises:
            EnvironmentVariableError: the value cannot be used. The text names the ``spelling``.
        """
        try:
            return self.parse(value)
        except ValueError as error:
            # Budget: a process whose variables are right does not load the table of secrets.
            from stardust_auto.privacy import without_credentials

            shown = "(a secret, not shown)" if self.secret else repr(without_credentials(value)[:_SHOWN])
            raise EnvironmentVariableError(f"{spelling}={shown} cannot be used: {error}") from None


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
    if len(value) > IDENTITY_LIMIT or "#" in value or not value.isprintable():
        raise ValueError(f"at most {IDENTITY_LIMIT} printable characters without '#'")
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
