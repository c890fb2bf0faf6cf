"""``@tracer.trace(name)`` for every kind of function."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, cast

from stardust_auto.process.context import current_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import TypeVar

    from stardust_auto.tracing.span import Span

    F = TypeVar("F", bound=Callable[..., Any])


def traced(begin: Callable[[str], Span], name: str) -> Callable[[F], F]:
    """A decorator that puts a span around each call of a function, coroutine function, generator or asynchronous generator.

    Args:
        begin: makes a span called ``name``.
    """

    def decorate(function: F) -> F:
        if inspect.isasyncgenfunction(function):
            make = _asynchronous_generator
        elif inspect.isgeneratorfunction(function):
            make = _generator
        elif inspect.iscoroutinefunction(function):
            make = _coroutine
        else:
            make = _function
        wrapper: Any = functools.wraps(function)(make(lambda: begin(name), function))
        return cast("F", wrapper)

    return decorate


def _function(begin: Callable[[], Span], function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with begin():
            return function(*args, **kwargs)

    return wrapper


def _coroutine(begin: Callable[[], Span], function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with begin():
            return await function(*args, **kwargs)

    return wrapper


def _generator(begin: Callable[[], Span], function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        span = begin()
        inner = function(*args, **kwargs)
        try:
            # The span is current only while the body runs. Between two items the context belongs to the caller.
            item = _inside(span, next, inner)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    _inside(span, inner.close)
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the caller and handed on to the body
                    item = _inside(span, inner.throw, error)
                else:
                    item = _inside(span, inner.send, sent)
        except StopIteration as stop:
            span.end()
            return stop.value
        except GeneratorExit:
            span.end()
            raise
        except BaseException as error:
            span.end(error)
            raise

    return wrapper


def _asynchronous_generator(begin: Callable[[], Span], function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        span = begin()
        inner = function(*args, **kwargs)
        try:
            item = await _awaited(span, inner.__anext__())
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await _awaited(span, inner.aclose())
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the caller and handed on to the body
                    item = await _awaited(span, inner.athrow(error))
                else:
                    item = await _awaited(span, inner.asend(sent))
        except StopAsyncIteration:
            span.end()
        except GeneratorExit:
            span.end()
            raise
        except BaseException as error:
            span.end(error)
            raise

    return wrapper


def _inside(span: Span, step: Callable[..., Any], *args: Any) -> Any:
    token = current_span.set(span)
    try:
        return step(*args)
    finally:
        current_span.reset(token)


async def _awaited(span: Span, step: Any) -> Any:
    token = current_span.set(span)
    try:
        return await step
    finally:
        current_span.reset(token)
