"""What can go wrong with settings. No text of these errors ever holds a secret value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a settings class could not be built.

    ``path`` is the dotted field path, ``code`` pydantic's error type, ``message`` what is allowed. ``source`` says where the
    refused value came from ("" for a missing field), ``env`` and ``key`` name the variable and the remote key that set the field.
    """

    path: str
    code: str
    message: str
    source: str = ""
    env: str = ""
    key: str = ""

    @property
    def missing(self) -> bool:
        return self.code == "missing"

    def __str__(self) -> str:
        where = self.path or "settings"
        if self.missing:
            ways = [f"set {self.env}"] if self.env else []
            if self.key:
                ways.append(f'"{self.key}" in Stardust')
            return f"{where}: missing, {' or '.join(ways)}" if ways else f"{where}: missing"
        return f"{where} from {self.source}: {self.message}" if self.source else f"{where}: {self.message}"


class ConfigError(Exception):
    """Base of the errors of typed settings and of the configuration client."""


class ConfigUnavailable(ConfigError):  # noqa: N818 - a state of the center, as protocol.Unavailable
    """The policy asks for values of the center (or of its disk copy) and there are none in time."""


class InvalidSettings(ConfigError, ValueError):  # noqa: N818 - reads as what it says
    """The values at hand do not make a valid settings object. ``problems`` lists all of them, missing fields included."""

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
        return "; ".join(" ".join(str(problem).split()) for problem in self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.title}: {count} {'problem' if count == 1 else 'problems'}"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.note:
            lines.append(f"  ({self.note})")
        return "\n".join(lines)


class SourceMissing(ConfigError, TypeError):  # noqa: N818 - reads as what it says
    """A settings class overrides ``settings_customise_sources`` and leaves the Stardust source out."""
