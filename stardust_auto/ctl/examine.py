"""What a settings class says of the values that the center holds, without starting the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.config.live.state import static_changes
from stardust_auto.ctl import lint
from stardust_auto.ctl.errors import CtlError
from stardust_auto.errors import InvalidSettingsError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from stardust_auto.config.typed.builder import Built
    from stardust_auto.ctl.center import Configuration
    from stardust_auto.ctl.settings_class import Program


def require_valid(program: Program, configuration: Configuration, *, staged: bool) -> None:
    """Stop a publish that the program would refuse.

    Raises:
        CtlError: it would; all reasons, none with a value.
    """
    found, _ = examine(program, configuration, staged=staged)
    if found:
        raise CtlError("not published, the program would refuse it: " + "; ".join(found))


def examine(program: Program, configuration: Configuration, *, staged: bool) -> tuple[list[str], list[str]]:
    """Errors and warnings of the program's class against what the center holds."""
    found = list(lint.errors(program.settings))
    if staged and configuration.staged_problem:
        return [*found, f"nothing can be published: {configuration.staged_problem}"], []
    raw = program.raw(configuration, staged=staged)
    hints = list(lint.warnings(program.settings, raw))
    try:
        built = program.build(raw)
    except InvalidSettingsError as exc:
        found += [" ".join(str(problem).split()) for problem in exc.problems]
    else:
        hints += lint.ignored(built.layers)
        if staged:
            hints += _restarts(program, configuration, built)
    return found, hints


def _restarts(program: Program, configuration: Configuration, built: Built[BaseSettings]) -> list[str]:
    """Fields marked ``Static`` that publishing would change: the running program keeps its value until it is restarted."""
    try:
        before = program.build(program.raw(configuration))
    except InvalidSettingsError:
        return []
    return [f"{node.dotted}: takes effect after a restart" for node in static_changes(before, built)]
