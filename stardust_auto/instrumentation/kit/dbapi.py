"""Drivers that follow the Python Database API (PEP 249), sync and async: the methods of their cursors are traced.

For drivers whose cursors are classes of Python. A class written in C has no methods that can be replaced: see ``sqlite3``.
"""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.instrumentation.kit.calls import leaf
from stardust_auto.instrumentation.kit.database import describe, sql_names, text_of
from stardust_auto.instrumentation.kit.weak import PerObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stardust_auto.instrumentation.kit.calls import Outcome, Wrap
    from stardust_auto.instrumentation.kit.patches import Patches

#: Covers of this kind let an outer library name the span (:mod:`stardust_auto.instrumentation.kit.covering`).
KIND: Final = "db"
#: What a method of a cursor may call its statement.
_KEYWORDS = ("query", "operation", "statement", "sql")


def trace_cursors(
    patches: Patches,
    classes: Iterable[type],
    database: Callable[[Any], str],
    methods: Iterable[str] = ("execute", "executemany"),
    contexts: Iterable[str] = (),
) -> None:
    """Make a span of each statement that a cursor of ``classes`` sends.

    Args:
        database: name of the database that a connection talks to; asked once for each connection.
        methods: those that take a statement first. Functions, coroutine functions and generators.
        contexts: those that do so and are made by ``contextmanager`` or ``asynccontextmanager``, such as psycopg's ``copy``.
    """
    known = PerObject(lambda connection: sql_names(database(connection)))

    def names_of(connection: Any) -> Any:
        names = known.get(id(connection))
        if names is None:
            try:
                names = known.of(connection)
            except Exception:  # noqa: BLE001 - a closed connection may not tell; the call itself says what is wrong
                names = sql_names("default")
        return names

    def wrapper(many: bool) -> Wrap:
        def before(cursor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            statement = args[0] if args else next((kwargs[key] for key in _KEYWORDS if key in kwargs), None)
            return None if statement is None else (cursor, statement)

        def after(state: Any, _result: Any, error: BaseException | None) -> Outcome | None:
            cursor, statement = state
            sql = text_of(statement, cursor)
            if sql is None:
                return None
            rows = cursor.rowcount if error is None else 0
            return names_of(cursor.connection)[sql], describe, (sql, many), error, max(rows or 0, 0)

        return leaf(patches, before, after, kind=KIND)

    one, many = wrapper(many=False), wrapper(many=True)

    def context(plain: Any) -> Any:
        """A context manager runs a generator: that is what is traced."""
        body = plain.__wrapped__
        return (asynccontextmanager if inspect.isasyncgenfunction(body) else contextmanager)(one(body))

    for cls in classes:
        for method in methods:
            if method in vars(cls):
                patches.wrap(cls, method, many if method == "executemany" else one)
        for method in contexts:
            if method in vars(cls):
                patches.wrap(cls, method, context)
