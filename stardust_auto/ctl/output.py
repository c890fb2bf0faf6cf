"""How results are shown: tables and short lines for people, one JSON document for programs.

Everything that came over the network is printed as plain text: rich markup in a value is never interpreted, and control
characters (a terminal escape in a tag, say) are shown, not obeyed.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

#: Width of tables that go to a file or a pipe, where there is no terminal to ask.
PIPE_WIDTH = 160

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def plain(value: object) -> str:
    """One line of text that a terminal shows as it is."""
    return str(value).translate(_CONTROLS)


def console() -> Console:
    """A console on the standard output of this moment. Rich comes with the extra ``local``; :func:`say` does without."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, soft_wrap=False)
    return Console(highlight=False, width=PIPE_WIDTH)


def say(text: str, *, colour: str = "") -> None:
    """One line on standard output; long lines are not folded, so that they can be searched and cut."""
    sys.stdout.write(painted(plain(text), colour) + "\n")


def painted(text: str, colour: str) -> str:
    """``text`` in a colour, if the output is a terminal that wants colours."""
    if not colour or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


_COLOURS = {"green": "32", "yellow": "33", "red": "31", "bold red": "1;31", "bold green": "1;32", "dim": "2"}


def complain(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"stardustctl: {plain(text)}\n")
    sys.stderr.flush()


def emit_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
    sys.stdout.flush()


def emit_json_line(value: object) -> None:
    """One line of JSON, for streams (``watch``)."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


Column = str | tuple[str, Literal["left", "right"]]


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, cut: Sequence[str] = ()) -> None:
    """A table without frames; a cell that is already a ``Text`` keeps its style. Columns in ``cut`` stay on one line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        if isinstance(column, str):
            shortened = column in cut
            table.add_column(column, overflow="ellipsis" if shortened else "fold", no_wrap=shortened)
        else:
            table.add_column(column[0], justify=column[1], overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    console().print(table)


def clock(milliseconds: object) -> str:
    """Local wall-clock time of a UTC time in ms, as the platform sends them; empty for none."""
    if not isinstance(milliseconds, (int, float)) or milliseconds <= 0:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(milliseconds: object) -> str:
    """A length of time in ms, short: ``7 ms``, ``1.25 s``."""
    if not isinstance(milliseconds, (int, float)):
        return ""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    if milliseconds % 1 == 0:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 key``, ``2 keys``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def cells(text: str) -> int:
    """Columns of a terminal that ``text`` takes: two for the wide characters of East Asia."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def fit(text: str, size: int) -> str:
    """``text`` in exactly ``size`` columns, cut in its middle if it is too long."""
    while cells(text) > size:
        half = max((size - 3) // 2, 1)
        text = f"{text[:half]}...{text[len(text) - half :]}" if len(text) > 2 * half + 3 else text[:-1]
    return text + " " * (size - cells(text))
