"""Secrets: kept out of every text, sent only as a salted hash (protocol.md §2.3)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "***"
_HASHED: Final = re.compile(r"\$md5\$(\d{1,18})\$([0-9A-F]{32})")


class Secret:
    """Text that shows itself as ``***`` wherever it could be printed, logged or pickled into a report."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(_utf8(self._value), _utf8(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled or copied")


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


def scrub(text: str, secrets: Iterable[Secret | None]) -> str:
    """``text`` with every occurrence of one of ``secrets`` masked: a hostile server may quote them back."""
    for secret in secrets:
        if secret and len(value := secret.reveal()) > 3:
            text = text.replace(value, MASK)
    return text


def _md5(text: str) -> str:
    return hashlib.md5(_utf8(text), usedforsecurity=False).hexdigest().upper()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
