"""The pages. Everything is rendered here; the script in ``static`` only saves a click or two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

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
_NOTES = {
    "saved": "Saved.",
    "staged": "Staged: publish to make it live.",
    "published": "Published and pushed to the running instances.",
    "planned": "Planned.",
    "unplanned": "The plan is cancelled.",
    "discarded": "Discarded.",
    "deleted": "The application is deleted.",
    "reset": "The next login is issued a new secret.",
}
_NOTHING_TYPED = {"key": "", "scope": "", "value": ""}
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
    environment.globals.update(views.FUNCTIONS)
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

        def kind(text: str) -> str:
            """What a release was: words, and then a number or a name."""
            words = next(
                (item for item in ("rollback to", "shared change of", "settings of") if text.startswith(item)), text
            )
            return translate(words, language) + text[len(words) :]

        note = _NOTES.get(request.query_params.get("done", ""), "")
        defaults: dict[str, Any] = {
            "t": localised,
            "kind": kind,
            "language": language,
            "languages": LANGUAGES,
            "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            "form_token": session.token if session else "",
            "signed_in": session is not None,
            "open_to": self._services.settings.open_to,
            "note": localised(note) if note else "",
            "error": "",
            "section": "",
            "typed": _NOTHING_TYPED,
        }
        html = self._environment.get_template(template).render({**defaults, **values})
        return HTMLResponse(html, status, headers=_HEADERS)

    def error_page(self, request: Request, status: int, message: str) -> Response:
        """The page of an error, for whoever asked; it tells a stranger nothing but that."""
        return self.render(request, "error.html", status, error=translate(message, language_of(request)))

    def view(self, make: View) -> Endpoint:
        """The endpoint of a page."""

        async def endpoint(request: Request) -> Response:
            session = await self._access.session(request)
            if session is None:
                return self._to_login(request)
            return await self._show(request, session, make, dict(request.path_params))

        return endpoint

    def _to_login(self, request: Request) -> Response:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        query = f"?{urlencode({'next': wanted})}" if request.method == "GET" and wanted != "/console/" else ""
        return RedirectResponse(f"/console/login{query}", 303, headers=_HEADERS)

    async def _show(
        self,
        request: Request,
        session: Session,
        make: View,
        path: Mapping[str, str],
        failed: CallError | None = None,
        typed: Mapping[str, str] | None = None,
    ) -> Response:
        def work() -> Response:
            page = make(self._services, path, dict(request.query_params))
            if failed is None:
                return self.render(request, page.template, 200, session, **page.values)
            error = translate(failed.message, language_of(request))
            values = {**page.values, "error": error, "typed": {**_NOTHING_TYPED, **(typed or {})}}
            return self.render(request, page.template, _status(failed), session, **values)

        return await run_in_threadpool(work)

    def form(self, act: Action, back: View) -> Endpoint:
        """The endpoint of a form: carried out, then the page that it came from. What was typed survives a refusal."""

        async def endpoint(request: Request) -> Response:
            path = {name: str(value) for name, value in request.path_params.items()}
            session = await self._access.session(request)
            if session is None:
                return self._to_login(request)
            fields = await _fields(request)
            if not same_origin(request) or not form_genuine(session, fields.get("form_token", "")):
                stale = CallError(403, "The page has expired: try again.")
                return await self._show(request, session, back, path, stale, fields)
            try:
                target = await run_in_threadpool(act, self._services, path, fields)
            except CallError as error:
                return await self._show(request, session, back, path, error, fields)
            return RedirectResponse(target, 303, headers=_HEADERS)

        return endpoint

    async def sign_in(self, request: Request) -> Response:
        """GET shows the form, POST takes the key and goes where the browser wanted to go."""
        wanted = _inside(request.query_params.get("next", ""))
        if request.method != "POST":
            return self.render(request, "login.html", next=wanted)
        fields = await _fields(request)
        wanted = _inside(fields.get("next", ""))
        address = request.client.host if request.client else ""
        if not same_origin(request) or not await self._access.key_matches(fields.get("key", ""), address):
            error = translate("This key is wrong.", language_of(request))
            return self.render(request, "login.html", 403, error=error, next=wanted)
        response = RedirectResponse(wanted, 303, headers=_HEADERS)
        self._access.sign_in(response, secure=request.url.scheme == "https")
        return response

    async def sign_out(self, request: Request) -> Response:
        """The session ends."""
        response = RedirectResponse("/console/login", 303, headers=_HEADERS)
        session = await self._access.session(request)
        if session is not None and form_genuine(session, (await _fields(request)).get("form_token", "")):
            await self._access.sign_out(response, session)
        return response

    async def language(self, request: Request) -> Response:
        """Remember a language and go back."""
        response = RedirectResponse(_inside(request.query_params.get("back", "")), 303, headers=_HEADERS)
        wanted = request.query_params.get("to", "")
        if wanted in LANGUAGES:
            response.set_cookie(COOKIE, wanted, max_age=31_536_000, path="/console", httponly=True, samesite="strict")
        return response

    def routes(self) -> list[BaseRoute]:
        """Routes of the pages, relative to ``/console``."""

        def page(path: str, make: View) -> Route:
            return Route(path, self.view(make), methods=["GET"])

        def form(path: str, act: Action, back: View) -> Route:
            return Route(path, self.form(act, back), methods=["POST"])

        return [
            page("/", views.applications),
            Route("/login", self.sign_in, methods=["GET", "POST"]),
            Route("/logout", self.sign_out, methods=["POST"]),
            Route("/language", self.language, methods=["GET"]),
            Mount("/static", _Assets(directory=_HERE / "static")),
            page("/apps/{app}", views.application),
            page("/traces", views.traces),
            page("/traces/{id}", views.trace),
            page("/config", views.config_index),
            page("/config/{app}", views.config),
            form("/apps/{app}", actions.save_policy, views.application),
            form("/apps/{app}/reset", actions.reset_secret, views.application),
            form("/apps/{app}/delete", actions.delete, views.application),
            form("/config", actions.open_config, views.config_index),
            form("/config/{app}/stage", actions.stage, views.config),
            form("/config/{app}/publish", actions.publish, views.config),
            form("/config/{app}/unplan", actions.unplan, views.config),
            form("/config/{app}/discard", actions.discard, views.config),
            form("/config/{app}/rollback", actions.rollback, views.config),
            form("/config/{app}/settings", actions.share, views.config),
        ]


class _Assets(StaticFiles):
    """Style, script, icon: from the package, never from elsewhere; asked for again with the ETag only."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _inside(address: str) -> str:
    """An address of the console, else its home: a link must not lead out of here."""
    safe = address.startswith("/console/") and "\\" not in address and "//" not in address
    return address if safe else "/console/"


def _status(error: CallError) -> int:
    return error.code if 400 <= error.code < 500 else 500


async def _fields(request: Request) -> dict[str, str]:
    body = await request.body()
    if len(body) > _FORM_LIMIT:
        return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000))
