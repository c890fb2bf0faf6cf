"""One state per request on a real ASGI server: Starlette on uvicorn, asked over HTTP and a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from websockets.sync.client import connect

from stardust_auto import live
from stardust_auto.config import Live, MemoryClient, StardustConfigMiddleware, StardustSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.websockets import WebSocket

Serve = Callable[[Starlette], str]


class Shop(StardustSettings):
    a: int = 0


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run an application with its lifespan on a free port, in a thread; gives its address."""
    with contextlib.ExitStack() as stack:

        def run(app: Starlette) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield run


def application(config: Live[Shop], client: MemoryClient, ready: list[bool]) -> Starlette:
    def publish_next() -> None:
        client.publish({"a": client.snapshot.values["a"] + "0"})

    async def view(request: Request) -> PlainTextResponse:
        before = config.current.a
        await asyncio.to_thread(publish_next)
        return PlainTextResponse(f"{before} {config.current.a} {await asyncio.to_thread(lambda: config.current.a)}")

    def plain(request: Request) -> PlainTextResponse:  # Starlette runs it in its thread pool
        before = config.current.a
        publish_next()
        return PlainTextResponse(f"{before} {config.current.a}")

    async def stream(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield f"{config.current.a} "
            await asyncio.to_thread(publish_next)
            yield str(config.current.a)

        return StreamingResponse(body())

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        for _ in range(2):
            await socket.send_text(str(config.current.a))
            await asyncio.to_thread(publish_next)
        await socket.close()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        ready.append(config.loaded)
        yield

    return Starlette(
        routes=[
            Route("/async", view),
            Route("/sync", plain),
            Route("/stream", stream),
            WebSocketRoute("/chat", chat),
        ],
        middleware=[Middleware(StardustConfigMiddleware, config=config)],
        lifespan=lifespan,
    )


def test_each_request_has_one_state(serve: Serve) -> None:
    client = MemoryClient({"a": "1"})
    config = live(Shop, client=client)
    ready: list[bool] = []
    place = serve(application(config, client, ready))
    assert requests.get(f"http://{place}/async", timeout=10).text == "1 1 1"
    assert ready == [True], "loaded at start-up, before the application's own lifespan"
    assert requests.get(f"http://{place}/sync", timeout=10).text == "10 10"
    assert requests.get(f"http://{place}/stream", timeout=10).text == "100 100"
    with connect(f"ws://{place}/chat") as chat:
        assert list(chat) == ["1000", "1000"]
    assert config.current.a == 100_000


def test_async_callbacks_run_on_the_loop_of_the_server(serve: Serve) -> None:
    client = MemoryClient({"a": "1"})
    config = live(Shop, client=client)
    told = threading.Event()
    names: list[str] = []

    @config.on_change(lambda s: s.a)
    async def changed(old: int, new: int) -> None:
        names.append(threading.current_thread().name)
        told.set()

    async def where(request: Request) -> PlainTextResponse:
        return PlainTextResponse(threading.current_thread().name)

    app = Starlette(routes=[Route("/where", where)], middleware=[Middleware(StardustConfigMiddleware, config=config)])
    thread = requests.get(f"http://{serve(app)}/where", timeout=10).text
    client.publish({"a": "2"})
    assert told.wait(5)
    assert names == [thread]
