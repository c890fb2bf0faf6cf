"""``config watch``: what is published, as it happens, and what the program makes of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stardust_auto.ctl.center import Configuration, open_center
from stardust_auto.ctl.config_commands import compare, transition
from stardust_auto.ctl.effective import changed_leaves
from stardust_auto.ctl.errors import UnreachableError
from stardust_auto.ctl.output import complain, console, emit_json_line, plain, say
from stardust_auto.privacy import mask_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_settings import BaseSettings

    from stardust_auto.config.typed.builder import Reading
    from stardust_auto.ctl.settings_class import Program
    from stardust_auto.ctl.target import Target

Differences = dict[str, tuple[str | None, str | None]]


def watch_keys(target: Target, interval: float, changes: int | None, *, reveal: bool, json_output: bool) -> None:
    """Tell of each publication and its keys, until interrupted or ``changes`` of them were seen."""

    def mask(key: str, value: str | None) -> str | None:
        return value if reveal else mask_value(key, value)

    last: Configuration | None = None
    left = changes
    for configuration in _publications(target, interval):
        if last is None:
            _tell(configuration, "watching", "", {}, json_output=json_output)
        else:
            found = compare(last.values(), configuration.values(), show=mask)
            _tell(configuration, "published", "", found, json_output=json_output)
            left = left - 1 if left is not None else None
        last = configuration
        if left == 0:
            return


def watch_program(program: Program, interval: float, changes: int | None, *, json_output: bool) -> None:
    """Tell of each publication whether the settings class accepts it, and which settings it changes."""
    last: Reading[BaseSettings] | None = None
    for seen, configuration in enumerate(_publications(program.target, interval)):
        reading = program.read(program.raw(configuration))
        if reading.error is not None:
            _tell(configuration, "refused", reading.error.one_line(), {}, json_output=json_output)
        else:
            word = "watching" if seen == 0 else "accepted"
            found = changed_leaves(last, reading) if last is not None else {}
            _tell(configuration, word, "", found, json_output=json_output)
            last = reading
        if changes is not None and seen >= changes:
            return


def _publications(target: Target, interval: float) -> Iterator[Configuration]:
    """The configuration now, and again each time its version or its values have moved."""
    center = open_center(target)
    last: Configuration | None = None
    away = False
    with center.held():
        while True:
            try:
                found = center.read()
            except UnreachableError as exc:
                if last is None:
                    raise
                if not away:
                    complain(f"{exc}; waiting for it")
                away = True
            else:
                away = False
                if last is None or (found.version, found.values()) != (last.version, last.values()):
                    last = found
                    yield found
            time.sleep(interval)


def _tell(configuration: Configuration, outcome: str, reason: str, changes: Differences, *, json_output: bool) -> None:
    if json_output:
        emit_json_line(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "app": configuration.app,
                "version": configuration.version,
                "outcome": outcome,
                "reason": reason,
                "changes": {name: {"old": old, "new": new} for name, (old, new) in changes.items()},
            }
        )
        return
    colour = {"refused": "red", "accepted": "green"}.get(outcome, "")
    head = f"{time.strftime('%H:%M:%S')}  {configuration.app} v{configuration.version} {outcome}"
    say(f"{head}: {reason}" if reason else head, colour=colour)
    screen = console()
    for name, (old, new) in changes.items():
        screen.print("   ", plain(name), transition(old, new), markup=False, soft_wrap=True)
