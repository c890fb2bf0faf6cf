"""Routes below `/console`, and who may use them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, Route

from stardust_auto.server.console import admin
from stardust_auto.server.console.access import Access, same_origin
from stardust_auto.server.console.pages import page_routes
from stardust_auto.server.errors import CallError
from stardust_auto.server.replies import json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from stardust_auto.server.services import Services

_log = logging.getLogger("stardust_auto.server")
_API: tuple[tuple[str, str, Callable[[admin.AdminCall], Any]], ...] = (
    ("GET", "/apps", admin.apps),
    ("POST", "/apps/{app}", admin.update_app),
    ("GET", "/apps/{app}/operations", admin.operations),
    ("GET", "/apps/{app}/events", admin.events),
    ("GET", "/traces", admin.traces),
    ("GET", "/traces/{id}", admin.trace),
    ("GET", "/config/{app}", admin.config),
    ("PUT", "/config/{app}", admin.stage_config),
    ("POST", "/config/{app}/publish", admin.publish),
    ("POST", "/config/{app}/unplan", admin.unplan),
    ("POST", "/config/{app}/discard", admin.discard),
    ("GET", "/config/{app}/history", admin.history),
    ("POST", "/config/{app}/rollback", admin.rollback),
    ("POST", "/config/{app}/settings", admin.configure),
)


def console_routes(services: Services) -> list[BaseRoute]:
    """Everything below `/console`."""
    access = Access(services)

    async def proof(request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not 16 <= len(nonce) <= 100:
            return json_response({"error": "nonce must have 16 to 100 characters"}, 400)
        return json_response({"proof": access.proof(nonce), "instance": services.instance[:8]})

    routes: list[BaseRoute] = [Route("/proof", proof)]
    by_path: dict[str, dict[str, Callable[[admin.AdminCall], Any]]] = {}
    for method, path, handler in _API:
        by_path.setdefault(path, {})[method] = handler
    routes += [
        Route(f"/api{path}", _endpoint(services, access, by_path[path]), methods=[*by_path[path]]) for path in by_path
    ]
    return routes + page_routes(services, access)


def _endpoint(
    services: Services, access: Access, handlers: dict[str, Callable[[admin.AdminCall], Any]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        session = access.session(request)
        if session is None:
            return json_response({"error": "the administrator's key is missing or wrong"}, 401)
        method = "GET" if request.method == "HEAD" else request.method
        if method != "GET" and session.token and not same_origin(request):
            return json_response({"error": "refused: sent from another site"}, 403)
        try:
            body = _object(request, await request.body()) if method != "GET" else {}
            call = admin.AdminCall(services, request.path_params, dict(request.query_params), body)
            return await run_in_threadpool(lambda: json_response(handlers[method](call)))
        except CallError as exc:
            return json_response({"error": exc.message}, exc.code if 400 <= exc.code < 500 else 500)
        except Exception:  # noqa: BLE001 - whatever a handler does, the server answers and goes on
            _log.exception("%s %s failed", request.method, request.url.path)
            return json_response({"error": "internal error of the server"}, 500)

    return endpoint


def _object(request: Request, body: bytes) -> dict[str, Any]:
    """The JSON object of a body. A page of another site cannot send this content type without asking first."""
    if not body.strip():
        return {}
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise CallError(415, "the body must be application/json")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise CallError(400, "the body is no JSON") from exc
    if not isinstance(value, dict):
        raise CallError(400, "the body must be a JSON object")
    return value
