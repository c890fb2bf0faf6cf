"""WSGI: one span for each request, wherever it enters: the servers' call of the application, or the framework's own entry."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.wsgi import routes
from stardust_auto.instrumentation.wsgi.application import responder, traced_application, under_spans

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches

#: Server module -> class (or ``""``), function that gets the application, its position after ``self``, its keyword.
_SERVERS = {
    "werkzeug.serving": ("BaseWSGIServer", "__init__", 2, "app"),
    "waitress.server": ("BaseWSGIServer", "__init__", 0, "application"),
    "cheroot.wsgi": ("Server", "__init__", 1, "wsgi_app"),
    "gevent.pywsgi": ("WSGIServer", "__init__", 1, "application"),
    "eventlet.wsgi": ("", "server", 1, "site"),
}
#: Framework module -> its application class, and what else is wrapped: module, class (or ``""``), function, wrapper.
_FRAMEWORKS: dict[str, tuple[str, tuple[tuple[str, str, str, Any], ...]]] = {
    "flask.app": (
        "Flask",
        (
            ("flask.app", "Flask", "handle_exception", routes.flask),
            ("werkzeug.wrappers.response", "Response", "__call__", routes.werkzeug),
        ),
    ),
    "django.core.handlers.wsgi": (
        "WSGIHandler",
        (
            ("django.core.handlers.base", "BaseHandler", "resolve_request", routes.after(routes.django)),
            ("django.core.handlers.exception", "", "handle_uncaught_exception", routes.failed(2)),
        ),
    ),
    "bottle": (
        "Bottle",
        (
            ("bottle", "Router", "match", routes.after(routes.bottle)),
            ("bottle", "HTTPError", "__init__", routes.failed(3, unless=routes.is_bottle_answer)),
        ),
    ),
    "falcon.app": (
        "App",
        (
            ("falcon.app", "App", "_get_responder", routes.after(routes.falcon)),
            ("falcon.app", "App", "_python_error_handler", routes.failed(3)),
        ),
    ),
    "pyramid.router": (
        "Router",
        (("pyramid.router", "Router", "handle_request", routes.after(routes.pyramid)),),
    ),
}


def _entry(patches: Patches) -> Callable[[Any], Any]:
    """Wrapper of a framework's ``__call__(self, environ, start_response)``."""

    def make(plain: Any) -> Any:
        return functools.wraps(plain)(responder(patches, plain))

    return make


def _server(patches: Patches, position: int, keyword: str) -> Callable[[Any], Any]:
    """Wrapper of a server's function that is given the application."""

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def given(*args: Any, **kwargs: Any) -> Any:
            if patches.tracer is not None:
                if len(args) > position:
                    args = (*args[:position], traced_application(patches, args[position]), *args[position + 1 :])
                elif keyword in kwargs:
                    kwargs[keyword] = traced_application(patches, kwargs[keyword])
            return plain(*args, **kwargs)

        return given

    return make


def _patch_server(module: ModuleType, patches: Patches) -> None:
    owner_name, function, position, keyword = _SERVERS[module.__name__]
    owner = getattr(module, owner_name) if owner_name else module
    patches.wrap(owner, function, _server(patches, position + bool(owner_name), keyword))


def _patch_wsgiref(module: ModuleType, patches: Patches) -> None:
    # A handler is given its application anew for each request: the last one is remembered.
    last: list[tuple[Any, Any]] = [(None, None)]

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def run(self: Any, application: Any) -> Any:
            pair = last[0]
            if pair[0] is not application:
                pair = last[0] = (application, under_spans(patches, application))
            return plain(self, pair[1])

        return run

    patches.wrap(module.BaseHandler, "run", make)


def _patch_gunicorn(module: ModuleType, patches: Patches) -> None:
    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def wsgi(self: Any) -> Any:
            return traced_application(patches, plain(self))

        return wsgi

    patches.wrap(module.BaseApplication, "wsgi", make)


def _patch_mod_wsgi(module: ModuleType, patches: Patches) -> None:
    """mod_wsgi calls the application from C. Who subscribes to its events may say what is called instead."""
    last: list[tuple[Any, Any]] = [(None, None)]

    def event(name: str, **details: Any) -> dict[str, Any] | None:
        application = details.get("application_object")
        if name != "request_started" or application is None or patches.tracer is None:
            return None
        pair = last[0]
        if pair[0] is not application:
            pair = last[0] = (application, traced_application(patches, application))
        return {"application_object": pair[1]}

    if hasattr(module, "subscribe_events"):  # not in the package that only builds and starts the server
        module.subscribe_events(event)


def _patch_framework(module: ModuleType, patches: Patches) -> None:
    entry, others = _FRAMEWORKS[module.__name__]
    patches.wrap(getattr(module, entry), "__call__", _entry(patches))
    for name, owner_name, function, wrapper in others:
        owner: Any = patches.module(name)
        owner = getattr(owner, owner_name, None) if owner_name else owner
        if owner is not None and function in vars(owner):
            patches.wrap(owner, function, functools.partial(wrapper, patches))


INTEGRATION = Integration(
    name="wsgi",
    targets={
        **dict.fromkeys(_SERVERS, _patch_server),
        **dict.fromkeys(_FRAMEWORKS, _patch_framework),
        "gunicorn.app.base": _patch_gunicorn,
        "wsgiref.handlers": _patch_wsgiref,
        "mod_wsgi": _patch_mod_wsgi,
    },
    supports={"flask": (1, 0), "django": (2, 2), "werkzeug": (1, 0), "gunicorn": (19, 9)},
)
