"""Wildcards of the platform: ``*`` is any run of characters, ``?`` is one (protocol.md §5.7).

A pattern covers the whole text and ignores case. An empty pattern covers nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def compile_wildcards(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test for "one of ``patterns`` covers the whole text"."""
    import re

    parts = ["".join(map(_part, re.sub(r"\*+", "*", pattern))) for pattern in patterns if pattern]
    if not parts:
        return lambda _text: False
    match = re.compile("|".join(f"(?:{part})" for part in parts), re.IGNORECASE | re.DOTALL).fullmatch
    return lambda text: match(text) is not None


def _part(character: str) -> str:
    import re

    return ".*" if character == "*" else "." if character == "?" else re.escape(character)


@lru_cache(maxsize=512)
def _compiled(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    return compile_wildcards(patterns)


def matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether one of ``patterns`` covers ``text``; compiled lists are kept."""
    return _compiled(patterns)(text)
