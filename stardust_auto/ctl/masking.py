"""Which raw values are not shown: here no settings class says what is secret, so the key's name and the value's form decide."""

from __future__ import annotations

import re

MASK = "***"

_SECRET_NAME = re.compile(
    r"(?:^|[_-])pass$|passwd|password|passphrase|pwd|secret|token|credential|api[-_]?key|access[-_]?key|private[-_]?key|signing[-_]?key"
    r"|connection[-_]?str|dsn$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")
_PAIR = re.compile(r"(?i)\b(password|pwd|passwd|secret|token)(\s*=\s*)[^;&\s]+")


def masked(key: str, value: str | None) -> str | None:
    """The value as it may be shown; a key that sounds secret hides all of it, a password inside a value hides itself."""
    if not value:
        return value
    if any(_SECRET_NAME.search(part) for part in re.split(r"[:.]|__", key)):
        return MASK
    return _PAIR.sub(rf"\1\2{MASK}", _USER_INFO.sub(MASK, value))
