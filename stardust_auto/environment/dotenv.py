"""``STARDUST_*`` variables from the ``.env`` file of the working directory.

Never put into ``os.environ``: the program and its children see the environment that they were given.
The form is that of ``python-dotenv``: ``export``, quotes, comments, ``${NAME}`` and ``${NAME:-default}``.
"""

from __future__ import annotations

import os

from stardust_auto.environment.platform_files import DOTENV, FileError, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

#: Asked before any file is read, so it counts in the environment only.
_IGNORED = "STARDUST_AUTO"


def read() -> tuple[Mapping[str, str], str]:
    """The ``STARDUST_*`` variables of the file, and one line about a file that cannot be used, or ``""``."""
    try:
        text = text_of(DOTENV)
    except FileError as error:
        return {}, f"{DOTENV} in the working directory is not used: {error}"
    return (parse(text) if "STARDUST_" in text else {}), ""


def parse(text: str) -> dict[str, str]:
    """The ``STARDUST_*`` variables in ``text``; of a name that stands there twice the last one."""
    import re

    line = re.compile(
        r"""^[^\S\n]*(?:export[^\S\n]+)?(\w+)[^\S\n]*=[^\S\n]*
            (?:'((?:[^'\\]|\\.)*)' | "((?:[^"\\]|\\.)*)" | ([^\n]*?))
            [^\S\n]*(?:(?<=\s)\#[^\n]*|(?<=['"])[^\S\n]*\#[^\n]*)?$""",
        re.MULTILINE | re.VERBOSE,
    )
    reference = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
    found: dict[str, str] = {}

    def expand(match: re.Match[str]) -> str:
        return os.environ.get(match[1]) or found.get(match[1]) or match[2] or ""

    for name, single, double, bare in line.findall(text):
        value = re.sub(r"\\([\\'])", r"\1", single)
        if double:
            value = re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1]), double)
        found[name] = reference.sub(expand, value or bare)
    return {name: value for name, value in found.items() if name.startswith("STARDUST_") and name != _IGNORED}
