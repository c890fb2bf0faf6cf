"""Secrets on the wire: sent only as a salted hash (protocol.md §2.3)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

_HASHED: Final = re.compile(r"\$md5\$(\d{1,18})\$([0-9A-F]{32})")


def salted_md5(secret: str, salt: int) -> str:
    """The proof of ``secret`` for a login at ``salt`` (Unix seconds of the *server's* clock)."""
    return f"$md5${salt}${_md5(_md5(secret) + str(salt))}"


def verify_salted(proof: str, secret: str, now: float, tolerance: float = 600) -> bool:
    """Whether ``proof`` was made from ``secret`` at most ``tolerance`` seconds from ``now``; compared in constant time.

    For servers. A plain ``proof`` is taken too, as the protocol allows (protocol.md §2.3).
    """
    match = _HASHED.fullmatch(proof)
    if match is None:
        return hmac.compare_digest(_utf8(proof), _utf8(secret))
    salt = int(match[1])
    return abs(now - salt) <= tolerance and hmac.compare_digest(match[2], _md5(_md5(secret) + str(salt)))


def _md5(text: str) -> str:
    return hashlib.md5(_utf8(text), usedforsecurity=False).hexdigest().upper()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
