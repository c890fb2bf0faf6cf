"""What may leave the process: text without literals, credentials, query values and secrets. Bounded in time for any input.

``docs/privacy.md`` says what is sent and what is not, row by row; a test makes and checks it.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from stardust_auto.privacy import MASK, mask_text, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

#: Longer text is cut before it is looked at; the server stores 2000 characters (protocol.md §3.1).
_TEXT_LIMIT = 4000
_FRAMES = 20

_SQL_TOKEN = re.compile(
    r"""
      --[^\n]*                                              # a comment may hold anything
    | /\*.*?(?:\*/|\Z)
    | (?:(?<=\s)|\A)\#[^>\-\n][^\n]*                        # MySQL's comment
    | [nN]?[qQ]'(?:\[.*?(?:\]'|\Z)|\{.*?(?:\}'|\Z)|\(.*?(?:\)'|\Z)|<.*?(?:>'|\Z)|(?P<quote>[^\s\w]).*?(?:(?P=quote)'|\Z))  # Oracle's
    | [xXbBnNeE]?'(?:[^']|'')*(?:'|\Z)                      # text, blob, bits
    | \$(?P<dollar>\w*)\$.*?(?:\$(?P=dollar)\$|\Z)          # PostgreSQL's quoting
    | "(?:[^"]|"")*(?:"|\Z)                                 # a name; in SQLite and MySQL also text
    | `[^`]*(?:`|\Z)
    | \[[^\]\s]*\]
    | [^\W\d][\w$]*                                         # words keep their digits
    | [:@?$]\w+                                             # parameters
    | 0[xX][0-9a-fA-F]+
    | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?
    | [^\s\w]                                               # punctuation
    """,
    re.VERBOSE | re.DOTALL,
)
_SQL_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)*\s*\)(?:\s*,\s*\(\s*\?(?:\s*,\s*\?)*\s*\))*")
_SQL_SPACE = re.compile(r"\s+")
_PLAIN_NAME = re.compile(r"[\"`\[][^\W\d][\w$]*[\"`\]]")
#: A quoted word is a name behind one of these.
_NAME_FOLLOWS = {
    *(
        "INTO",
        "UPDATE",
        "JOIN",
        "TABLE",
        "INDEX",
        "VIEW",
        "TRIGGER",
        "EXISTS",
        "ONLY",
        "AS",
        "REFERENCES",
        "CONSTRAINT",
    ),
    *("COLUMN", "SAVEPOINT", "RELEASE", "TO", "TRUNCATE"),
}
#: Pragmas of encrypted databases whose value is the key.
_KEY_PRAGMA = re.compile(r"\w*key|cipher\w*|kdf\w*|activate\w*", re.IGNORECASE)


def redact_sql(sql: str) -> str:
    """``sql`` without literals and comments: every value is ``?``, lists of values are one ``(?)`` (S29).

    A word in double quotes is a name in standard SQL, and may be text in SQLite and MySQL. It stays where only a name can stand: next to a
    dot, behind ``FROM`` or ``INTO``, in the columns of an ``INSERT``, to the left of ``=`` in ``SET``. Elsewhere it is ``?``.
    """
    text = sql[:_TEXT_LIMIT]
    parts: list[str] = []
    place = _SqlPlace()
    last = 0
    for match in _SQL_TOKEN.finditer(text):
        token = match.group()
        parts.append(text[last : match.start()])
        last = match.end()
        first = token[0]
        if token.startswith(("--", "/*")) or (first == "#" and len(token) > 1):
            parts.append(" ")
            continue
        if "'" in token or first == '"' or (first == "$" and "$" in token[1:]):
            is_name = (
                first == '"' and _PLAIN_NAME.fullmatch(token) and place.takes_name(text[last : last + 20].lstrip()[:1])
            )
            parts.append(token if is_name else "?")
            if "\\" in token:
                # Whether a backslash escapes the quote depends on the database: nothing after it can be told apart.
                parts.append(" ...")
                last = len(text)
                break
        elif first.isdigit() or (first == "." and len(token) > 1):
            parts.append("?")
        elif first in "`[" and len(token) > 1:
            parts.append(token if _PLAIN_NAME.fullmatch(token) else "?")
        else:
            parts.append("?" if place.takes_secret() and (first.isalpha() or first == "_") else token)
        place.step(token)
    parts.append(text[last:])
    out = _SQL_SPACE.sub(" ", "".join(parts)).strip()
    return _SQL_LIST.sub("(?)", out)


class _SqlPlace:
    """Where a statement has been read to, as far as it matters for a quoted word that follows."""

    __slots__ = ("before", "columns", "depth", "last", "reads", "verb")

    def __init__(self) -> None:
        #: First word of the statement, and the last two tokens, in upper case.
        self.verb = self.before = self.last = ""
        #: Depth of parentheses, and for each whether a SELECT or DELETE stands in it: its FROM is followed by a table.
        self.depth = 0
        self.reads = [False]
        #: 1 behind INTO, 2 behind the table, 3 inside the list of columns.
        self.columns = 0

    def step(self, piece: str) -> None:
        """Go behind ``piece``."""
        word = piece.upper()
        if piece == "(":
            self.depth += 1
            self.reads.append(False)
            self.columns = 3 if self.columns == 2 else 0
        elif piece == ")":
            self.depth = max(self.depth - 1, 0)
            if len(self.reads) > 1:
                self.reads.pop()
            self.columns = 0
        elif piece == ";":
            self.__init__()  # type: ignore[misc] # the next statement begins
            return
        elif word == "INTO":
            self.columns = 1
        elif self.columns in (1, 2) and piece != ".":
            self.columns = 2 if self.columns == 1 or self.last == "." else 0
        if word in ("SELECT", "DELETE"):
            self.reads[-1] = True
        elif word in ("SET", "WHERE", "RETURNING") and self.depth == 0:
            self.verb = word
        self.verb = self.verb or word
        self.before, self.last = self.last, word

    def takes_name(self, following: str) -> bool:
        """Whether a quoted word here is a name. ``following``: the next character that is no blank."""
        if "." in (self.last, following) or self.last in _NAME_FOLLOWS or self.columns == 3:
            return True
        if self.last == "FROM":
            return self.reads[-1] and self.before != "DISTINCT"
        return following == "=" and self.verb == "SET" and self.depth == 0 and self.last in ("SET", ",")

    def takes_secret(self) -> bool:
        """Whether a bare word here is a secret: the key of an encrypted database, a password of Oracle."""
        if self.verb == "PRAGMA":
            return self.last in ("=", "(") and _KEY_PRAGMA.fullmatch(self.before) is not None
        return (self.verb == "ATTACH" and self.last == "KEY") or (self.last == "BY" and self.before == "IDENTIFIED")


_PATH_PARAMETER = re.compile(r";([^=;/]{0,100})=[^;/]*")


def redact_url(url: str) -> str:
    """``url`` without credentials and fragment; the keys of the query stay, its values become ``?`` (R26)."""
    text = without_credentials(url[:_TEXT_LIMIT]).replace(f"://{MASK}@", "://", 1).partition("#")[0]
    head, question, query = text.partition("?")
    if ";" in head:
        head = _PATH_PARAMETER.sub(r";\1=?", head)
    return head + (question + redact_query(query) if query else "")


def redact_query(query: str) -> str:
    """``a=1&token=x`` as ``a=?&token=?``; a part without ``=`` is a value and becomes ``?``."""
    return "&".join(
        f"{key}=?" if equals else "?" for key, equals, _ in (part.partition("=") for part in query.split("&") if part)
    )


def redact_text(text: str) -> str:
    """Free text, such as an exception's message, without credentials, query values, secrets, and what libraries quote of SQL and values."""
    text = text[:_TEXT_LIMIT]
    for expression, replacement in _quotations():
        text = expression.sub(replacement, text)
    if "?" in text or ";" in text:
        text = _WORD.sub(_redacted_word, text)
    return mask_text(text)


@functools.lru_cache(maxsize=1)
def _quotations() -> tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]:
    """Messages of libraries and databases that quote a command, a statement or values, and what stays of them."""

    def statement(match: re.Match[str]) -> str:
        return match[1] + redact_sql(match[2])

    return tuple(
        (re.compile(pattern), replacement)
        for pattern, replacement in (
            # redis-py, for a command in a pipeline; Redis, for a command that it does not know
            (r"(Command # \d+ \(\S{0,40})[\s\S]*?(\) of pipeline caused error|\Z)", r"\1 ...\2"),
            (r"(with args beginning with:)[\s\S]*", r"\1 ..."),
            # SQLAlchemy
            (r"(\[parameters: )[\s\S]*?(\](?=\s*(?:\n|\(Background|\Z))|\Z)", rf"\1{MASK}\2"),
            (r"(\[SQL: )([\s\S]*?)(?=\]\s*(?:\n|\(Background|\Z)|\Z)", statement),
            # PostgreSQL
            (r"(Key \([^)]{0,200}\)=\()[\s\S]*?(\) (?:already|is not|is still|conflicts)|\Z)", rf"\1{MASK}\2"),
            (r"(Failing row contains \()[\s\S]*", rf"\1{MASK})"),
            (r"(invalid input (?:syntax|value) for [^:\n]{1,80}: )\"[\s\S]*?(?:\"(?=\s*(?:\n|\Z))|\Z)", r'\1"?"'),
            (r'(value )"[^\n]*?"(?= is out of range)', r'\1"?"'),
            (r"(LINE \d+: )([^\n]*)", statement),
            # MySQL
            (r"(Duplicate entry )'[\s\S]*?(?:'(?= for key)|\Z)", r"\1'?'"),
            (r"((?:Truncated i|I)ncorrect \w+ value: )'[\s\S]*?(?:'(?= for|[\")]|\Z)|\Z)", r"\1'?'"),
            (r"(syntax to use near )'[\s\S]*?(?:'(?= at line)|\Z)", r"\1'?'"),
            # SQLite
            (r'(unrecognized token: )"[\s\S]*', r'\1"?"'),
            (r'(near )"(?![A-Za-z_]{1,40}"|[,();=]")[^\n]*?(?:"(?=: syntax error)|\Z)', r'\1"?"'),
        )
    )


_WORD = re.compile(r"\S+")


def _redacted_word(match: re.Match[str]) -> str:
    """A word that looks like a URL, or the path of one, redacted as :func:`redact_url` does."""
    word = match.group()
    head, question, query = word.partition("?")
    if "/" in head and ";" in head:
        head = _PATH_PARAMETER.sub(r";\1=?", head)
    if query and ("/" in head or "=" in query):
        kept = query.rstrip("'\")]}>.,;:")
        query = redact_query(kept) + query[len(kept) :]
    return f"{head}{question}{query}"


def error_text(error: BaseException | str, *, stack: bool = True) -> str:
    """Type, message and stack of ``error``: file, line and function of each frame, never source text or values.

    An exception whose ``__str__`` fails is shown by its type alone.
    """
    if isinstance(error, str):
        return redact_text(error) or "error"
    name = type(error).__qualname__
    try:
        message = redact_text(str(error))
    except Exception as fault:  # noqa: BLE001 - the application's __str__ may do anything
        message = f"(its text cannot be shown: {type(fault).__qualname__})"
    head = f"{name}: {message}" if message else name
    if not stack or error.__traceback__ is None:
        return head
    return "\r\n".join((head, *_frames(error.__traceback__)))


def _frames(traceback: TracebackType) -> list[str]:
    lines: list[str] = []
    here: TracebackType | None = traceback
    while here is not None and len(lines) < 200:
        code = here.tb_frame.f_code
        if here.tb_frame.f_globals.get("__name__", "").partition(".")[0] != "stardust_auto":
            lines.append(f"  at {code.co_name} in {code.co_filename}:{here.tb_lineno}")
        here = here.tb_next
    lines.reverse()
    return lines[:_FRAMES]
