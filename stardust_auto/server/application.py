"""The ASGI application: protocol, console and background work put together."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from stardust_auto.server.api.call import Call
from stardust_auto.server.api.routes import dispatch
from stardust_auto.server.console.routes import Console
from stardust_auto.server.errors import CallError
from stardust_auto.server.faults import Faults
from stardust_auto.server.guard import Guard
from stardust_auto.server.replies import failure
from stardust_auto.server.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store import Store

_log = logging.getLogger("stardust_auto.server")
_PRUNE_SECONDS = 600.0


def create_app(store: Store, settings: ServerSettings | None = None, services: Services | None = None) -> Starlette:
    """The application on an open store; ``app.state.services`` has its parts."""
    parts = services or Services(store, settings or store.settings)

    async def protocol(request: Request) -> Response:
        return await dispatch(request, parts)

    async def notify(websocket: WebSocket) -> None:
        await _notify(websocket, parts)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        parts.hub.bind()
        tasks = [
            asyncio.create_task(_every(_PRUNE_SECONDS, store.prune)),
            asyncio.create_task(_every(1.0, store.instances.write)),
            asyncio.create_task(_planned(parts)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await parts.hub.close()

    console = Console(parts)
    faults = Faults(parts, console.error_page)
    app = Starlette(
        routes=[
            Route("/console", _to_console),
            Mount("/console", routes=console.routes),
            WebSocketRoute("/{path:path}", notify),
            Route("/{path:path}", protocol, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ],
        middleware=[Middleware(Guard, services=parts, faults=faults)],
        exception_handlers={HTTPException: _as_fault},
        lifespan=lifespan,
    )
    app.state.services = parts
    return app


async def _as_fault(_request: Request, error: Exception) -> Response:
    """Let the guard answer: Starlette's own text has no headers, no style and no way back."""
    raise error


async def _to_console(_request: Request) -> Response:
    return RedirectResponse("/console/", 307)


async def _notify(websocket: WebSocket, parts: Services) -> None:
    """The push socket; whoever may not have it gets HTTP 200 with ``code`` 401 (protocol.md §12.1, 4)."""
    if websocket.url.path.lower().rstrip("/") != "/app/notify":
        await websocket.send_denial_response(Response(b"", 404))
        return
    query: dict[str, str] = {}
    for name, value in websocket.query_params.multi_items():
        query.setdefault(name.lower(), value)
    address = websocket.client.host if websocket.client else ""
    call = Call(parts, "GET", query, websocket.headers, b"", address)
    try:
        caller = await run_in_threadpool(call.caller)
    except CallError as error:
        await websocket.send_denial_response(failure(error))
        return
    instances = parts.store.instances

    def alive() -> None:
        parts.touch()
        instances.seen(caller.app.id, caller.client_id, address)

    await websocket.accept()
    alive()
    if await parts.hub.serve(websocket, caller.app.id, caller.client_id, alive):
        instances.leave(caller.app.id, caller.client_id)  # its next ping says that it lives


async def _every(seconds: float, work: Callable[[], object]) -> None:
    while True:
        try:
            await run_in_threadpool(work)
        except Exception:  # noqa: BLE001 - whatever a handler does, the server answers and goes on
            _log.exception("background work failed")
        await asyncio.sleep(seconds)


async def _planned(parts: Services) -> None:
    """Publish what was planned, at its time, and push it (a real StarServer does it within a minute, without a push)."""

    def publish_due() -> None:
        for app_id in parts.releases.due():
            app = next((item for item in parts.store.apps.all() if item.id == app_id), None)
            if app is None:
                continue
            try:
                parts.announce(parts.releases.publish_planned(app))
            except CallError as error:
                _log.warning("planned publish of %s: %s", app.name, error.message)

    await _every(1.0, publish_due)


async def watch_idle(parts: Services, seconds: float, stop: Callable[[], None]) -> None:
    """Call ``stop`` after ``seconds`` without a request and without a push socket."""
    while True:
        idle = parts.store.time.monotonic() - parts.last_activity
        if len(parts.hub):
            idle = 0.0
            parts.touch()
        if idle >= seconds:
            stop()
            return
        await asyncio.sleep(min(max(seconds - idle, 0.05), 30.0))
