"""Wildcards of the platform: ``*`` is any run of characters, ``?`` one, and a pattern covers the whole text (protocol.md §5.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def compile_wildcards(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test for "one of ``patterns`` covers the whole text", ignoring case."""
    import re

    parts = [
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
        for pattern in patterns
        if pattern
    ]
    if not parts:
        return lambda _text: False
    match = re.compile("|".join(f"(?:{part})" for part in parts), re.IGNORECASE | re.DOTALL).fullmatch
    return lambda text: match(text) is not None
