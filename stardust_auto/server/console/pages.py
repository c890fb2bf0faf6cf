"""The pages. Everything is rendered here; the script in `static` only saves a click or two."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stardust_auto.server.console import actions, views
from stardust_auto.server.console.access import Session, form_genuine, same_origin
from stardust_auto.server.console.i18n import COOKIE, LANGUAGES, language_of, translate
from stardust_auto.server.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from stardust_auto.server.console.access import Access
    from stardust_auto.server.services import Services

    View = Callable[[Services, Mapping[str, str], Mapping[str, str]], views.Page]
    Endpoint = Callable[[Request], Awaitable[Response]]
    Action = Callable[[Services, Mapping[str, str], Mapping[str, str]], str]

_log = logging.getLogger("stardust_auto.server")
_HERE = Path(__file__).parent
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser would send our own forms with Origin: null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ASSETS = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
_NOTES = {
    "saved": "Saved.",
    "staged": "Staged: publish to make it live.",
    "published": "Published and pushed to the running instances.",
    "planned": "Planned.",
    "unplanned": "The plan is cancelled.",
    "discarded": "Discarded.",
    "reset": "The next login is issued a new secret.",
}
_FORM_LIMIT = 2_000_000


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(views.FILTERS)
    return environment


class Pages:
    """Renders views and carries out forms, for whoever has a session."""

    def __init__(self, services: Services, access: Access) -> None:
        self._services = services
        self._access = access
        self._environment = _environment()

    def render(
        self, request: Request, template: str, status: int = 200, session: Session | None = None, **values: Any
    ) -> Response:
        """A page in the language of the browser."""
        language = language_of(request)

        def localised(text: str) -> str:
            return translate(text, language)

        note = _NOTES.get(request.query_params.get("done", ""), "")
        defaults: dict[str, Any] = {
            "t": localised,
            "language": language,
            "languages": LANGUAGES,
            "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            "form_token": session.token if session else "",
            "signed_in": session is not None,
            "note": localised(note) if note else "",
            "error": "",
            "section": "",
        }
        html = self._environment.get_template(template).render({**defaults, **values})
        return HTMLResponse(html, status, headers=_HEADERS)

    def view(self, make: View) -> Endpoint:
        """The endpoint of a page."""

        async def endpoint(request: Request) -> Response:
            session = self._access.session(request)
            if session is None:
                return RedirectResponse("/console/login", 303, headers=_HEADERS)
            return await self._show(request, session, make, dict(request.path_params))

        return endpoint

    async def _show(
        self,
        request: Request,
        session: Session,
        make: View,
        path: Mapping[str, str],
        failed: CallError | None = None,
    ) -> Response:
        def work() -> Response:
            try:
                page = make(self._services, path, dict(request.query_params))
            except CallError as exc:
                return self.render(request, "error.html", _status(exc), session, error=exc.message)
            if failed is None:
                return self.render(request, page.template, 200, session, **page.values)
            values = {**page.values, "error": failed.message}
            return self.render(request, page.template, _status(failed), session, **values)

        return await run_in_threadpool(work)

    def form(
        self,
        act: Action,
        back: View,
    ) -> Endpoint:
        """The endpoint of a form: carried out, then the page it came from."""

        async def endpoint(request: Request) -> Response:
            session = self._access.session(request)
            if session is None:
                return RedirectResponse("/console/login", 303, headers=_HEADERS)
            path = {name: str(value) for name, value in request.path_params.items()}
            fields = await _fields(request)
            if not same_origin(request) or not form_genuine(session, fields.get("form_token", "")):
                stale = CallError(403, translate("The page has expired: try again.", language_of(request)))
                return await self._show(request, session, back, path, stale)
            try:
                target = await run_in_threadpool(act, self._services, path, fields)
            except CallError as exc:
                return await self._show(request, session, back, path, exc)
            return RedirectResponse(target, 303, headers=_HEADERS)

        return endpoint

    async def sign_in(self, request: Request) -> Response:
        """GET shows the form, POST takes the key."""
        if request.method != "POST":
            return self.render(request, "login.html")
        fields = await _fields(request)
        if not same_origin(request) or not self._access.key_matches(fields.get("key", "")):
            error = translate("This key is wrong.", language_of(request))
            return self.render(request, "login.html", 403, error=error)
        response = RedirectResponse("/console/", 303, headers=_HEADERS)
        self._access.sign_in(response, secure=request.url.scheme == "https")
        return response

    async def sign_out(self, request: Request) -> Response:
        """The cookie goes."""
        response = RedirectResponse("/console/login", 303, headers=_HEADERS)
        session = self._access.session(request)
        if session is not None and form_genuine(session, (await _fields(request)).get("form_token", "")):
            self._access.sign_out(response)
        return response

    async def language(self, request: Request) -> Response:
        """Remember a language and go back."""
        back = request.query_params.get("back", "")
        safe = back if back.startswith("/console/") and "\\" not in back and "//" not in back else "/console/"
        response = RedirectResponse(safe, 303, headers=_HEADERS)
        wanted = request.query_params.get("to", "")
        if wanted in LANGUAGES:
            response.set_cookie(COOKIE, wanted, max_age=31_536_000, path="/console", httponly=True, samesite="strict")
        return response

    async def asset(self, request: Request) -> Response:
        """Style, script, icon: from the package, never from elsewhere."""
        name = request.path_params["name"]
        kind = _ASSETS.get(name)
        if kind is None:
            return Response(b"", 404)
        body = await run_in_threadpool((_HERE / "static" / name).read_bytes)
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return Response(body, media_type=kind, headers=headers)


def _status(error: CallError) -> int:
    return error.code if 400 <= error.code < 500 else 500


async def _fields(request: Request) -> dict[str, str]:
    body = await request.body()
    if len(body) > _FORM_LIMIT:
        return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000))


def page_routes(services: Services, access: Access) -> list[BaseRoute]:
    """Routes of the pages, relative to `/console`."""
    pages = Pages(services, access)

    def page(path: str, make: View) -> Route:
        return Route(path, pages.view(make), methods=["GET"])

    def form(
        path: str,
        act: Action,
        back: View,
    ) -> Route:
        return Route(path, pages.form(act, back), methods=["POST"])

    return [
        Route("/", pages.view(views.applications), methods=["GET"]),
        Route("/login", pages.sign_in, methods=["GET", "POST"]),
        Route("/logout", pages.sign_out, methods=["POST"]),
        Route("/language", pages.language, methods=["GET"]),
        Route("/static/{name}", pages.asset, methods=["GET"]),
        page("/apps/{app}", views.application),
        page("/traces", views.traces),
        page("/traces/{id}", views.trace),
        page("/config", views.config_index),
        page("/config/{app}", views.config),
        form("/apps/{app}", actions.save_policy, views.application),
        form("/apps/{app}/reset", actions.reset_secret, views.application),
        form("/config", actions.open_config, views.config_index),
        form("/config/{app}/stage", actions.stage, views.config),
        form("/config/{app}/publish", actions.publish, views.config),
        form("/config/{app}/unplan", actions.unplan, views.config),
        form("/config/{app}/discard", actions.discard, views.config),
        form("/config/{app}/rollback", actions.rollback, views.config),
        form("/config/{app}/settings", actions.share, views.config),
    ]
