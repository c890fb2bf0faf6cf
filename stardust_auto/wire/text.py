"""Exact values: a StarServer drops or cuts nothing that these functions return (protocol.md §12.2).

Limits count UTF-16 units, as the platform does: a character outside the basic plane counts twice.
"""

from __future__ import annotations

import math
import re
from typing import Final

#: SpanId, ParentId, TraceId, ClientId: a longer span id loses every sample of its builder.
ID_LIMIT: Final = 50
#: A builder with a longer name is dropped.
NAME_LIMIT: Final = 200
#: Tag and Error are cut there by the server.
TAG_LIMIT: Final = 2000

INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1
#: The last moment that a .NET ``DateTime`` can hold, in Unix milliseconds.
LAST_MOMENT_MS: Final = 253_402_300_799_999
_BROKEN: Final = re.compile("[\x00\ud800-\udfff]")
_DOTTED: Final = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,3}", re.ASCII)


def clean_text(value: object, limit: int) -> str:
    """``value`` as text without NUL and lone surrogates, at most ``limit`` UTF-16 units. Never raises."""
    if not isinstance(value, str):
        value = _as_text(value)
    if len(value) > limit:
        value = value[:limit]
    if value.isascii():
        return value.replace("\0", " ") if "\0" in value else value
    if _BROKEN.search(value):
        # A pair of surrogates is one character. Each lone one becomes U+FFFD.
        value = value.replace("\0", " ").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return cut_utf16(value, limit)


def cut_utf16(text: str, limit: int) -> str:
    """``text`` cut to ``limit`` UTF-16 units without splitting a character."""
    over = len(text) + sum(1 for char in text if char > "\uffff") - limit
    while over > 0:
        over -= 2 if text[-1] > "\uffff" else 1
        text = text[:-1]
    return text


def clean_id(value: object) -> str:
    """An id within the server's column, without ``#``, which separates the parts of its bus messages (§2.8)."""
    return clean_text(value, ID_LIMIT).replace("#", "-")


def integer(value: object, low: int, high: int) -> int:
    """``value`` as an integer within ``low`` and ``high``; a fraction is cut, anything but a number is 0. Never raises."""
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        number = int(value)
    else:
        return max(low, 0)
    return low if number < low else min(number, high)


def int32(value: object) -> int:
    """``value`` as an Int32."""
    return integer(value, -INT32_MAX - 1, INT32_MAX)


def int64(value: object) -> int:
    """``value`` as an Int64."""
    return integer(value, -INT64_MAX - 1, INT64_MAX)


def count(value: object) -> int:
    """``value`` as an Int32 that is not negative."""
    return integer(value, 0, INT32_MAX)


def amount(value: object) -> int:
    """``value`` as an Int64 that is not negative: times, sums."""
    return integer(value, 0, INT64_MAX)


def millis(value: object) -> int:
    """``value`` as Unix milliseconds that a .NET ``DateTime`` can hold."""
    return integer(value, 0, LAST_MOMENT_MS)


def dotted_version(value: object) -> str:
    """Two to four dotted integers, whatever an application calls its version.

    A StarServer parses it with .NET's ``Version`` and answers **every** ping with ``code`` 500 if that fails (§12.5).
    ``v1.2.3-rc1`` gives ``1.2.3``, ``7`` gives ``7.0``, a text without a number gives ``0.0.0``.
    """
    match = _DOTTED.search(clean_text(value, NAME_LIMIT)) if value is not None else None
    if match is None:
        return "0.0.0"
    parts = [str(int(part)) for part in match[0].split(".")]
    return ".".join(parts) if len(parts) > 1 else f"{parts[0]}.0"


def _as_text(value: object) -> str:
    if value is None:
        return ""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything; a report must not fail for it
        return f"<{type(value).__name__}>"
