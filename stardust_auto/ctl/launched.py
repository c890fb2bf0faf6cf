"""What a command line starts: which interpreter, with which flags, under which of our launcher's options.

Only looked at, never run.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stardust_auto.activation import launcher
from stardust_auto.ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PYTHON = re.compile(r"(python|pypy)[\d.]*$")
_VALUE_OPTIONS = "WX"


@dataclass(frozen=True, slots=True)
class Launched:
    """A command as the system would start it. ``interpreter`` is None if that is not a Python."""

    program: str
    interpreter: str | None
    flags: tuple[str, ...] = ()
    script: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    starts: str = ""


def examine(command: Sequence[str]) -> Launched:
    """Follow ``command`` to its interpreter; a leading ``stardust-auto`` and its options are looked through.

    Raises:
        UsageError: there is no such command, or it cannot be executed.
    """
    variables: dict[str, str] = {}
    words = list(command)
    if os.path.basename(words[0]) == "stardust-auto":
        try:
            variables, _, words = launcher.parse(words[1:])
        except launcher.LaunchError as exc:
            raise UsageError(f"stardust-auto: {exc}") from None
        if not words:
            raise UsageError("stardust-auto has no command to start")
    program = find(words[0])
    if _PYTHON.match(os.path.basename(program)):
        flags, script = split_flags(words[1:])
        return Launched(program, program, flags, script, variables)
    interpreter, line_flags = shebang(program)
    if interpreter is None or not _PYTHON.match(os.path.basename(interpreter)):
        return Launched(program, None, variables=variables, starts=interpreter or program)
    return Launched(program, interpreter, line_flags, program, variables)


def find(name: str) -> str:
    """The file that runs for ``name``, as a shell finds it."""
    try:
        return launcher.find_program(name, os.environ.get("PATH", os.defpath))
    except launcher.LaunchError as exc:
        raise UsageError(str(exc)) from None


def split_flags(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The interpreter's own options, and the script, module or nothing that it runs."""
    flags: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word.startswith("--"):
            flags.append(word)
            if word == "--check-hash-based-pycs" and rest:
                flags.append(rest.pop(0))
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter in "cm":
                if place > 1:
                    flags.append(word[:place])
                named = word[place + 1 :] or (rest[0] if rest else "")
                return tuple(flags), named if letter == "m" else "-c"
            if letter in _VALUE_OPTIONS:
                flags.append(word)
                if place == len(word) - 1 and rest:
                    flags.append(rest.pop(0))
                break
        else:
            flags.append(word)
    return tuple(flags), rest[0] if rest else ""


def shebang(path: str) -> tuple[str | None, tuple[str, ...]]:
    """The interpreter line of a script: the program and its options; (None, ()) for a binary.

    Understands ``/usr/bin/env [-S] python`` and the two-line form that installers write for long paths.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read(1024).decode("utf-8", "replace").splitlines()
    except OSError:
        return None, ()
    if not lines or not lines[0].startswith("#!"):
        return None, ()
    words = lines[0][2:].split()
    if words and os.path.basename(words[0]) == "sh" and len(lines) > 1:
        long_form = re.match(r"'''exec'\s+\"?([^\"]+?)\"?\s+\"\$0\"", lines[1])
        if long_form:
            return long_form[1], ()
    if words and os.path.basename(words[0]) == "env":
        del words[0]
        while words and (words[0].startswith("-") or "=" in words[0]):
            del words[0]
        words[:1] = [find(words[0])] if words else []
    if not words:
        return None, ()
    return words[0], split_flags(words[1:])[0]
