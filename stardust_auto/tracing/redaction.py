"""What may leave the process: text without literals, credentials, query values and secrets. Bounded in time for any input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stardust_auto.privacy import mask_text

if TYPE_CHECKING:
    from types import TracebackType

#: Longer text is cut before it is looked at; what the server stores is 2000 characters (protocol.md §3.1).
_TEXT_LIMIT = 4000
_FRAMES = 20

_SQL_TOKEN = re.compile(
    r"""
      --[^\n]*                                              # a comment may hold anything
    | /\*.*?(?:\*/|\Z)
    | [xXbBnNeE]?'(?:[^']|'')*(?:'|\Z)                      # text, blob, bits
    | \$(?P<dollar>\w*)\$.*?(?:\$(?P=dollar)\$|\Z)          # PostgreSQL's quoting
    | "(?:[^"]|"")*(?:"|\Z)                                 # a name, or text where a value stands
    | `[^`]*(?:`|\Z)
    | \[[^\]\s]*\]
    | [^\W\d][\w$]*                                         # words keep their digits
    | [:@?$]\w+                                             # parameters
    | 0[xX][0-9a-fA-F]+
    | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?
    """,
    re.VERBOSE | re.DOTALL,
)
_SQL_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)*\s*\)(?:\s*,\s*\(\s*\?(?:\s*,\s*\?)*\s*\))*")
_SQL_SPACE = re.compile(r"\s+")
_VALUE_BEFORE = re.compile(
    r"(?:[=<>!]|\?\s*,|\b(?:in|values)\s*\(|\b(?:like|glob|between|is|not|regexp|match|then|else))\s*$", re.IGNORECASE
)
_PLAIN_NAME = re.compile(r'"[^\W\d][\w$]*"')


def redact_sql(sql: str) -> str:
    """``sql`` without literals and comments: every value is ``?``, lists of values are one ``(?)`` (S29)."""
    text = sql[:_TEXT_LIMIT]
    parts: list[str] = []
    last = 0
    for match in _SQL_TOKEN.finditer(text):
        token = match.group()
        parts.append(text[last : match.start()])
        last = match.end()
        first = token[0]
        if token.startswith(("--", "/*")):
            parts.append(" ")
        elif "'" in token or (first == "$" and "$" in token[1:]):
            parts.append("?")
            if "\\" in token:
                # Whether a backslash escapes the quote depends on the database: nothing after it can be told apart.
                parts.append(" ...")
                last = len(text)
                break
        elif first == '"':
            before = "".join(parts[-4:])[-40:]
            parts.append(token if _PLAIN_NAME.fullmatch(token) and not _VALUE_BEFORE.search(before) else "?")
        elif first.isdigit() or first == ".":
            parts.append("?")
        else:
            parts.append(token)
    parts.append(text[last:])
    out = _SQL_SPACE.sub(" ", "".join(parts)).strip()
    return _SQL_LIST.sub("(?)", out)


def redact_url(url: str) -> str:
    """``url`` without credentials and fragment; the keys of the query stay, its values become ``?`` (R26)."""
    text = url[:_TEXT_LIMIT]
    text = text.partition("#")[0]
    head, question, query = text.partition("?")
    scheme, separator, rest = head.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        head = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return head + (question + redact_query(query) if query else "")


def redact_query(query: str) -> str:
    """``a=1&token=x`` as ``a=?&token=?``; a part without ``=`` is a value and becomes ``?``."""
    return "&".join(
        f"{key}=?" if equals else "?" for key, equals, _ in (part.partition("=") for part in query.split("&") if part)
    )


_QUERY = re.compile(r"\?([\w.~%+\-\[\]]{1,100}=[^\s'\")>]{0,1000})")


def redact_text(text: str) -> str:
    """Free text, such as an exception's message, without URL credentials, query values and ``password=...`` pairs."""
    text = text[:_TEXT_LIMIT]
    text = _QUERY.sub(lambda match: "?" + redact_query(match.group(1)), text)
    return mask_text(text)


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
