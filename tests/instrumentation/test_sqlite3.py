"""An application cannot tell a traced sqlite3 from a plain one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import io
import pickle
import sqlite3
import sys
import threading
import unittest.mock
import warnings
import weakref
from sqlite3 import dbapi2
from typing import Any

import pytest

from stardust_auto.instrumentation.kit.dbapi import trace_cursors
from stardust_auto.instrumentation.registry import registry
from stardust_auto.process.context import suppressed

SELECT = "SELECT a FROM t ORDER BY a"


def opened(**keywords):
    connection = sqlite3.connect(":memory:", **keywords)
    connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);")
    return connection


class MyConnection(sqlite3.Connection):
    calls: tuple[str, ...] = ()

    def cursor(self):  # type: ignore[override]  # takes no factory: a wrapper on top would break it
        self.calls = (*self.calls, "cursor")
        return super().cursor()

    def execute(self, *args):
        self.calls = (*self.calls, "execute")
        return super().execute(*args)


class MyCursor(sqlite3.Cursor):
    def execute(self, sql, *args):
        self.seen = sql
        return super().execute(sql.upper(), *args)


class OldStyleCursor(sqlite3.Cursor):
    def execute(self, *args):
        return sqlite3.Cursor.execute(self, *args)


@pytest.mark.case("S1", "S2")
def test_real_subclasses(same):
    def probe():
        connection = opened()
        cursor = connection.cursor()
        return (
            isinstance(connection, sqlite3.Connection),
            issubclass(type(connection), sqlite3.Connection),
            isinstance(cursor, sqlite3.Cursor),
            issubclass(type(cursor), sqlite3.Cursor),
            type(connection) == sqlite3.Connection,  # noqa: E721 - that is the question
            type(cursor) == sqlite3.Cursor,  # noqa: E721
            {sqlite3.Connection: "found"}.get(type(connection)),
            type(connection).__name__,
            type(cursor).__qualname__,
            type(connection).__module__,
            str(type(connection)),
        )

    same(probe)


@pytest.mark.case("S3")
def test_backup_positional_and_keyword(same):
    def probe():
        source, first, second = opened(), sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
        source.backup(first)
        source.backup(target=second, pages=1)
        return first.execute(SELECT).fetchall(), second.execute(SELECT).fetchall()

    same(probe)


@pytest.mark.case("S4", "S5")
def test_row_and_cursor_constructors(same):
    def probe():
        connection = opened()
        cursor = connection.execute(SELECT)
        row = sqlite3.Row(cursor, (7,))
        other = sqlite3.Cursor(connection)
        return row["a"], other.execute(SELECT).fetchall()

    same(probe)


@pytest.mark.case("S6", "S7")
def test_chaining_and_identity(same):
    def probe():
        connection = opened()
        cursor = connection.cursor()
        shortcut = connection.execute(SELECT)
        return (
            cursor.execute(SELECT) is cursor,
            cursor.executemany("INSERT INTO t VALUES (?)", [(3,)]) is cursor,
            cursor.executescript("SELECT 1") is cursor,
            cursor.connection is connection,
            shortcut.connection is connection,
            shortcut.execute(SELECT).execute(SELECT).fetchall(),
        )

    trace = same(probe)
    assert trace.names.count("db:memory:Select:t") == 4  # the chained ones too


@pytest.mark.case("S8")
def test_shortcuts_are_traced_once(trace):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    connection.executescript("DELETE FROM t; SELECT 1")
    assert trace.names == ["db:memory:Create:t", "db:memory:Insert:t", "db:memory:Delete:t"]
    assert trace.named("db:memory:Insert:t").value == 2


@pytest.mark.case("S9")
def test_executemany_stays_lazy(same):
    def probe():
        log: list[Any] = []

        def rows():
            try:
                for number in range(3):
                    log.append(number)
                    yield (number,) if number < 2 else (object(),)
            finally:
                log.append("closed")

        connection = opened()
        with pytest.raises(sqlite3.Error):
            connection.executemany("INSERT INTO t VALUES (?)", rows())
        gc.collect()
        return log

    same(probe)


@pytest.mark.case("S10")
@pytest.mark.parametrize("form", ["keyword", "positional"])
def test_users_factory_is_honoured_and_traced(same, form):
    def probe():
        if form == "keyword":
            connection = sqlite3.connect(":memory:", factory=MyConnection)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                connection = sqlite3.connect(":memory:", 5.0, 0, "DEFERRED", True, MyConnection)
        connection.note = "has a dictionary"  # type: ignore[attr-defined]  # what is tested
        connection.cursor().execute("SELECT 1")
        connection.execute("SELECT 1")
        return (
            isinstance(connection, MyConnection),
            type(connection).__name__,
            connection.calls,
            vars(connection)["note"],
        )

    assert same(probe).names == ["db:memory:Select"] * 2


@pytest.mark.case("S11")
def test_users_cursor_is_honoured_and_traced(same):
    def probe():
        cursor = opened().cursor(MyCursor)
        cursor.execute("select a from t")
        keyword = opened().cursor(factory=MyCursor)
        old = opened().cursor(OldStyleCursor).execute(SELECT).fetchall()
        return type(cursor).__name__, isinstance(cursor, MyCursor), cursor.seen, isinstance(keyword, MyCursor), old

    trace = same(probe)
    assert trace.names.count("db:memory:Select:t") == 2  # each once, also the one that bypasses super()


@pytest.mark.case("S11")
def test_a_method_replaced_later_on_the_users_class_runs(trace):
    cursor = opened().cursor(MyCursor)
    with unittest.mock.patch.object(MyCursor, "execute", autospec=True) as replaced:
        cursor.execute("SELECT 1")
    replaced.assert_called_once_with(cursor, "SELECT 1")


@pytest.mark.case("S12")
def test_factories_that_are_functions(same):
    def probe():
        made: Any = lambda *args, **kwargs: MyConnection(*args, **kwargs)  # noqa: E731 - a function, whatever its name
        connection = sqlite3.connect(":memory:", factory=made)
        cursor = opened().cursor(lambda connection: MyCursor(connection))
        return type(connection), type(cursor), cursor.execute("select 1").fetchall()

    same(probe)


@pytest.mark.case("S12")
def test_wrong_factories(same):
    for wrong in (None, 3, int, object):
        same(lambda wrong=wrong: str(type(sqlite3.connect(":memory:", factory=wrong))))
        same(lambda wrong=wrong: opened().cursor(wrong))


@pytest.mark.case("S13")
def test_row_factory_gets_the_users_cursor(same):
    def probe():
        connection = opened()
        seen = []

        def row_of(cursor, row):
            seen.append(cursor)
            return row

        connection.row_factory = row_of
        cursor = connection.execute(SELECT)
        cursor.fetchall()
        return all(one is cursor for one in seen), len(seen)

    same(probe)


@pytest.mark.case("S14")
def test_attributes_round_trip(same):
    def probe():
        connection = opened()
        connection.row_factory, connection.text_factory, connection.isolation_level = sqlite3.Row, bytes, None
        values = [
            connection.row_factory,
            connection.text_factory,
            connection.isolation_level,
            connection.in_transaction,
        ]
        if sys.version_info >= (3, 12):
            connection.autocommit = True
            values.append(connection.autocommit)
        return values, connection.total_changes, connection.execute(SELECT).description

    same(probe)


@pytest.mark.case("S15", "S16")
def test_dump_serialize_and_callbacks(same):
    def probe():
        connection = opened()
        seen: list[Any] = []
        connection.set_trace_callback(seen.append)
        connection.execute("SELECT a FROM t WHERE a = ?", (1,)).fetchall()
        connection.set_trace_callback(None)
        copy = list(connection.iterdump())
        if hasattr(connection, "serialize"):
            other = sqlite3.connect(":memory:")
            other.deserialize(connection.serialize())
            copy += other.execute(SELECT).fetchall()
        if hasattr(connection, "blobopen"):
            connection.execute("CREATE TABLE b (x BLOB)")
            connection.execute("INSERT INTO b VALUES (zeroblob(3))")
            with connection.blobopen("b", "x", 1) as blob:
                blob.write(b"abc")
            copy += connection.execute("SELECT x FROM b").fetchall()
        return seen, copy

    same(probe)


@pytest.mark.case("S17")
def test_context_manager(same):
    def probe():
        connection = opened()
        connection.commit()
        with connection as same_one:
            connection.execute("INSERT INTO t VALUES (3)")
        with contextlib.suppress(KeyError), connection:
            connection.execute("INSERT INTO t VALUES (4)")
            raise KeyError
        return same_one is connection, connection.execute(SELECT).fetchall(), connection.in_transaction

    same(probe)


@pytest.mark.case("S18")
@pytest.mark.parametrize(
    "sql",
    ["", "   ", "-- nothing", "/* nothing */", ";", "\n\t;", "SELECT", "nonsense", "SELECT 1; SELECT 2", "\0", "é"],
)
def test_odd_statements(same, sql):
    same(lambda: opened().cursor().execute(sql).fetchall())
    same(lambda: opened().execute(sql).fetchall())
    same(lambda: opened().executescript(sql).fetchall())


@pytest.mark.case("S19", "S20")
@pytest.mark.parametrize("method", ["execute", "executemany", "executescript"])
@pytest.mark.parametrize("who", ["connection", "cursor"])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((), {"sql": "SELECT 1"}),
        (("SELECT 1",), {"parameters": ()}),
        ((1,), {}),
        ((b"SELECT 1",), {}),
        ((None,), {}),
        (([],), {}),
        (("SELECT ?", 3), {}),
        (("SELECT ?", None), {}),
        (("SELECT ?", "ab"), {}),
        (("SELECT ?", (), ()), {}),
        (("SELECT ?", (object(),)), {}),
        (("SELECT :a", {}), {}),
    ],
)
def test_wrong_arguments(same, method, who, args, kwargs):
    def probe():
        connection = opened()
        target = connection if who == "connection" else connection.cursor()
        return getattr(target, method)(*args, **kwargs).fetchall()

    same(probe)


@pytest.mark.case("S21")
def test_errors_are_unchanged(same, trace):
    def probe():
        connection = opened()
        connection.execute("CREATE UNIQUE INDEX i ON t (a)")
        try:
            connection.execute("INSERT INTO t VALUES (1)")
        except sqlite3.IntegrityError as error:
            return error.args, getattr(error, "sqlite_errorcode", None), error.__context__, error.__cause__
        return None

    same(probe)


@pytest.mark.case("S21")
def test_an_error_is_recorded_and_adds_one_frame(trace):
    with pytest.raises(sqlite3.OperationalError) as caught:
        opened().execute("SELECT * FROM missing WHERE name = 'secret'")
    assert len(caught.traceback) == 2
    span = trace.named("db:memory:Select:missing")
    assert span.error.startswith("OperationalError: no such table: missing")
    assert span.tag == "SELECT * FROM missing WHERE name = ?"


@pytest.mark.case("S22")
def test_closed_and_wrong_thread(same):
    def closed():
        connection = opened()
        cursor = connection.cursor()
        cursor.close()
        errors = []
        for call in (
            lambda: cursor.execute("SELECT 1"),
            lambda: connection.close() or connection.execute("SELECT 1"),
            connection.cursor,
        ):
            with pytest.raises(sqlite3.ProgrammingError) as caught:
                call()
            errors.append(str(caught.value))
        return errors

    def elsewhere():
        connection, errors = opened(), []

        def run():
            try:
                connection.execute("SELECT 1")
            except sqlite3.ProgrammingError as error:
                errors.append(type(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return errors

    same(closed)
    same(elsewhere)


@pytest.mark.case("S19", "S22")
@pytest.mark.parametrize("method", ["execute", "executemany", "executescript"])
@pytest.mark.parametrize("args", [(3,), (b"SELECT 1",), (None, ()), ("SELECT 1", 3), ("SELECT 1",)])
def test_wrong_arguments_for_a_connection_that_is_closed(same, method, args):
    def probe():
        connection = opened()
        connection.close()
        return getattr(connection, method)(*args)

    same(probe)


@pytest.mark.case("S23")
def test_connection_is_callable(same):
    same(lambda: type(opened()("SELECT 1")).__name__)


@pytest.mark.case("S24")
def test_no_dictionary_no_weak_references(same):
    same(lambda: setattr(opened(), "rowfactory", 1))
    same(lambda: setattr(opened().cursor(), "arraysise", 1))
    same(lambda: weakref.ref(opened()))
    same(lambda: sorted(set(dir(opened())) - {"_stardust_original", "__slots__"}))


@pytest.mark.case("S25")
def test_freed_as_plain(same):
    freed = []

    class Marked(MyConnection):
        def __del__(self):
            freed.append("connection")

    def probe():
        freed.clear()
        gc.disable()
        try:
            connection = sqlite3.connect(":memory:", factory=Marked)
            connection.execute("SELECT 1").fetchall()
            del connection
            return list(freed)
        finally:
            gc.enable()

    same(probe)


@pytest.mark.case("S26")
def test_one_connect_under_all_names(same):
    import _sqlite3

    def probe():
        return (
            sqlite3.connect is dbapi2.connect is _sqlite3.connect,
            pickle.loads(pickle.dumps(sqlite3.connect)) is sqlite3.connect,
            sqlite3.connect.__name__,
            sqlite3.connect.__module__,
            sqlite3.connect.__doc__ == _sqlite3.connect.__doc__,
            callable(sqlite3.connect),
            repr(sqlite3.connect),
        )

    same(probe)


@pytest.mark.case("S26")
def test_connect_does_not_become_a_method(same):
    def probe():
        class Holder:
            connect: Any = sqlite3.connect

        return Holder().connect(":memory:").execute("SELECT 1").fetchall()

    same(probe)


@pytest.mark.case("S27")
def test_connections_opened_before_keep_working(traced_block):
    before = opened()
    with traced_block() as trace:
        assert before.execute(SELECT).fetchall() == [(1,), (2,)]
        assert trace.names == []


@pytest.mark.case("S27")
def test_connections_outlive_the_instrumentation(traced_block):
    with traced_block() as trace:
        connection = opened()
    count = len(trace.spans)
    assert connection.execute(SELECT).fetchall() == [(1,), (2,)]
    assert connection.cursor().execute(SELECT).fetchall() == [(1,), (2,)]
    assert len(trace.spans) == count


@pytest.mark.case("S28")
def test_the_constructor_itself_is_untraced(trace):
    assert sqlite3.Connection(":memory:").execute("SELECT 1").fetchall() == [(1,)]
    assert trace.names == []  # documented in docs/transparency.md


@pytest.mark.case("S29")
def test_no_parameter_and_no_literal_is_recorded(trace):
    connection = opened()
    connection.execute(
        "SELECT a FROM t WHERE a IN (1, 2, 3) AND a <> 'it''s me' AND a <> x'00ff' -- secret\n AND a = ?", ("hidden",)
    )
    tag = trace.spans[-1].tag
    assert tag == "SELECT a FROM t WHERE a IN (?) AND a <> ? AND a <> ? AND a = ?"


@pytest.mark.case("S30")
def test_names_are_bounded(trace):
    connection = opened()
    huge = "SELECT a FROM t WHERE a = '" + "x" * 1_000_000 + "'"
    connection.execute(huge)
    connection.execute('SELECT 1 AS "größe"')
    assert trace.names[-2:] == ["db:memory:Select:t", "db:memory:Select"]
    assert all(len(span.tag) <= 1024 for span in trace.spans)


@pytest.mark.case("S30")
def test_many_databases_share_a_name(trace, tmp_path):
    for number in range(40):
        sqlite3.connect(tmp_path / f"customer_{number}.db").execute("SELECT 1")
    assert len(set(trace.names)) <= 33
    assert "db:sqlite:Select" in trace.names


@pytest.mark.case("S30")
@pytest.mark.parametrize(
    ("database", "label"),
    [
        ("{0}/shop.db", "shop.db"),
        (b"{0}/shop.db", "shop.db"),
        ("file:{0}/shop.db?mode=rwc", "shop.db"),
        ("file::memory:?cache=shared", "memory"),
        ("", "memory"),
    ],
)
def test_database_names(trace, tmp_path, database, label):
    place = (
        database.replace(b"{0}", str(tmp_path).encode()) if isinstance(database, bytes) else database.format(tmp_path)
    )
    uri = isinstance(place, str) and place.startswith("file:")
    sqlite3.connect(place, uri=uri).execute("SELECT 1")
    assert trace.names == [f"db:{label.replace(':', '_')}:Select"]


@pytest.mark.case("S31")
def test_threads_and_asyncio(same):
    def probe():
        async def main():
            connection = opened(check_same_thread=False)
            return await asyncio.to_thread(lambda: connection.execute(SELECT).fetchall())

        return asyncio.run(main())

    same(probe)


@pytest.mark.case("S32")
def test_fetching_makes_no_spans(trace):
    cursor = opened().execute(SELECT)
    count = len(trace.spans)
    assert [*cursor] == [(1,), (2,)]
    assert type(cursor).fetchone is sqlite3.Cursor.fetchone
    assert len(trace.spans) == count


def test_own_traffic_is_not_traced(trace):
    with suppressed():
        connection = opened()
    assert type(connection) is sqlite3.Connection
    connection = opened()
    count = len(trace.spans)
    with suppressed():
        connection.execute(SELECT)
    assert len(trace.spans) == count


@pytest.mark.case("I11")
def test_signatures(same):
    for method in (sqlite3.Connection.execute, sqlite3.Cursor.executemany):
        same(lambda method=method: str(inspect.signature(method)))
    same(lambda: str(inspect.signature(type(opened().cursor()).execute)))


@pytest.mark.parametrize("positional", [True, False])
def test_warnings_name_the_applications_line(same, positional):
    """3.12 deprecates positional arguments of connect, and named placeholders with sequences; C code warns for its caller."""

    def probe():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if positional:
                sqlite3.connect(":memory:", 5.0)
            else:
                opened().execute("SELECT :a", (1,))
                opened().cursor().executemany("INSERT INTO t VALUES (:a)", [(1,)])
        # Not the ResourceWarnings of what earlier tests have left to the garbage collector.
        return [(w.filename, w.lineno, str(w.message)) for w in caught if w.category is not ResourceWarning]

    same(probe)


def test_warning_of_the_default_adapter_names_the_applications_line(same):
    import datetime

    def probe():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            opened().execute("SELECT ?", (datetime.date(2026, 11, 24),))
        return [(one.filename, one.lineno, str(one.message)) for one in caught]

    same(probe)


def test_unclosed_connection_warns_as_plain(same):
    def probe():
        gc.collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            connection = opened()
            del connection
            gc.collect()
        return [str(one.category) for one in caught]

    same(probe)


def test_dump_to_text_io(same):
    def probe():
        out = io.StringIO()
        for line in opened().iterdump():
            out.write(line)
        return out.getvalue()

    same(probe)


# -- classes of the program --------------------------------------------------------------------------------------------


def test_a_class_of_the_program_is_not_told_of_its_traced_subclass(same):
    class Registering(type):
        made: list = []  # noqa: RUF012 - a probe

        def __init__(cls, *args):
            super().__init__(*args)
            Registering.made.append(cls.__name__)

    class Counted(sqlite3.Connection, metaclass=Registering):
        opened = 0
        heard: list = []  # noqa: RUF012 - a probe

        def __init_subclass__(cls, **options):
            super().__init_subclass__(**options)
            Counted.heard.append((cls.__name__, options))

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            type(self).opened += 1

    def probe():
        Counted.opened = 0
        Counted.heard.clear()
        for _ in range(2):
            sqlite3.connect(":memory:", factory=Counted).close()

        base: Any = type(sqlite3.connect(":memory:", factory=Counted))

        class Below(base):
            pass

        return (
            Counted.opened,
            Counted.heard,
            sorted(set(Registering.made)),
            [name for name in dir(Below) if "stardust" in name],
        )

    same(probe)


def test_what_is_set_on_the_class_of_a_connection_is_set_on_the_programs_own(same):
    class Program(sqlite3.Connection):
        pass

    Mine: Any = Program

    def probe():
        connection = sqlite3.connect(":memory:", factory=Mine)
        type(connection).note = 1
        seen = Mine.note, vars(Mine)["note"]
        del type(connection).note
        with pytest.raises(TypeError) as caught:
            type(sqlite3.connect(":memory:")).note = 1  # type: ignore[attr-defined]  # what is tested
        return seen, hasattr(Mine, "note"), str(caught.value)

    same(probe)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("pickler", [pickle.dumps, vars(pickle)["_dumps"]])
def test_the_class_of_a_connection_is_pickled_as_the_programs_own(same, pickler, protocol):
    def probe():
        connection = sqlite3.connect(":memory:", factory=Pickled)
        kinds = type(connection), type(sqlite3.connect(":memory:")), type(connection.cursor())
        return [pickle.loads(pickler(kind, protocol)) for kind in kinds]

    same(probe)


class Pickled(sqlite3.Connection):
    pass


def test_a_class_that_refuses_subclasses_is_traced_or_left_alone(trace):
    class Final(sqlite3.Connection):
        def __init_subclass__(cls, **options):
            raise TypeError("no subclasses")

    for _ in range(100):
        sqlite3.connect(":memory:", factory=Final).execute("SELECT 1 FROM (SELECT 1)").close()
    sqlite3.connect(":memory:").execute("SELECT 1 FROM (SELECT 1)")
    assert len(trace.names) == 101


def test_a_class_that_cannot_be_derived_is_remembered_and_left_alone(trace, monkeypatch):
    tried = []

    def derive(like, *args, **options):
        tried.append(like)
        raise TypeError("no subclasses")

    class Final(sqlite3.Connection):
        pass

    from stardust_auto.instrumentation.sqlite3 import classes

    monkeypatch.setattr(classes, "derive", derive)
    for _ in range(100):
        assert type(sqlite3.connect(":memory:", factory=Final)) is Final
    assert len(tried) <= 3


def test_the_fast_way_and_the_plain_way_agree(traced_block):
    """The traced classes have the steps of ``kit.dbapi`` in one piece."""

    class Plain(sqlite3.Cursor):
        def execute(self, *args):
            return super().execute(*args)

        def executemany(self, *args):
            return super().executemany(*args)

    def use(cursor):
        cursor.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
        cursor.executemany("INSERT INTO item VALUES (?, ?)", [(number, "secret") for number in range(5)])
        cursor.execute("UPDATE item SET name = 'secret' WHERE id > ?", (2,))
        cursor.execute("SELECT * FROM item").fetchall()
        for wrong in (("SELECT nothing FROM item",), ("SELECT ?", ()), (7,), ("",)):
            with contextlib.suppress(sqlite3.Error, TypeError):
                cursor.execute(*wrong)

    def told(trace):
        return [
            (span.name, span.tag, span.value, span.error.partition("\r\n")[0])
            for span in trace.spans
            if span.name[:3] == "db:"
        ]

    with traced_block() as fast:
        use(sqlite3.connect(":memory:", isolation_level=None).cursor())
    with traced_block(integrations={"sqlite3": False}) as plain:
        patches = registry.patches("plain")
        patches.switch(plain.tracer)
        trace_cursors(patches, [Plain], lambda _connection: "memory")
        use(sqlite3.connect(":memory:", isolation_level=None).cursor(Plain))
        patches.restore()
    assert told(fast) == told(plain)
