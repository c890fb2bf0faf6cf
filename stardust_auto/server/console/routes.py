"""Routes below ``/console``, and who may use them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, Route

from stardust_auto.server.console import admin
from stardust_auto.server.console.access import Access, same_origin
from stardust_auto.server.console.pages import Pages
from stardust_auto.server.errors import CallError
from stardust_auto.server.replies import json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from stardust_auto.server.services import Services

_API: tuple[tuple[str, str, Callable[[admin.AdminCall], Any]], ...] = (
    ("GET", "/apps", admin.apps),
    ("POST", "/apps/{app}", admin.update_app),
    ("DELETE", "/apps/{app}", admin.delete_app),
    ("POST", "/apps/{app}/secret", admin.set_secret),
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


class Console:
    """The pages and the JSON interface of one server."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._access = Access(services)
        self._pages = Pages(services, self._access)
        by_path: dict[str, dict[str, Callable[[admin.AdminCall], Any]]] = {}
        for method, path, handler in _API:
            by_path.setdefault(path, {})[method] = handler
        api = [Route(f"/api{path}", self._endpoint(found), methods=[*found]) for path, found in by_path.items()]
        self.routes: list[BaseRoute] = [Route("/proof", self._proof), *api, *self._pages.routes()]
        self.error_page = self._pages.error_page

    async def _proof(self, request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not 16 <= len(nonce) <= 100:
            raise CallError(400, "nonce must have 16 to 100 characters")
        host, port = request.scope["server"]
        return json_response({"proof": self._access.proof(nonce, host, port), "instance": self._services.instance[:8]})

    def _endpoint(
        self, handlers: dict[str, Callable[[admin.AdminCall], Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            session = await self._access.session(request)
            if session is None:
                return json_response({"error": "the administrator's key is missing or wrong"}, 401)
            method = "GET" if request.method == "HEAD" else request.method
            if method != "GET" and session.token and not same_origin(request):
                raise CallError(403, "refused: sent from another site")
            body = _object(request, await request.body()) if method != "GET" else {}
            call = admin.AdminCall(self._services, request.path_params, dict(request.query_params), body)
            return await run_in_threadpool(lambda: json_response(handlers[method](call)))

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
    except (ValueError, RecursionError) as error:
        raise CallError(400, "the body is no JSON") from error
    if not isinstance(value, dict):
        raise CallError(400, "the body must be a JSON object")
    return value
