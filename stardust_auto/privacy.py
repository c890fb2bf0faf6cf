"""What is secret, and how it is masked: the one table that every room uses.

Activation imports this module, so it imports nothing, and each expression is compiled on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence
    from typing import Final

__all__ = [
    "MASK",
    "Secret",
    "is_secret_name",
    "mask_command_line",
    "mask_text",
    "mask_value",
    "scrub",
    "without_credentials",
]

#: What stands in the place of a secret, in every text.
MASK: Final = "***"

#: A name that contains one of these belongs to a secret. Case does not count; a blank stands for ``-``, ``_``, a blank or nothing.
_ANYWHERE: Final = (
    "password", "passwd", "passwort", "passphrase", "passcode", "pwd", "db pass", "user pass",
    "secret", "token", "credential", "authorization", "cookie", "signature", "bearer", "jwt",
    "session id", "sess id", "csrf", "xsrf",
    "api key", "app key", "access key", "account key", "shared key", "private key",
    "signing key", "encryption key", "master key", "ssh key",
    "connection string", "conn str",
    "密码", "口令", "密钥", "秘钥", "令牌", "凭证", "凭据",
)  # fmt: skip
#: A name belongs to a secret, too, if its last word is one of these.
_LAST_WORDS: Final = ("pass", "pin", "otp", "sig", "salt", "cvv", "cvc")
#: A name belongs to a secret, too, if it ends with one of these.
_ENDINGS: Final = ("auth", "dsn")
#: Command lines are shown to everybody at the platform and nobody needs the value of ``--key``.
_ARGUMENT_WORDS: Final = ("key", "auth")

_flat_words: tuple[str, ...] = ()


def is_secret_name(name: str) -> bool:
    """Whether a variable, field, key or header called ``name`` holds a secret, as far as a name can tell."""
    global _flat_words
    if not _flat_words:
        _flat_words = tuple(word.replace(" ", "") for word in _ANYWHERE)
    lowered = name.lower()
    flat = lowered.replace("_", "").replace("-", "").replace(" ", "")
    return any(word in flat for word in _flat_words) or lowered.endswith(_ENDINGS) or _last_word(name) in _LAST_WORDS


def _last_word(name: str) -> str:
    """``pass`` of ``db_pass``, ``dbPass``, ``db:pass`` and ``DB_PASS``."""
    start = len(name)
    while start and name[start - 1].isalpha():
        start -= 1
        if name[start].isupper() and name[start:] != name[start:].upper():
            break
    return name[start:].lower()


def without_credentials(text: str) -> str:
    """``text`` with the user and password of every URL in it masked: ``redis://***@host``.

    A password may contain ``@``, and also ``/``, ``?`` and ``#`` if what follows the user's colon is not a port.
    """
    if "://" not in text:
        return text
    return _expressions()[0].sub(f"{MASK}@", text)


def mask_text(text: str) -> str:
    """``text`` with its secrets masked, as far as their form tells: ``password=***``, ``Authorization: ***``, ``redis://***@host``.

    Masked are values behind a secret name, credentials of URLs, values of secret options of a command line, and the usual forms of tokens.
    """
    text = without_credentials(text)
    for expression in _expressions()[1:]:
        text = expression.sub(lambda match: (match[1] or "") + MASK, text)
    return text


_compiled: tuple[re.Pattern[str], ...] = ()


def _expressions() -> tuple[re.Pattern[str], ...]:
    """First the credentials of URLs, then the forms of secrets. Group 1, if there is one, is what stays."""
    global _compiled
    if _compiled:
        return _compiled
    import re

    names = "|".join(_ANYWHERE).replace(" ", "[ _-]?")
    last_words = "|".join((*_LAST_WORDS, *_ENDINGS))
    equals = r"['\"]?\s{0,9}(?:=|:(?!//)|\uff1a)\s{0,9}(?!\*\*\*)"
    # Quoted, perhaps behind the name of a class, or up to a blank, ";" or "&".
    value = r"(?:\w{0,20}\(?'(?:[^'\\]|\\.)*'?|\w{0,20}\(?\"(?:[^\"\\]|\\.)*\"?|[^\s;&]+)"
    forms = (
        r"(?<=://)(?:[^/?#\s'\"<>]{0,300}@|[^/?#\s'\"@:\[]{1,100}:(?!\d{0,6}(?:[/?#\s'\"]|$))[^\s'\"]{0,300}@)()",
        r"()-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,30}-----|\Z)",
        # JSON Web Token; keys of AWS, GitHub, Slack, OpenAI
        r"()\b(?:eyJ[\w-]{8,}\.[\w.-]+|(?:AKIA|ASIA)[0-9A-Z]{16}\b|(?:gh[opsur]|xox[abprs]|sk)[_-][\w-]{16,})",
        # headers of several parts: up to the closing quote, or to the end of the line
        rf"((?:cookie|authorization){equals})(?:'[^'\n]*'?|\"[^\"\n]*\"?|[^\n]+)",
        r"\b((?:bearer|basic|digest)\s{1,9})(?=\S*[\d=])[\w.~+/=-]{6,}",
        rf"((?:{names})[\w-]{{0,40}}{equals}){value}",
        rf"((?<![a-z])(?:{last_words})(?:['\"]\s{{0,9}}[=:]|\s{{0,9}}=)\s{{0,9}}(?!\*\*\*)){value}",
        rf"(--[\w-]{{0,40}}(?:{names})[\w-]{{0,40}}['\"]?,?\s{{1,9}})(?!-|['\"]-){value}",
    )
    _compiled = tuple(re.compile(form, re.IGNORECASE) for form in forms)
    return _compiled


def mask_value(name: str, value: str | None) -> str | None:
    """``value`` of ``name`` as it may be shown: masked as a whole if the name is secret, else as :func:`mask_text` does."""
    if not value:
        return value
    return MASK if is_secret_name(name) else mask_text(value)


def mask_command_line(arguments: Sequence[str]) -> str:
    """A command line in one text, with every value masked that could be secret."""
    shown: list[str] = []
    mask_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = (equals or argument.startswith("-")) and (is_secret_name(name) or _last_word(name) in _ARGUMENT_WORDS)
        if mask_next and not argument.startswith("-"):
            shown.append(MASK)
        elif secret and equals:
            shown.append(f"{name}={MASK}")
        else:
            shown.append(mask_text(argument))
        mask_next = bool(secret) and not equals
    return " ".join(shown)


def scrub(text: str, secrets: Iterable[Secret | None]) -> str:
    """``text`` with every occurrence of one of ``secrets`` masked: a hostile server may quote them back."""
    for secret in secrets:
        if secret and len(value := secret.reveal()) > 3:
            text = text.replace(value, MASK)
    return text


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
