"""One state per request, for WSGI, ASGI and Django; and a handle as a dependency."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from stardust_auto import live
from stardust_auto.config import (
    MemoryClient,
    StardustConfigMiddleware,
    StardustConfigWSGIMiddleware,
    StardustSettings,
    django_middleware,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Shop(StardustSettings):
    a: int = 0


def test_wsgi_pins_the_call_and_the_body() -> None:
    client = MemoryClient({"a": 1})
    config = live(Shop, client=client)
    closed: list[int] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield str(config.current.a).encode()
            client.publish({"a": 3})
            yield str(config.current.a).encode()

        def close(self) -> None:
            closed.append(1)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        first = config.current.a
        client.publish({"a": 2})
        assert config.current.a == first
        return Body()

    wrapped = StardustConfigWSGIMiddleware(app, config=config)
    body = wrapped({}, lambda *_: None)
    assert list(body) == [b"1", b"1"]
    body.close()  # type: ignore[attr-defined]  # a WSGI body may have it
    assert closed == [1]
    assert config.current.a == 3


def test_wsgi_leaves_lists_and_file_wrappers_as_they_are() -> None:
    config = live(Shop, client=MemoryClient({}))
    answer = [b"x"]

    class FileWrapper:
        def __iter__(self) -> Iterator[bytes]:
            return iter((b"f",))

    wrapper = FileWrapper()
    assert StardustConfigWSGIMiddleware(lambda *_: answer, config=config)({}, None) is answer  # type: ignore[arg-type]  # not called
    environ = {"wsgi.file_wrapper": FileWrapper}
    assert StardustConfigWSGIMiddleware(lambda *_: wrapper, config=config)(environ, None) is wrapper  # type: ignore[arg-type]  # not called


def test_asgi_pins_each_request_and_loads_off_the_loop() -> None:
    client = MemoryClient({"a": 1})
    config = live(Shop, client=client)
    built_on: list[threading.Thread] = []
    start = config.start

    def noted(timeout: float | None = None) -> Any:
        built_on.append(threading.current_thread())
        return start(timeout)

    config.start = noted  # type: ignore[method-assign]  # to see the thread
    seen: list[tuple[int, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        before = config.current.a
        await asyncio.to_thread(client.publish, {"a": before + 1})
        seen.append((before, config.current.a))

    async def main() -> None:
        middleware = StardustConfigMiddleware(app, config=config)

        async def nothing(*_: Any) -> Any:
            return {}

        await asyncio.gather(
            middleware({"type": "lifespan"}, nothing, nothing), middleware({"type": "lifespan"}, nothing, nothing)
        )
        await middleware({"type": "http"}, nothing, nothing)
        await middleware({"type": "websocket"}, nothing, nothing)

    asyncio.run(main())
    assert seen == [(1, 1), (2, 2)]
    assert config.current.a == 3
    assert len(built_on) == 1
    assert built_on[0] is not threading.main_thread()


@pytest.fixture(scope="module")
def configured() -> None:
    if not django_settings.configured:
        django_settings.configure(ALLOWED_HOSTS=["*"], DEBUG=False)
        django.setup()


@pytest.mark.usefixtures("configured")
def test_django_pins_sync_and_async_views() -> None:
    client = MemoryClient({"a": 1})
    config = live(Shop, client=client)
    factory = django_middleware(config)
    assert (factory.sync_capable, factory.async_capable) == (True, True)  # type: ignore[attr-defined]  # Django's protocol

    def view(request: HttpRequest) -> HttpResponse:
        before = config.current.a
        client.publish({"a": before + 1})
        return HttpResponse(f"{before} {config.current.a}")

    async def async_view(request: HttpRequest) -> HttpResponse:
        return view(request)

    assert factory(view)(RequestFactory().get("/")).content == b"1 1"
    answer = factory(async_view)
    assert inspect.iscoroutinefunction(answer)
    assert asyncio.run(answer(AsyncRequestFactory().get("/"))).content == b"2 2"
    assert config.current.a == 3


def test_a_handle_is_a_dependency() -> None:
    """FastAPI calls a dependency with the parameters of its signature: there are none, and the result is typed."""
    config = live(Shop, client=MemoryClient({"a": 1}))
    assert inspect.signature(config).parameters == {}
    assert callable(config)
    assert config() is config.current
