"""The body of a response that is still being made: its span is current while a piece is made, never in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.tracing.context import current_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.wsgi_span import RequestSpan

_enter: Any = current_span.set
_leave: Any = current_span.reset


class Body:
    """Stands for the application's iterable; everything but iteration and ``close`` is asked of the original."""

    __slots__ = ("_body", "_done", "_next", "_span")

    def __init__(self, body: Any, span: RequestSpan) -> None:
        self._body = body
        self._span = span
        self._next: Callable[[], Any] | None = None
        self._done = False

    def __iter__(self) -> Body:
        token = _enter(self._span)
        try:
            self._next = iter(self._body).__next__
        except BaseException as error:
            self._span.end(error)
            raise
        finally:
            _leave(token)
        return self

    def __next__(self) -> Any:
        step = self._next
        if step is None:
            step = self.__iter__()._next
            assert step is not None  # noqa: S101 - set by __iter__
        span = self._span
        token = _enter(span)
        try:
            chunk = step()
        except StopIteration:
            self._done = True
            raise
        except BaseException as error:
            span.end(error)
            raise
        finally:
            _leave(token)
        if type(chunk) is bytes:
            span.value += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the application's iterable, if it can be closed, and end the span; an early close is an abort, not an error."""
        span = self._span
        token = _enter(span)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            span.end(error)
            raise
        finally:
            _leave(token)
        if not self._done:
            span.append_tag("aborted")
        span.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __del__(self) -> None:
        # A server that drops the body without close(): the request is over all the same.
        if not self._span.ended:
            self._span.end()


class SizedBody(Body):
    """For a body that has a length: servers may use it for ``Content-Length``."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)
