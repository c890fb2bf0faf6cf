"""``@trace`` leaves every kind of function what it was."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest

from stardust_auto.process.context import current_span

if TYPE_CHECKING:
    from collections.abc import Generator


def totals(tracer):
    return {builder.name: (builder.total, builder.errors) for builder in tracer.take()}


def test_function(tracer):
    @tracer.trace("job")
    def double(x: int, *, y: int = 0) -> int:
        """Doc."""
        assert current_span.get().name == "job"
        return 2 * x + y

    assert double(2, y=1) == 5
    assert (double.__name__, double.__doc__) == ("double", "Doc.")
    assert str(inspect.signature(double)) == "(x: 'int', *, y: 'int' = 0) -> 'int'"
    assert current_span.get() is None
    assert totals(tracer) == {"job": (1, 0)}


def test_coroutine_function(tracer):
    @tracer.trace("job")
    async def work() -> str:
        await asyncio.sleep(0)
        return current_span.get().name

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work()) == "job"
    assert totals(tracer) == {"job": (1, 0)}


def test_generator_is_current_only_inside_its_body(tracer):
    inside = []

    @tracer.trace("gen")
    def numbers() -> Generator[int, str, str]:
        inside.append(current_span.get().name)
        got = yield 1
        inside.append(got)
        try:
            yield 2
        except KeyError:
            yield 3
        return "done"

    iterator = numbers()
    assert inspect.isgenerator(iterator) is True
    assert next(iterator) == 1
    assert current_span.get() is None
    assert iterator.send("sent") == 2
    assert iterator.throw(KeyError("x")) == 3
    with pytest.raises(StopIteration) as stop:
        next(iterator)
    assert stop.value.value == "done"
    assert inside == ["gen", "sent"]
    assert totals(tracer) == {"gen": (1, 0)}


def test_generator_closed_early_is_no_error_and_runs_its_cleanup(tracer):
    cleaned = []

    @tracer.trace("gen")
    def numbers():
        try:
            yield 1
        finally:
            cleaned.append(current_span.get().name)

    iterator = numbers()
    next(iterator)
    iterator.close()
    assert cleaned == ["gen"]
    assert totals(tracer) == {"gen": (1, 0)}


def test_generator_that_raises(tracer):
    error = ValueError("x")

    @tracer.trace("gen")
    def numbers():
        yield 1
        raise error

    with pytest.raises(ValueError, match="x") as caught:
        list(numbers())
    assert caught.value is error
    assert totals(tracer)["gen"] == (1, 1)


def test_asynchronous_generator(tracer):
    @tracer.trace("agen")
    async def numbers():
        for number in range(3):
            await asyncio.sleep(0)
            assert current_span.get().name == "agen"
            yield number

    async def main() -> list[int]:
        seen = []
        async for number in numbers():
            assert current_span.get() is None
            seen.append(number)
        return seen

    assert inspect.isasyncgenfunction(numbers)
    assert asyncio.run(main()) == [0, 1, 2]
    assert totals(tracer) == {"agen": (1, 0)}


def test_tasks_have_spans_of_their_own(tracer):
    @tracer.trace("inner")
    async def inner() -> str:
        await asyncio.sleep(0)
        return current_span.get().parent_id

    async def outer(name: str) -> bool:
        with tracer.new_span(name) as span:
            return await inner() == span.span_id

    async def main() -> list[bool]:
        return [*await asyncio.gather(outer("a"), outer("b"))]

    assert asyncio.run(main()) == [True, True]


@pytest.mark.case("W27")
def test_span_left_in_another_context_is_harmless(tracer):
    # "different Context" is never an error.
    import contextvars

    span = tracer.new_span("moved")
    contextvars.copy_context().run(span.__enter__)
    span.__exit__(None, None, None)
    assert totals(tracer) == {"moved": (1, 0)}
