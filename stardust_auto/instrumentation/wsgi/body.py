"""The body of a response that is still being made: its span is current while a piece is made, never in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.process.context import current_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.wsgi.span import WsgiSpan

_enter: Any = current_span.set
_leave: Any = current_span.reset


class Body:
    """Stands for the application's iterable; everything but iteration and ``close`` is asked of the original."""

    __slots__ = ("__weakref__", "_body", "_next", "_span")

    _body: Any
    _next: Callable[[], Any] | None
    _span: WsgiSpan

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


_kinds: dict[type, Any] = {}


def follow(body: Any, span: WsgiSpan, file_wrapper: Any) -> Any:
    """Something that ends the span when the body is used up or closed; a body that needs no following comes back untouched."""
    cls = type(body)
    kind = _kinds.get(cls, ...)
    if kind is ...:
        kind = _kind(body, file_wrapper)
        if len(_kinds) < 256:
            _kinds[cls] = kind
    if kind is None:
        if hasattr(body, "read") or hasattr(body, "filelike"):
            span.count_file()
        span.end()
        return body
    followed = object.__new__(kind)
    followed._body, followed._span, followed._next = body, span, None
    return followed


def _kind(body: Any, file_wrapper: Any) -> type[Body] | None:
    """What follows bodies of this type: nothing where nothing of the program runs any more, or where the server looks at the type.

    Those are lists, files that the server sends by itself, Django responses that do not stream, and what is no body at all.
    """
    if isinstance(body, (list, tuple)) or getattr(body, "streaming", None) is False or not hasattr(body, "__iter__"):
        return None
    if file_wrapper is not None and (
        hasattr(body, "read") or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper))
    ):
        return None
    return SizedBody if hasattr(body, "__len__") else Body
