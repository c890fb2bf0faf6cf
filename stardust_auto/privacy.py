"""What is secret, and how it is masked: the one table that every room uses.

Only the standard library, and each expression is compiled when it is first needed: activation imports this module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

__all__ = ["MASK", "Secret", "is_secret_name", "mask_pairs", "scrub", "without_credentials"]

#: What stands in the place of a secret, in every text.
MASK = "***"

#: A name that contains one of these belongs to a secret. Case and separators (``-``, ``_``, blanks) do not count.
_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "connectionstring",
    "connstr",
)
#: A name that ends with one of these belongs to a secret, where the ending is a word of its own.
_LAST_WORDS = ("auth", "dsn", "pass", "pin", "otp", "salt")

_compiled: dict[str, re.Pattern[str]] = {}


def _expression(pattern: str) -> re.Pattern[str]:
    found = _compiled.get(pattern)
    if found is None:
        import re

        found = _compiled[pattern] = re.compile(pattern, re.IGNORECASE)
    return found


def is_secret_name(name: str) -> bool:
    """Whether a variable, field, key or header called ``name`` holds a secret, as far as a name can tell."""
    lowered = name.lower()
    flat = lowered.replace("_", "").replace("-", "").replace(" ", "")
    if any(word in flat for word in _WORDS):
        return True
    return _expression(r"(?:^|[^a-z])(?:" + "|".join(_LAST_WORDS) + r")$").search(lowered) is not None


def without_credentials(text: str) -> str:
    """``text`` with the user and password of every URL in it masked: ``redis://***@host``."""
    if "://" not in text:
        return text
    return _expression(r"(?<=://)[^/?#\s'\"]+@").sub(MASK + "@", text)


def mask_pairs(text: str) -> str:
    """``text`` with the value of every ``password=...`` or ``token: ...`` masked, and the credentials of its URLs."""
    names = "|".join(_WORDS).replace("key", "[_-]?key").replace("connectionstring", "connection[_-]?string")
    pattern = (
        r"\b([\w-]{0,40}(?:" + names + r")[\w-]{0,40}['\"]?\s*[=:]\s*)"
        r"((?:bearer|basic|digest)\s+)?('[^']*'|\"[^\"]*\"|[^\s,;&)\]}]+)"
    )
    return _expression(pattern).sub(r"\1" + MASK, without_credentials(text))


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
        if not isinstance(other, Secret):
            return False
        import hmac

        return hmac.compare_digest(self._value.encode("utf-8", "replace"), other._value.encode("utf-8", "replace"))

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled or copied")


def scrub(text: str, secrets: Iterable[Secret | None]) -> str:
    """``text`` with every occurrence of one of ``secrets`` masked: a hostile server may quote them back."""
    for secret in secrets:
        if secret and len(value := secret.reveal()) > 3:
            text = text.replace(value, MASK)
    return text
