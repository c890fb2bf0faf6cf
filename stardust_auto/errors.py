"""Every error that the library raises, in one tree.

::

    StardustError
    ├── ServerError                     no usable answer from a server
    │   ├── ApiError                    the server answered with an error code
    │   ├── UnavailableError            no answer: network, time-out, HTTP 429 or 5xx
    │   └── BadReplyError               something answered, but not with the platform's protocol
    ├── ConfigError                     settings and the configuration client
    │   ├── InvalidSettingsError        (also ValueError) the values do not make a valid settings object
    │   ├── ConfigUnavailableError      values of the center are required, and there are none in time
    │   └── SourceMissingError          (also TypeError) a settings class leaves the Stardust source out
    ├── EnvironmentVariableError        (also ValueError) a STARDUST_* variable or an argument cannot be used
    └── ctl.errors.CtlError             a command of stardustctl failed: one line, one exit code
        ├── UsageError                  the command line, a variable or the settings class cannot be used
        ├── UnreachableError            no server answers
        └── NotPermittedError           the server refuses the key or the credentials

The texts are written for people and never hold a secret or a token.
"""

from __future__ import annotations

__all__ = [
    "ApiError",
    "BadReplyError",
    "ConfigError",
    "ConfigUnavailableError",
    "EnvironmentVariableError",
    "InvalidSettingsError",
    "Problem",
    "ServerError",
    "SourceMissingError",
    "StardustError",
    "UnavailableError",
]


class StardustError(Exception):
    """Base of all errors of this library."""


class ServerError(StardustError):
    """Base of the errors of a call to a server."""


class ApiError(ServerError):
    """The server answered with a ``code`` other than 0 and 200 (protocol.md §1.2)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"code {self.code}: {self.message}" if self.message else f"code {self.code}"


class UnavailableError(ServerError):
    """No answer: network, time-out, HTTP 429 or 5xx, or the session waits before its next attempt.

    Attributes:
        may_have_arrived: the whole request had been sent, so the server may have carried it out.
        retry_after: seconds that the server asked to wait, or ``None``.
        status: HTTP status of the answer, or 0 without one.
    """

    def __init__(
        self, text: str, *, may_have_arrived: bool = False, retry_after: float | None = None, status: int = 0
    ) -> None:
        super().__init__(text)
        self.may_have_arrived = may_have_arrived
        self.retry_after = retry_after
        self.status = status


class BadReplyError(ServerError):
    """Something answered, but not with the platform's protocol: HTML, truncated JSON, a bare array, too much, HTTP 4xx.

    Attributes:
        may_have_arrived: the server may have carried out the request; not when a proxy answered in its place.
        status: HTTP status of the answer, or 0.
    """

    def __init__(self, text: str, *, may_have_arrived: bool = True, status: int = 0) -> None:
        super().__init__(text)
        self.may_have_arrived = may_have_arrived
        self.status = status


class Problem:
    """One reason why a settings object cannot be built. Immutable by convention; compares by value.

    Attributes:
        path: dotted path of the field; ``""`` for the whole object.
        code: pydantic's error type, such as ``"missing"`` or ``"int_parsing"``.
        message: what is allowed. Never the refused value.
        source: where the refused value comes from; ``""`` for a missing field.
        env: the environment variable that sets the field; ``""`` if there is none.
        key: the key of the center that sets the field; ``""`` if there is none.
    """

    __slots__ = ("code", "env", "key", "message", "path", "source")

    def __init__(self, path: str, code: str, message: str, source: str = "", env: str = "", key: str = "") -> None:
        self.path = path
        self.code = code
        self.message = message
        self.source = source
        self.env = env
        self.key = key

    def _values(self) -> tuple[str, ...]:
        return self.path, self.code, self.message, self.source, self.env, self.key

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Problem) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Problem{self._values()!r}"

    @property
    def missing(self) -> bool:
        """Whether no source provides a required field."""
        return self.code == "missing"

    def __str__(self) -> str:
        where = self.path or "settings"
        if self.missing:
            ways = [f"set {self.env}"] if self.env else []
            if self.key:
                ways.append(f'"{self.key}" in Stardust')
            return f"{where}: missing, {' or '.join(ways)}" if ways else f"{where}: missing"
        return f"{where} from {self.source}: {self.message}" if self.source else f"{where}: {self.message}"


class ConfigError(StardustError):
    """Base of the errors of typed settings and of the configuration client."""


class ConfigUnavailableError(ConfigError):
    """The policy requires values of the center, or of its copy on disk, and there are none in time."""


class InvalidSettingsError(ConfigError, ValueError):
    """The values do not make a valid settings object. ``problems`` lists all reasons, missing fields included."""

    def __init__(self, title: str, problems: tuple[Problem, ...], note: str = "") -> None:
        self.title = title
        self.problems = problems
        self.note = note
        super().__init__(title, problems, note)

    @property
    def missing(self) -> tuple[Problem, ...]:
        """The required fields that no source provides."""
        return tuple(problem for problem in self.problems if problem.missing)

    def one_line(self) -> str:
        """All problems on one line, for a log."""
        return "; ".join(" ".join(str(problem).split()) for problem in self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.title}: {count} {'problem' if count == 1 else 'problems'}"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.note:
            lines.append(f"  ({self.note})")
        return "\n".join(lines)


class SourceMissingError(ConfigError, TypeError):
    """A settings class overrides ``settings_customise_sources`` and leaves the Stardust source out."""


class EnvironmentVariableError(StardustError, ValueError):
    """A variable or an argument cannot be used. The text is one line: variable, value unless secret, what is allowed."""
