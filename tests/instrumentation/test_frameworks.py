"""What stands between a program and sqlite3 or redis behaves as it does plain, and its calls have the right names and parents."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)


def told(error):
    """An error of SQLAlchemy: its own class and text, and the driver's error in it."""
    return (
        type(error),
        str(error),
        type(error.orig),
        str(error.orig),
        type(error.__cause__),
        error.connection_invalidated,
    )


def parents(trace):
    """(name, name of the parent) of every call to a database or a store."""
    by_id = {span.id: span.name for span in trace.spans}
    return [
        (span.name, by_id.get(span.parent_id)) for span in trace.spans if span.name.startswith(("db:memory", "redis:"))
    ]


@pytest.mark.case("S2")
def test_sqlalchemy_engine_pools_and_the_connections_below(same, tmp_path):
    def probe():
        path = tmp_path / "shop.db"
        path.unlink(missing_ok=True)
        results: list[Any] = []
        for engine in (
            sa.create_engine(f"sqlite:///{path}"),
            sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}),
            sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path, factory=sqlite3.Connection)),
        ):
            seen: list[Any] = []
            sa.event.listen(
                engine, "connect", lambda raw, _record, seen=seen: seen.append(raw.execute("SELECT 1").fetchone())
            )
            sa.event.listen(engine, "before_cursor_execute", lambda *args, seen=seen: seen.append((args[2], args[5])))
            sa.event.listen(
                engine, "after_cursor_execute", lambda _connection, cursor, *_, seen=seen: seen.append(cursor.rowcount)
            )
            Base.metadata.create_all(engine)
            with engine.begin() as connection:
                result = connection.execute(
                    sa.insert(Book), [{"title": f"{engine.url} {number}"} for number in range(3)]
                )
                results += [result.rowcount, connection.scalar(sa.select(sa.func.count()).select_from(Book))]
                results += [row.title for row in connection.execution_options(yield_per=1).execute(sa.select(Book))]
            with engine.connect() as connection, connection.begin() as transaction:
                connection.execute(sa.delete(Book))
                transaction.rollback()
            raw = engine.raw_connection()
            cursor = raw.cursor()
            results += [cursor.execute("SELECT count(*) FROM books").fetchall(), cursor.description]
            driver: Any = raw.driver_connection
            results += [isinstance(driver, sqlite3.Connection), type(driver).__name__, driver.total_changes]
            raw.close()
            if engine.pool.__class__ is StaticPool:  # one connection, from every thread
                thread = threading.Thread(target=lambda engine=engine: engine.connect().close())
                thread.start()
                thread.join()
            results += [seen, engine.dialect.server_version_info, engine.pool.__class__]
            engine.dispose()
        return results

    trace = same(probe)
    assert trace.names.count("db:shop.db:Insert:books") == 2
    assert trace.names.count("db:memory:Insert:books") == 1
    assert trace.names.count("db:shop.db:Delete:books") == 2


@pytest.mark.case("S2")
def test_sqlalchemy_session_and_its_errors(same):
    def probe():
        engine = sa.create_engine("sqlite://")
        Base.metadata.create_all(engine)
        results = []
        with Session(engine) as session:
            session.add_all([Book(title="one"), Book(title="two")])
            session.commit()
            book = session.scalars(sa.select(Book).where(Book.title == "one")).one()
            book.title = "first"
            session.flush()
            with pytest.raises(IntegrityError) as caught, session.begin_nested():
                session.add(Book(title="two"))
                session.flush()
            results.append(told(caught.value))
            session.rollback()
            results.append((book.title, sa.inspect(book).persistent))
            with pytest.raises(OperationalError) as unknown:
                session.execute(sa.text("SELECT nothing FROM nowhere"))
            results.append(told(unknown.value))
        inspector = sa.inspect(engine)
        results += [inspector.get_table_names(), inspector.get_unique_constraints("books")]
        engine.dispose()
        return results

    trace = same(probe)
    failed = [
        (span.name, span.error.partition(":")[0]) for span in trace.spans if span.error and span.name[:3] == "db:"
    ]
    assert failed == [("db:memory:Insert:books", "IntegrityError"), ("db:memory:Select:nowhere", "OperationalError")]


def test_t01_sqlalchemy_calls_are_children_of_the_span_around_them(trace):
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with trace.tracer.new_span("page"), Session(engine) as session:
        session.add(Book(title="one"))
        session.commit()
        with trace.tracer.new_span("list"):
            session.scalars(sa.select(Book)).all()
    assert [pair for pair in parents(trace) if pair[1]] == [
        ("db:memory:Insert:books", "page"),
        ("db:memory:Select:books", "list"),
    ]
    engine.dispose()


@pytest.mark.case("S2")
def test_sqlalchemy_asyncio(same):
    """aiosqlite runs sqlite3 in a thread of its own, which has no span around it."""

    async def main():
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine, expire_on_commit=False) as session:
            session.add(Book(title="one"))
            await session.commit()
            titles = [book.title async for book in await session.stream_scalars(sa.select(Book))]
            session.add(Book(title="one"))
            with pytest.raises(IntegrityError) as caught:
                await session.commit()
        await engine.dispose()
        return titles, type(caught.value), str(caught.value)

    trace = same(lambda: asyncio.run(main()))
    assert trace.names.count("db:memory:Insert:books") == 2
    assert trace.names.count("db:memory:Select:books") == 1
