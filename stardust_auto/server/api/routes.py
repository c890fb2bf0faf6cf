"""Paths, whatever their case, to handlers; exceptions to answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from stardust_auto.server.api import apps, commands, configs, health, oauth, services, traces
from stardust_auto.server.api.call import Call
from stardust_auto.server.replies import json_response, success

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from stardust_auto.server.services import Services

_GET = ("GET", "HEAD")
_POST = ("POST",)
_BOTH = ("GET", "HEAD", "POST")


@dataclass(frozen=True, slots=True)
class _Route:
    methods: tuple[str, ...]
    handler: Callable[[Call], Any] | None = None
    waits: Callable[[Call], Awaitable[Any]] | None = None
    #: The answer has no envelope.
    large: Callable[[Call], object] | None = None
    """Who may send a large body; called before the body is read."""
    bare: bool = False


_ROUTES: dict[str, _Route] = {
    "/": _Route(_GET, health.root, bare=True),
    "/api": _Route(_BOTH, health.api),
    "/api/all": _Route(_BOTH, health.api),
    "/app/login": _Route(_POST, apps.login),
    "/app/register": _Route(_POST, apps.register),
    "/app/secret": _Route(_POST, apps.keep_secret),
    "/app/check": _Route(_POST, apps.check),
    "/app/ping": _Route(_BOTH, apps.ping),
    "/app/logout": _Route(_BOTH, apps.logout),
    "/app/postevents": _Route(_POST, apps.post_events),
    "/app/commandreply": _Route(_POST, commands.reply),
    "/app/sendcommand": _Route(_POST, waits=commands.send),
    "/app/registerservice": _Route(_POST, services.register),
    "/app/unregisterservice": _Route(_POST, services.unregister),
    "/app/resolveservice": _Route(_POST, services.resolve),
    "/app/searchservice": _Route(_POST, services.search),
    "/trace/report": _Route(_POST, traces.report, large=traces.reporter),
    "/trace/reportraw": _Route(_POST, traces.report_raw, large=traces.reporter),
    "/trace/sethotapp": _Route(_POST, traces.set_hot_app, bare=True),
    "/trace/tree": _Route(_GET, traces.tree),
    "/config/getall": _Route(_BOTH, configs.get_all),
    "/config/setall": _Route(_POST, configs.set_all),
    "/oauth/token": _Route(_BOTH, oauth.token),
    "/oauth/userinfo": _Route(_BOTH, oauth.user_info),
    "/log": _Route(_POST, apps.log_lines, bare=True),
}


def read_call(request: Request, body: bytes, parts: Services) -> Call:
    """The call in a request. The address is that of the socket, since any client can write a header (protocol.md §11)."""
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        query.setdefault(name.lower(), value)
    address = request.client.host if request.client else ""
    return Call(parts, request.method, query, request.headers, body, address)


async def dispatch(request: Request, parts: Services) -> Response:
    """Answer one request of the protocol."""
    path = request.url.path.lower().rstrip("/") or "/"
    if path == "/app/notify":
        return await _notify_without_upgrade(request, parts)
    route = _ROUTES.get(path)
    if route is None:
        return Response(b"", 404)
    if request.method not in route.methods:
        return Response(b"", 405, headers={"Allow": ", ".join(route.methods)})
    if route.large:  # a stranger must not make the server hold a large body
        await run_in_threadpool(route.large, read_call(request, b"", parts))
    call = read_call(request, await request.body(), parts)
    if route.waits is not None:
        return success(await route.waits(call))
    return await run_in_threadpool(_answer, route, call)


def _answer(route: _Route, call: Call) -> Response:
    """Runs in a thread, so that the work and the encoding of a large answer do not block other connections."""
    data = route.handler(call) if route.handler is not None else None
    if not route.bare:
        return success(data)
    return json_response(data) if data is not None else Response(b"", 200)


async def _notify_without_upgrade(request: Request, parts: Services) -> Response:
    await run_in_threadpool(read_call(request, b"", parts).caller)
    return json_response({"code": 0, "data": {}}, 400)
