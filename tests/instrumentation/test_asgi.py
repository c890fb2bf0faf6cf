"""An ASGI application cannot tell, and each HTTP request is one span: bare, under Starlette, FastAPI, Django, behind uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import threading
from typing import Any

import httpx
import pytest
import requests

from stardust_auto.instrumentation.kit.inbound import KEY
from stardust_auto.process.context import suppressed


def scope_of(path="/a/b", **more):
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": ("10.0.0.9", 1234),
        "server": ("test", 80),
        "scheme": "http",
        **more,
    }


async def exchanged(app, scope):
    """What a server saw of one request: messages, and the error, if any."""
    messages, received = [], [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if received:
            return received.pop()
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)

    try:
        await app(scope, receive, send)
    except Exception as error:
        return messages, type(error), str(error), error.__cause__
    return messages


def served(app, path="/a/b", **more):
    scope = scope_of(path, **more)
    keys = set(scope)
    seen = asyncio.run(exchanged(app, scope))
    assert KEY not in scope
    assert keys <= set(scope)
    return seen


def requests_of(trace):
    return [span for span in trace.spans if span.name.startswith("/")]


def starlette_app(**options):
    from starlette.applications import Starlette
    from starlette.background import BackgroundTasks
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Mount, Route

    async def item(request):
        return PlainTextResponse(f"item {request.path_params['number']}")

    def threaded(request):
        return PlainTextResponse("from a thread")

    async def boom(request):
        raise ZeroDivisionError("boom")

    async def stream(request):
        async def pieces():
            yield b"a"
            await asyncio.sleep(0.05)
            yield b"b"

        return StreamingResponse(pieces())

    async def later(request):
        tasks = BackgroundTasks()
        tasks.add_task(work, 0.05)
        return PlainTextResponse("done", background=tasks)

    routes = [
        Route("/items/{number:int}", item),
        Route("/threaded", threaded),
        Route("/boom", boom),
        Route("/stream", stream),
        Route("/later", later),
        Mount("/shop", routes=[Route("/items/{number:int}", item)]),
    ]
    return Starlette(routes=routes, **options)


async def work(seconds):
    await asyncio.sleep(seconds)


def test_starlette(same):
    app = starlette_app()

    def probe():
        return [
            served(app, path)
            for path in ("/items/1", "/items/2", "/shop/items/3", "/threaded", "/boom", "/stream", "/nope")
        ]

    trace = same(probe)
    names = ["/items/{number:int}", "/items/{number:int}", "/shop/items/{number:int}", "/threaded", "/boom", "/stream"]
    assert [span.name for span in requests_of(trace)] == names
    assert trace.named("/boom").error.startswith("ZeroDivisionError: boom")
    assert trace.named("/stream").duration_ns >= 50_000_000
    assert trace.named("/stream").value == 2
    assert trace.named("/shop/items/{number:int}").tag == "10.0.0.9 GET /shop/items/3\r\nstatus: 200"


def test_background_work_is_not_part_of_the_request(trace):
    served(starlette_app(), "/later")
    request, task = trace.named("/later"), trace.named(f"task:{work.__module__}.work")
    assert request.duration_ns < 50_000_000 <= task.duration_ns
    assert (task.trace_id, task.parent_id) == (request.trace_id, request.id)


def test_middleware_and_the_stack_stay_as_they_are(same):
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            response = await call_next(request)
            response.headers["X-Outer"] = "1"
            return response

    def probe():
        app = starlette_app(middleware=[Middleware(Outer)])
        seen = served(app, "/items/1"), served(app, "/boom")
        return seen, [middleware.cls for middleware in app.user_middleware], type(app.middleware_stack).__name__

    trace = same(probe)
    assert [span.name for span in requests_of(trace)] == ["/items/{number:int}", "/boom"]


def fastapi_app():
    import fastapi

    app = fastapi.FastAPI()
    router = fastapi.APIRouter(prefix="/v1")

    @app.get("/items/{number}")
    async def item(number: int):
        return {"number": number}

    @router.get("/orders/{number}")
    def order(number: int):
        return {"number": number}

    @app.get("/boom")
    async def boom():
        raise ZeroDivisionError("boom")

    app.include_router(router, prefix="/api")
    return app


def test_fastapi(same):
    def probe():
        app = fastapi_app()
        seen = [served(app, path) for path in ("/items/1", "/items/x", "/api/v1/orders/2", "/boom", "/nope")]
        return seen, app.openapi()["paths"].keys()

    trace = same(probe)
    names = [span.name for span in requests_of(trace)]
    assert names == ["/items/{number}", "/items/{number}", "/api/v1/orders/{number}", "/boom"]
    assert [span.error.partition("\r\n")[0] for span in requests_of(trace)] == [
        "",
        "Http Error 422",
        "",
        "ZeroDivisionError: boom",
    ]


def test_django(same):
    import django
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    async def item(request, number):
        return HttpResponse(f"item {number}")

    def plain(request):
        return HttpResponse("plain")

    async def boom(request):
        raise ZeroDivisionError("boom")

    async def stream(request):
        async def pieces():
            yield b"a"
            yield b"b"

        return StreamingHttpResponse(pieces())

    urls: Any = type(sys)("stardust_test_asgi_urls")
    urls.urlpatterns = [
        path("items/<int:number>/", item),
        path("plain/", plain),
        path("boom/", boom),
        path("stream/", stream),
    ]
    sys.modules[urls.__name__] = urls
    if not settings.configured:
        settings.configure(ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None)
        django.setup()
    settings.ROOT_URLCONF = urls.__name__

    def probe():
        handler = ASGIHandler()
        seen = [served(handler, where) for where in ("/items/1/", "/plain/", "/stream/", "/nope/")]
        failed = served(handler, "/boom/")
        return seen, failed[0]["status"]

    trace = same(probe)
    assert [span.name for span in requests_of(trace)] == ["/items/<int:number>/", "/plain/", "/stream/", "/boom/"]
    assert trace.named("/boom/").error.startswith("ZeroDivisionError: boom")


@contextlib.contextmanager
def uvicorn_server(app, http):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, http=http, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


async def bare(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/boom":
        raise ZeroDivisionError("boom")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-keys", str(len(scope)).encode())]})
    await send({"type": "http.response.body", "body": body[:3], "more_body": True})
    await send({"type": "http.response.body", "body": b"!"})


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_bare_application_behind_uvicorn(same, http):
    pytest.importorskip(http, reason="part of the extra 'test'")

    def probe():
        with uvicorn_server(bare, http) as url, suppressed(), requests.Session() as session:
            session.trust_env = False
            answers = [session.post(f"{url}/a/b?token=secret", data=b"12345"), session.get(f"{url}/boom")]
            return [(one.status_code, one.content) for one in answers]

    trace = same(probe)
    assert [(span.name, span.error.partition("\r\n")[0]) for span in requests_of(trace)] == [
        ("/a/b", ""),
        ("/boom", "ZeroDivisionError: boom"),
    ]
    assert trace.named("/a/b").value == 5 + 4
    assert "?token=?" in trace.named("/a/b").tag


def test_a_bare_application_behind_hypercorn(same):
    pytest.importorskip("hypercorn", reason="part of the extra 'test'")
    from _kit.ports import free_port
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    def probe():
        port, stop = free_port(), asyncio.Event()

        async def main():
            config = Config()
            config.bind, config.errorlog = [f"127.0.0.1:{port}"], None
            server = asyncio.create_task(serve(bare, config, shutdown_trigger=stop.wait))
            with suppressed():
                async with httpx.AsyncClient(trust_env=False, transport=httpx.AsyncHTTPTransport(retries=20)) as client:
                    answers = [await client.post(f"http://127.0.0.1:{port}/a/b", content=b"12345")]
                    answers += [await client.get(f"http://127.0.0.1:{port}/boom")]
            stop.set()
            await server
            return [(one.status_code, one.content) for one in answers]

        return asyncio.run(main())

    trace = same(probe)
    assert [span.name for span in requests_of(trace)] == ["/a/b", "/boom"]


def test_one_span_for_a_framework_behind_a_server_and_the_callers_trace(trace):
    header = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with uvicorn_server(starlette_app(), "h11") as url, suppressed():
        assert requests.get(f"{url}/items/7", headers=header).text == "item 7"
    (span,) = requests_of(trace)
    assert (span.name, span.trace_id, span.parent_id) == (
        "/items/{number:int}",
        header["traceparent"][3:35],
        "b7ad6b7169203331",
    )


def test_a_call_inside_the_process_is_a_request_of_its_own(trace):
    async def main():
        transport = httpx.ASGITransport(app=starlette_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return (await client.get("/items/1")).text

    assert asyncio.run(main()) == "item 1"
    client = next(span for span in trace.spans if span.name.startswith("http"))
    assert [(span.name, span.parent_id) for span in requests_of(trace)] == [("/items/{number:int}", client.id)]


def test_interleaved_requests_keep_their_own_traces(trace):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(request):
        await asyncio.sleep(0.01)
        with trace.tracer.new_span(f"inner:{request.path_params['number']}"):
            await asyncio.sleep(0.01)
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/items/{number}", item)])

    async def main():
        await asyncio.gather(*(exchanged(app, scope_of(f"/items/{number}")) for number in range(50)))

    asyncio.run(main())
    paths = {span.id: span.tag.partition("/items/")[2].partition("\r")[0] for span in requests_of(trace)}
    inner = [span for span in trace.spans if span.name.startswith("inner:")]
    assert len(inner) == 50
    assert all(paths[span.parent_id] == span.name[6:] for span in inner)


def test_a_client_that_goes_away_is_no_error(trace):
    async def main():
        async def send(message):
            if message["type"] == "http.response.body":
                raise OSError("gone")

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        with pytest.raises(OSError, match="gone"):
            from starlette.applications import Starlette  # an entry around the bare application

            await _entered(Starlette, bare)(scope_of(), receive, send)

    asyncio.run(main())
    (span,) = requests_of(trace)
    assert span.error == ""
    assert span.tag.endswith("aborted")


def _entered(cls, app):
    """``app`` behind the entry of a framework."""
    entered = cls()
    entered.middleware_stack = app
    return entered


def test_a_cancelled_request_is_no_error(trace):
    from starlette.applications import Starlette

    async def app(scope, receive, send):
        await asyncio.sleep(30)

    async def main():
        task = asyncio.create_task(exchanged(_entered(Starlette, app), scope_of()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (span,) = requests_of(trace)
    assert span.error == ""
    assert span.tag.endswith("cancelled")


def test_the_span_ends_with_trailers(trace):
    from starlette.applications import Starlette

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b""})
        assert requests_of(trace) == []
        await send({"type": "http.response.trailers"})
        assert len(requests_of(trace)) == 1

    served(_entered(Starlette, app))
    assert len(requests_of(trace)) == 1


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_websockets_and_the_life_span_pass_untouched(trace, kind):
    from starlette.applications import Starlette

    seen = []

    async def app(*args):
        seen.append(args)

    async def receive():
        return {}

    async def send(message):
        return

    scope = scope_of(type=kind)
    asyncio.run(_entered(Starlette, app)(scope, receive, send))
    assert seen[0][0] is scope
    assert seen[0][1] is receive
    assert seen[0][2] is send
    assert requests_of(trace) == []


@pytest.mark.parametrize(
    "scope", [{"headers": None}, {"headers": []}, {"path": ""}, {"client": None}, {"query_string": None}]
)
def test_odd_scopes(traced_block, scope):
    from starlette.applications import Starlette

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    with traced_block():
        messages = asyncio.run(exchanged(_entered(Starlette, app), scope_of(**scope)))
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]


def test_static_files_and_excluded_paths(trace):
    for path in ("/site.css", "/logo.png", "/about.html"):
        served(_entered_bare(), path)
    assert requests_of(trace) == []


def _entered_bare():
    from starlette.applications import Starlette

    return _entered(Starlette, bare)


def test_signatures(same):
    import uvicorn.protocols.http.h11_impl as h11
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.routing import Route

    owners = (
        (Starlette, "__call__"),
        (Route, "handle"),
        (BackgroundTask, "__call__"),
        (h11.RequestResponseCycle, "run_asgi"),
    )

    def probe():
        return [
            (str(inspect.signature(function)), function.__qualname__, inspect.iscoroutinefunction(function))
            for function in (getattr(owner, name) for owner, name in owners)
        ]

    same(probe)
