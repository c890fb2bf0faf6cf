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

    __slots__ = ("__weakref__", "_body", "_next", "_span")

    _body: Any
    _next: Callable[[], Any] | None
    _span: RequestSpan

    def __iter__(self) -> Body:
        self._next = None
        return self

    def __next__(self) -> Any:
        span = self._span
        token = _enter(span)
        try:
            step = self._next
            if step is None:
                step = self._next = iter(self._body).__next__
            chunk = step()
        except StopIteration:
            span.end()
            raise
        except BaseException as error:
            span.end(error)
            raise
        finally:
            _leave(token)
        if type(chunk) is bytes:
            span.value += len(chunk)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        """Close the application's iterable, if it can be closed. A client that went away before the end is no error."""
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
        span.end()

    def __del__(self) -> None:
        # A server that drops the body without close(): the request is over all the same.
        span = self._span
        if span._tracer is not None:
            span.end()


class SizedBody(Body):
    """For a body that has a length: servers may use it for ``Content-Length``."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)
