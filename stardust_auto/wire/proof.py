"""The proof of a secret: a login carries a salted hash, never the secret (protocol.md §2.3)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

_HASHED: Final = re.compile(r"\$md5\$(\d{1,18})\$([0-9A-F]{32})", re.ASCII)
#: A server takes a proof whose salt is at most this far from its own clock, in seconds.
SALT_SECONDS: Final = 600


def md5_hex(text: str) -> str:
    """32 upper-case hex digits of the UTF-8 bytes; what a server keeps of a secret."""
    return hashlib.md5(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest().upper()


def salted_md5(secret: str, salt: int) -> str:
    """The proof of ``secret`` for a login at ``salt`` (Unix seconds of the *server's* clock)."""
    return f"$md5${salt}${md5_hex(md5_hex(secret) + str(salt))}"


def proves(given: str, stored_md5: str, now: float, tolerance: float = SALT_SECONDS) -> bool:
    """Whether ``given``, a proof or the secret itself, belongs to the secret of ``stored_md5``; in constant time.

    The hash of a proof is compared in upper case only, as a StarServer compares it.
    """
    if not given.startswith("$"):
        return hmac.compare_digest(md5_hex(given), stored_md5)
    match = _HASHED.fullmatch(given)
    if match is None:
        return False
    same = hmac.compare_digest(match[2], md5_hex(stored_md5 + match[1]))
    return abs(now - int(match[1])) <= tolerance and same
