"""Statements sent to databases: their text, their names, and what is told of them.

A driver takes a statement as text, as bytes, or as an object that it composes itself; :func:`text_of` makes text of all of them.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from stardust_auto.tracing.naming import NameCache, operation_name
from stardust_auto.tracing.redaction import redact_sql

_SQL_NOISE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$)|[(;])+", re.DOTALL)
_SQL_VERB = re.compile(r"[A-Za-z]+")
_SQL_TABLE = re.compile(
    r"""\b(?:copy|(?<!distinct\s)from|into|update|join|table|index|view|trigger)\s+(?:only\s+|if\s+(?:not\s+)?exists\s+|or\s+\w+\s+)*["`\[]?([^\W\d][\w$]*)(?:["`\]]?\s*\.\s*["`\[]?([^\W\d][\w$]*))?""",
    re.IGNORECASE,
)
_SQL_PRAGMA = re.compile(r"pragma\s+(?:\w+\.)?(\w+)", re.IGNORECASE)
_SHARD = re.compile(r"[_$]*\d+$")
#: How much of a statement is looked at: the verb and the first table stand at its head, whatever its size.
_SQL_HEAD = 2000
#: How much of a statement in bytes is decoded.
_BYTES_LIMIT = 16_384


class DbCall(NamedTuple):
    """A statement sent to a database."""

    sql: str
    many: bool = False

    def tag(self) -> str:
        """The statement without literals."""
        text = redact_sql(self.sql)
        return f"executemany: {text}" if self.many else text


def describe(sql: str, many: bool) -> str:
    """The tag of a statement, for ``Tracer.record``."""
    return DbCall(sql, many).tag()


def text_of(statement: Any, context: Any = None) -> str | None:
    """The text of ``statement``, also of ``bytes``, of what psycopg composes (``as_string``) and of a template of Python 3.14.

    ``None`` for anything else, which the driver refuses.

    Args:
        context: the cursor or connection that psycopg2 asks for. The values of a template are left out.
    """
    if isinstance(statement, str):
        return statement
    if isinstance(statement, (bytes, bytearray, memoryview)):
        return bytes(statement[:_BYTES_LIMIT]).decode("utf-8", "replace")
    compose = getattr(statement, "as_string", None)
    if callable(compose):
        return str(compose(context))
    strings = getattr(statement, "strings", None)
    return "?".join(map(str, strings)) if isinstance(strings, tuple) else None


class SqlNames(NameCache):
    """``db:{database}:{Verb}:{table}``: verb and first table, never the text (S30)."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self._prefix = f"db:{operation_name(database).replace(':', '_')[:60] or 'default'}"

    def make(self, key: str) -> str:
        head = key[:_SQL_HEAD]
        noise = _SQL_NOISE.match(head)
        if noise:
            head = head[noise.end() :]
        verb = _SQL_VERB.match(head)
        if verb is None:
            return f"{self._prefix}:Empty"
        action = verb.group().capitalize()[:20]
        if action == "Pragma":
            pragma = _SQL_PRAGMA.match(head)
            return f"{self._prefix}:Pragma:{pragma.group(1)[:60]}" if pragma else f"{self._prefix}:Pragma"
        if action in (
            "Begin",
            "Commit",
            "Rollback",
            "Savepoint",
            "Release",
            "End",
            "Attach",
            "Detach",
            "Vacuum",
            "Set",
        ):
            return f"{self._prefix}:{action}"
        found = _SQL_TABLE.search(head)
        if found is None:
            return f"{self._prefix}:{action}"
        table = found.group(2) or found.group(1)
        return f"{self._prefix}:{action}:{(_SHARD.sub('', table) or table)[:80]}"


@functools.lru_cache(maxsize=256)
def sql_names(database: str) -> SqlNames:
    """The shared names of one database."""
    return SqlNames(database)
