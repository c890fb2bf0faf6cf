"""One settings state per request, for WSGI, ASGI and Django: what a request reads first is what it reads last."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stardust_auto.config.live.handle import Live

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
WSGIApp = Callable[..., Iterable[bytes]]


class StardustConfigMiddleware:
    """ASGI: ``app.add_middleware(StardustConfigMiddleware, config=config)``.

    The first load runs in a thread at start-up (or before the first request), so the event loop never waits for the center; async
    callbacks without a loop of their own run on the server's.
    """

    def __init__(self, app: ASGIApp, *, config: Live[Any]) -> None:
        self.app = app
        self.config = config
        self._loading: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._load()
            await self.app(scope, receive, send)
            return
        await self._load()
        with self.config.pin():
            await self.app(scope, receive, send)

    async def _load(self) -> None:
        if self.config.loaded:
            return
        if self._loading is None or (self._loading.done() and not self.config.loaded):
            self._loading = asyncio.ensure_future(self.config.start_async())
        await asyncio.shield(self._loading)


class StardustConfigWSGIMiddleware:
    """WSGI: ``app = StardustConfigWSGIMiddleware(app, config=config)``. The body is made under the same state as its headers."""

    def __init__(self, app: WSGIApp, *, config: Live[Any]) -> None:
        self.app = app
        self.config = config

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self.config.pin():
            body = self.app(environ, start_response)
            if isinstance(body, (list, tuple)) or type(body) is environ.get("wsgi.file_wrapper"):
                return body
            return _PinnedBody(body, self.config)


class _PinnedBody:
    """The body of one response; each step runs with the state of the request."""

    def __init__(self, body: Iterable[bytes], config: Live[Any]) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._iter = config.bind(self._begin)
        self._step = config.bind(self._advance)

    def _begin(self) -> Iterator[bytes]:
        return iter(self._body)

    def _advance(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._begin()
        return next(self._iterator)

    def __iter__(self) -> _PinnedBody:
        if self._iterator is None:
            self._iterator = self._iter()
        return self

    def __next__(self) -> bytes:
        return self._step()

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def django_middleware(config: Live[Any]) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """A Django middleware factory, sync and async: ``pin_settings = django_middleware(config)``, then name it in ``MIDDLEWARE``."""

    def factory(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if inspect.iscoroutinefunction(get_response) or asyncio.iscoroutinefunction(get_response):

            async def pinned_async(request: Any) -> Any:
                if not config.loaded:
                    await config.start_async()
                with config.pin():
                    return await get_response(request)

            return pinned_async

        def pinned(request: Any) -> Any:
            with config.pin():
                return get_response(request)

        return pinned

    factory.sync_capable = True  # type: ignore[attr-defined]  # how Django asks a factory what it can do
    factory.async_capable = True  # type: ignore[attr-defined]  # as above
    return factory
