"""The traced subclasses of sqlite3's Connection and Cursor. No proxies, no state on the objects.

A subclass with ``__slots__ = ()`` passes every type check, keeps fetches at C speed and cannot be told from the original except by
``type() is``. What a traced object must know (the database's name) lives in its class, made once for each user class and database.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.caller import call_as
from stardust_auto.instrumentation.kit.database import describe, sql_names
from stardust_auto.instrumentation.kit.same_class import derive, original_of
from stardust_auto.log import get_logger
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches

_log = get_logger(__name__)
#: Databases told apart by name; the rest (a program with one file per customer) share one name.
_MOST_LABELS = 32
#: Method -> numbers of positional arguments that are right; with others the original says what is wrong.
_METHODS = {"execute": (1, 2), "executemany": (2,), "executescript": (1,)}
#: From 3.11 on Connection.execute makes its cursor in C, past our cursor(); before, it calls the methods that we replace.
_DIRECT = sys.version_info >= (3, 11)
#: From 3.12 on sqlite3 issues DeprecationWarnings in the name of the calling line.
_WARNS = sys.version_info >= (3, 12)
_QUIET = frozenset((int, str, float, bytes, type(None), bool))


def _may_warn(sql: Any, parameters: Any) -> bool:
    if type(parameters) is dict:
        parameters = parameters.values()
    elif type(parameters) not in (tuple, list) or (type(sql) is str and any(map(sql.__contains__, ":@$"))):
        return True
    return any(type(value) not in _QUIET for value in parameters)


def _traced(
    patches: Patches, names: Any, method: str, plain: Any, connection: Any = None, cursor: Any = None
) -> Callable[..., Any]:
    """The traced ``method`` of a cursor; with ``connection`` and ``cursor`` (classes) the shortcut of the connection.

    Budget: the steps of ``leaf`` and of ``kit.dbapi`` in one piece (0.5 us of 2.5; CPython 3.11, 2026-11-25).
    ``test_the_fast_way_and_the_plain_way_agree`` compares the two.
    """
    current: Callable[[], Any] = current_span.get
    many, shapes = method == "executemany", _METHODS[method]

    @functools.wraps(plain if connection is None else getattr(connection, method))
    def traced(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if connection is not None:
            if kwargs or len(args) not in shapes or not isinstance(args[0], str):
                return getattr(connection, method)(self, *args, **kwargs)
            self = connection.cursor(self, cursor)
        tracer = patches.tracer or patches.resume()
        parent: Any = current()
        if tracer is None or parent is SUPPRESSED:
            return plain(self, *args, **kwargs)
        start = tracer.now()
        try:
            if _WARNS and len(args) == 2 and (many or _may_warn(*args)):
                result = call_as(sys._getframe(1), plain, (self, *args), kwargs)
            else:
                result = plain(self, *args, **kwargs)
        except BaseException as error:
            if args and isinstance(args[0], str):
                tracer.record(names[args[0]], start, parent, describe, (args[0], many), error)
            raise
        try:
            sql = args[0]
            rows = self.rowcount
            tracer.record(names[sql], start, parent, describe, (sql, many), None, rows if rows > 0 else 0)  # noqa: FURB136 - a third of the cost of max()
        except Exception as fault:  # noqa: BLE001 - the integration's own code; counted
            patches.fault(fault)
        return result

    return traced


class TracedClasses:
    """Makes the traced classes. ``plain`` is the sqlite3 module."""

    def __init__(self, patches: Patches, plain: ModuleType) -> None:
        self._patches, self._plain = patches, plain
        self._labels: set[str] = set()
        self.connection = functools.lru_cache(maxsize=128)(self._or_original(self._make_connection))
        self.cursor = functools.lru_cache(maxsize=128)(self._or_original(self._make_cursor))

    def label(self, database: Any) -> str:
        """``shop.db`` for any path to such a file, ``memory``; ``sqlite`` for what cannot be named."""
        text = os.fsdecode(database) if isinstance(database, (str, bytes, os.PathLike)) else "sqlite"
        text = text.partition("?")[0].removeprefix("file:").replace("\\", "/").rpartition("/")[2]
        text = "memory" if text in ("", ":memory:") else text
        if text not in self._labels and len(self._labels) >= _MOST_LABELS:
            return "sqlite"
        self._labels.add(text)
        return text

    def _or_original(self, make: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        def make_or_leave(base: Any, label: str) -> Any:
            try:
                return make(base, label)
            except Exception:  # noqa: BLE001 - a class that refuses subclasses; remembered, and left alone
                _log.debug("%s is not traced", base, exc_info=True)
                return base

        return make_or_leave

    def _make_cursor(self, base: Any, label: str) -> Any:
        """``base`` with our methods on top: also a method that bypasses ``super()`` is seen once."""
        body: dict[str, Any] = {}
        for method in _METHODS:
            plain = getattr(base, method)
            if base is not self._plain.Cursor:
                plain = functools.wraps(plain)(lambda self, *a, _m=method, **k: getattr(base, _m)(self, *a, **k))
            body[method] = _traced(self._patches, sql_names(label), method, plain)
        return derive(base, (base,), body, in_c=base is self._plain.Cursor)

    def _make_connection(self, base: Any, label: str) -> Any:
        """Our methods below those of the user's class, so that its overrides get the arguments that they expect."""
        plain, cursor = self._plain.Connection, self.cursor(self._plain.Cursor, label)
        traced_cursor, is_cursor = self.cursor, self._plain.Cursor
        open_cursor = plain.cursor

        @functools.wraps(open_cursor)
        def make(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            if not args and not kwargs:
                return open_cursor(self, cursor)
            factory = args[0] if args else kwargs.get("factory")
            if isinstance(factory, type) and issubclass(factory, is_cursor):
                factory = traced_cursor(original_of(factory), label)
                return (
                    open_cursor(self, factory, *args[1:])
                    if args
                    else open_cursor(self, **{**kwargs, "factory": factory})
                )
            return open_cursor(self, *args, **kwargs)

        body: dict[str, Any] = {"cursor": make}
        if _DIRECT:
            for method in _METHODS:
                on_cursor = getattr(self._plain.Cursor, method)
                body[method] = _traced(self._patches, sql_names(label), method, on_cursor, plain, cursor)
        below = derive(plain, (plain,), body, in_c=True)
        return below if base is plain else derive(base, (base, below), {}, in_c=False)
