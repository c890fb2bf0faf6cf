"""psycopg 3 on a real PostgreSQL: it behaves as without the agent, sync and async, and each statement is one span."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is part of the extra 'test'")

from psycopg import sql  # noqa: E402 - it may be missing
from psycopg.conninfo import make_conninfo  # noqa: E402
from psycopg.rows import dict_row  # noqa: E402

from stardust_auto.process.context import suppressed  # noqa: E402

ADDRESS = os.environ.get("STARDUST_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
SCHEMA = f"stardust_kit_{os.getpid()}"
SERVER = make_conninfo(ADDRESS, options=f"-csearch_path={SCHEMA}")


@pytest.fixture(scope="module")
def server():
    """The address of a PostgreSQL with a table ``kit_item`` of two rows."""
    try:
        with suppressed(), psycopg.connect(SERVER, connect_timeout=3, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.execute("CREATE TABLE kit_item (id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO kit_item VALUES (1, 'one'), (2, 'two')")
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at STARDUST_TEST_POSTGRES_URL or 127.0.0.1:5432: {str(error).splitlines()[0]}")
    yield SERVER
    with suppressed(), psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def calls(trace):
    return [(span.name, span.value) for span in trace.spans if span.name.startswith("db:")]


class Sync:
    """A connection that is used as the async one is."""

    connection = psycopg.Connection
    cursor = psycopg.Cursor
    server_cursor = psycopg.ServerCursor

    @staticmethod
    def run(use, **options):
        with psycopg.connect(SERVER, **options) as connection:
            return use(connection)


class Async:
    connection = psycopg.AsyncConnection
    cursor = psycopg.AsyncCursor
    server_cursor = psycopg.AsyncServerCursor

    @staticmethod
    def run(use, **options):
        async def main():
            async with await psycopg.AsyncConnection.connect(SERVER, **options) as connection:
                return await use(connection)

        return asyncio.run(main())


@pytest.fixture(params=[Sync, Async])
def kind(request, server):
    return request.param


def both(kind, sync, asynchronous):
    return sync if kind is Sync else asynchronous


def select(connection):
    return connection.execute("SELECT name FROM kit_item WHERE id = %s", (1,)).fetchall()


async def select_async(connection):
    return await (await connection.execute("SELECT name FROM kit_item WHERE id = %s", (1,))).fetchall()


def test_a_statement_is_one_span(same, kind):
    with_trace = same(lambda: kind.run(both(kind, select, select_async)))
    assert calls(with_trace) == [("db:test:Select:kit_item", 1)]
    (span,) = [span for span in with_trace.spans if span.name.startswith("db:")]
    assert span.tag == "SELECT name FROM kit_item WHERE id = %s"


def test_it_belongs_to_the_span_around_it(trace, kind):
    with trace.tracer.new_span("job") as job:
        kind.run(both(kind, select, select_async))
    span = trace.named("db:test:Select:kit_item")
    assert (span.trace_id, span.parent_id) == (job.trace_id, job.span_id)


def test_many_rows(trace, kind):
    rows = [(number, "x") for number in range(10, 15)]

    def many(connection):
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO kit_item VALUES (%s, %s)", rows)
        connection.rollback()

    async def many_async(connection):
        async with connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO kit_item VALUES (%s, %s)", rows)
        await connection.rollback()

    kind.run(both(kind, many, many_async))
    assert calls(trace) == [("db:test:Insert:kit_item", 5)]
    assert trace.spans[0].tag == "executemany: INSERT INTO kit_item VALUES (%s, %s)"


STATEMENTS = {
    "text": "SELECT 'secret' FROM kit_item",
    "bytes": b"SELECT 'secret' FROM kit_item",
    "composed": sql.SQL("SELECT {} FROM {}").format(sql.Literal("secret"), sql.Identifier("kit_item")),
}


@pytest.mark.parametrize("form", STATEMENTS)
def test_a_statement_of_any_form_is_told_without_its_literals(trace, kind, form):
    async def use(connection):
        await connection.execute(STATEMENTS[form])

    kind.run(both(kind, lambda connection: connection.execute(STATEMENTS[form]), use))
    (span,) = [span for span in trace.spans if span.name.startswith("db:")]
    assert span.name == "db:test:Select:kit_item"
    assert span.value == 2
    assert "secret" not in span.tag


def test_a_statement_by_keyword(trace, server):
    Sync.run(lambda connection: connection.cursor().execute(query="SELECT 1 FROM kit_item"))
    assert calls(trace) == [("db:test:Select:kit_item", 2)]


def test_an_error_is_what_it_was_and_is_recorded(same, kind):
    async def use(connection):
        await connection.execute("SELECT nothing FROM kit_item")

    trace = same(
        lambda: kind.run(both(kind, lambda connection: connection.execute("SELECT nothing FROM kit_item"), use))
    )
    (span,) = [span for span in trace.spans if span.name.startswith("db:")]
    assert span.error.startswith("UndefinedColumn")


def test_a_closed_connection_says_so_itself(same, kind):
    def use(connection):
        connection.close()
        connection.execute("SELECT 1")

    async def use_async(connection):
        await connection.close()
        await connection.execute("SELECT 1")

    same(lambda: kind.run(both(kind, use, use_async)))


@pytest.mark.parametrize("args", [(), (7,), (None,), ("SELECT %s",), ("SELECT 1", 5)])
def test_wrong_calls_are_refused_in_the_drivers_own_words(same, server, args):
    same(lambda: Sync.run(lambda connection: connection.cursor().execute(*args)))


def test_a_cursor_on_the_server(same, kind):
    def use(connection):
        with connection.cursor("named") as cursor:
            cursor.execute("SELECT id FROM kit_item ORDER BY id")
            return cursor.fetchall()

    async def use_async(connection):
        async with connection.cursor("named") as cursor:
            await cursor.execute("SELECT id FROM kit_item ORDER BY id")
            return await cursor.fetchall()

    assert [name for name, _ in calls(same(lambda: kind.run(both(kind, use, use_async))))] == [
        "db:test:Select:kit_item"
    ]


def test_a_stream_is_one_span_however_it_ends(same, kind):
    def use(connection):
        cursor = connection.cursor()
        whole = list(cursor.stream("SELECT id FROM kit_item ORDER BY id"))
        for row in cursor.stream("SELECT id FROM kit_item ORDER BY id"):
            return whole, row
        return None

    async def use_async(connection):
        cursor = connection.cursor()
        whole = [row async for row in cursor.stream("SELECT id FROM kit_item ORDER BY id")]
        stream = cursor.stream("SELECT id FROM kit_item ORDER BY id")
        row = await anext(stream)
        await stream.aclose()
        return whole, row

    trace = same(lambda: kind.run(both(kind, use, use_async)))
    assert [name for name, _ in calls(trace)] == ["db:test:Select:kit_item"] * 2
    assert not any(span.error for span in trace.spans)


def test_copy_in_and_out(same, kind):
    def use(connection):
        with connection.cursor() as cursor:
            with cursor.copy("COPY kit_item (id, name) FROM STDIN") as copy:
                copy.write_row((100, "secret"))
            with cursor.copy("COPY kit_item TO STDOUT") as copy:
                rows = list(copy.rows())
        connection.rollback()
        return rows

    async def use_async(connection):
        async with connection.cursor() as cursor:
            async with cursor.copy("COPY kit_item (id, name) FROM STDIN") as copy:
                await copy.write_row((100, "secret"))
            async with cursor.copy("COPY kit_item TO STDOUT") as copy:
                rows = [row async for row in copy.rows()]
        await connection.rollback()
        return rows

    trace = same(lambda: kind.run(both(kind, use, use_async)))
    assert calls(trace) == [("db:test:Copy:kit_item", 1), ("db:test:Copy:kit_item", 3)]
    assert not any("secret" in span.tag for span in trace.spans)


def test_an_exception_inside_copy_reaches_the_driver_as_it_was(same, kind):
    def use(connection):
        with connection.cursor() as cursor, cursor.copy("COPY kit_item FROM STDIN"):
            raise ZeroDivisionError("mine")

    async def use_async(connection):
        async with connection.cursor() as cursor, cursor.copy("COPY kit_item FROM STDIN"):
            raise ZeroDivisionError("mine")

    trace = same(lambda: kind.run(both(kind, use, use_async)))
    assert [span.error.partition("\r\n")[0] for span in trace.spans if span.name.startswith("db:")] == [
        "ZeroDivisionError: mine"
    ]


def test_a_cancelled_statement_is_counted_and_no_error(trace, server):
    async def use(connection):
        task = asyncio.create_task(connection.execute("SELECT pg_sleep(5)"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    Async.run(use)
    (span,) = [span for span in trace.spans if span.name.startswith("db:")]
    assert span.error == ""
    assert span.tag == "SELECT pg_sleep(?)\r\ncancelled"


def test_cursors_of_the_programs_own_are_traced_once(same, server):
    class Mine(psycopg.Cursor):  # type: ignore[name-defined]  # psycopg is imported by a call
        def execute(self, query, params=None, **options):
            return super().execute(query, params, **options)

    def probe():
        def use(connection):
            connection.execute("SELECT 1 FROM kit_item")
            return type(connection.cursor()), connection.cursor(row_factory=dict_row).execute(
                "SELECT id FROM kit_item"
            ).fetchone()

        with psycopg.connect(SERVER, cursor_factory=Mine) as connection:
            return use(connection)

    assert len(calls(same(probe))) == 2


def test_types_and_signatures(same, kind):
    def probe():
        found = []
        for owner, names in (
            (kind.cursor, ("execute", "executemany", "stream", "copy")),
            (kind.server_cursor, ("execute",)),
        ):
            for name in names:
                function = getattr(owner, name)
                found.append(
                    (
                        str(inspect.signature(function)),
                        function.__qualname__,
                        function.__doc__,
                        inspect.iscoroutinefunction(function),
                        inspect.isgeneratorfunction(function),
                        inspect.isasyncgenfunction(function),
                        pickle.loads(pickle.dumps(function)) is function,
                    )
                )
        return found

    same(probe)


def test_what_is_off_is_put_back(traced_block, server):
    with traced_block(integrations={"psycopg": False}) as trace:
        Sync.run(select)
    assert calls(trace) == []
    with traced_block() as trace, suppressed():
        Sync.run(select)
    assert calls(trace) == []
    assert not hasattr(psycopg.Cursor.execute, "__wrapped__")
