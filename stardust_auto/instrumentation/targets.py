"""Which modules are worth waiting for, and the integration that patches each: a table and nothing else, read at every start."""

from __future__ import annotations

TARGETS = {
    "requests": "requests",
    "urllib3": "urllib3",
    "httpx": "httpx",
    "httpcore": "httpx",
    "sqlite3": "sqlite3",
    "psycopg": "psycopg",
    "redis": "redis",
    "wsgiref.handlers": "wsgi",
    "werkzeug.serving": "wsgi",
    "waitress.server": "wsgi",
    "gunicorn.app.base": "wsgi",
    "cheroot.wsgi": "wsgi",
    "gevent.pywsgi": "wsgi",
    "eventlet.wsgi": "wsgi",
    "mod_wsgi": "wsgi",
    "flask.app": "wsgi",
    "django.core.handlers.wsgi": "wsgi",
    "bottle": "wsgi",
    "falcon.app": "wsgi",
    "pyramid.router": "wsgi",
    "uvicorn.protocols.http.h11_impl": "asgi",
    "uvicorn.protocols.http.httptools_impl": "asgi",
    "hypercorn.app_wrappers": "asgi",
    "starlette.applications": "asgi",
    "fastapi.routing": "asgi",
    "django.core.handlers.asgi": "asgi",
    "threading": "threads",
    "concurrent.futures.thread": "threads",
    "rq.worker": "rq",
    "celery.signals": "celery",
    "celery.app.base": "celery",
}
#: Activation does not wait for these: they are hooked when the first of the others is imported. Nearly every program imports the first
#: two. mod_wsgi gives its module what matters after the import, httpx sends with httpcore, and rq only ends processes.
COMPANIONS = frozenset(("threading", "concurrent.futures.thread", "mod_wsgi", "httpcore", "rq.worker"))

#: Names that activation waits for.
TARGET_MODULES = tuple(name for name in TARGETS if name not in COMPANIONS)
