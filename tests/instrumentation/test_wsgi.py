"""A WSGI application and its server see of each other exactly what they saw before."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import threading
from contextvars import copy_context
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.headers import Headers
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
import requests

from stardust_auto.instrumentation.kit.inbound import KEY, open_request
from stardust_auto.instrumentation.registry import registry
from stardust_auto.instrumentation.wsgi.application import header_of, traced_application
from stardust_auto.instrumentation.wsgi.span import WsgiSpan
from stardust_auto.process.context import current_span, suppressed

OK = (("Content-Type", "text/plain"),)


def environ(path="/a/b", **more):
    made = {"PATH_INFO": path, "REMOTE_ADDR": "10.0.0.9"}
    setup_testing_defaults(made)
    return {**made, **more}


def wrapped(app):
    """``app`` as a server would hold it: traced when instrumentation is on."""
    patches = registry.patches("wsgi")
    return app if patches.tracer is None else traced_application(patches, app)


def served(app, path="/a/b", **more):
    """What a server saw: the calls of start_response, the pieces, and the exception, if any."""
    calls: list[Any] = []
    pieces: list[Any] = []

    def start_response(*args, **kwargs):
        calls.append((args, kwargs))
        return pieces.append

    body = wrapped(app)(environ(path, **more), start_response)
    try:
        pieces.extend(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    return calls, pieces


def simple(environ, start_response):
    start_response("200 OK", [*OK])
    return [b"hello"]


class Closable:
    """A body that counts its closes and may fail anywhere."""

    def __init__(self, pieces=(b"a", b"b"), fail_next=None, fail_close=None):
        self.pieces, self.fail_next, self.fail_close, self.closed = list(pieces), fail_next, fail_close, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.pieces:
            return self.pieces.pop(0)
        raise self.fail_next or StopIteration

    def close(self):
        self.closed += 1
        if self.fail_close:
            raise self.fail_close


def streaming(body):
    def app(environ, start_response):
        start_response("200 OK", [*OK])
        return body

    return app


# -- the specification -----------------------------------------------------------------------------------------------


@pytest.mark.case("W1", "W2", "W3")
def test_start_response(same):
    headers = [*OK]

    def app(environ, start_response):
        start_response("200 OK", headers)
        try:
            raise ValueError("late")
        except ValueError:
            write = start_response("500 Oops", OK, sys.exc_info())
        write(b"written")
        return [b"rest"]

    def probe():
        calls, pieces = served(app)
        return [(args[0], args[1] is headers, len(args), kwargs) for args, kwargs in calls], pieces

    trace = same(probe)
    assert trace.named("/a/b").error == "Http Error 500 Oops"  # the last status wins


@pytest.mark.case("W3")
def test_write_is_the_servers_own(trace):
    server_write = object()
    seen = []

    def app(environ, start_response):
        seen.append(start_response("200 OK", [*OK]))
        return []

    wrapped(app)(environ(), lambda status, headers: server_write)
    assert seen == [server_write]


@pytest.mark.case("W4")
def test_generator_starts_at_its_first_piece(same):
    def probe():
        log = []

        def app(environ, start_response):
            log.append("begin")
            start_response("404 Gone", [*OK])
            yield b"x"
            log.append("end")

        body = wrapped(app)(environ(), lambda *args: log.append(args[0]))
        log.append("called")
        log.extend(body)
        body.close()
        return log

    assert same(probe).names == []  # 404 is not counted (protocol.md §5.6)


@pytest.mark.case("W5")
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_close_exactly_once(same, steps):
    def probe():
        body = Closable()
        result = wrapped(streaming(body))(environ(), lambda *args: None)
        pieces = [piece for piece, _ in zip(result, range(steps), strict=False)]
        result.close()
        return pieces, body.closed

    assert same(probe).names == ["/a/b"]


@pytest.mark.case("W5", "W17")
@pytest.mark.parametrize("raised", [ValueError("next"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_while_iterating(same, raised):
    def probe():
        body = Closable(fail_next=raised)
        try:
            served(streaming(body))
        except BaseException as error:
            return error is raised, error.__context__, body.closed

    trace = same(probe)
    assert trace.named("/a/b").error.startswith(type(raised).__name__)


@pytest.mark.case("W6")
def test_close_that_raises(same):
    raised = ValueError("close")

    def probe():
        try:
            served(streaming(Closable(fail_close=raised)))
        except ValueError as error:
            return error is raised, error.__context__

    assert same(probe).names == ["/a/b"]


@pytest.mark.case("W7", "W8", "W9")
def test_completed_bodies_come_back_as_they_are(trace):
    for body in ([b"one"], (b"one", b"two"), [], [b"", b"x"]):
        assert wrapped(streaming(body))(environ(), lambda *args: None) is body
    assert [span.value for span in trace.spans] == [3, 6, 0, 1]


@pytest.mark.case("W8")
def test_wsgiref_computes_the_length(same):
    def probe():
        out = io.BytesIO()
        SimpleHandler(io.BytesIO(), out, sys.stderr, environ(SERVER_PROTOCOL="HTTP/1.1"), False, False).run(simple)
        return [line for line in out.getvalue().split(b"\r\n") if not line.startswith(b"Date")]

    trace = same(probe)
    assert trace.names == ["/a/b"]


@pytest.mark.case("W9")
def test_length_only_where_there_was_one(same):
    class Sized(Closable):
        def __len__(self):
            return 2

    def probe():
        sized = wrapped(streaming(Sized()))(environ(), lambda *args: None)
        plain = wrapped(streaming(Closable()))(environ(), lambda *args: None)
        return hasattr(sized, "__len__"), len(sized), hasattr(plain, "__len__"), plain.closed, hasattr(plain, "nothing")

    same(probe)


@pytest.mark.case("W10")
def test_file_wrapper_keeps_type_and_identity(trace, tmp_path):
    file = tmp_path / "big.bin"
    file.write_bytes(b"data")
    with file.open("rb") as opened:
        body = FileWrapper(opened)
        assert (
            wrapped(streaming(body))(environ("/big", **{"wsgi.file_wrapper": FileWrapper}), lambda *args: None) is body
        )
        # uWSGI: the wrapper is a C function that hands back the file itself
        assert wrapped(streaming(opened))(environ("/big", **{"wsgi.file_wrapper": len}), lambda *args: None) is opened
    assert trace.names == ["/big", "/big"]


def test_a_file_that_the_server_sends_has_the_bytes_that_were_announced(trace, tmp_path):
    file = tmp_path / "big.bin"
    file.write_bytes(b"data")

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        return FileWrapper(file.open("rb"))

    served(app, "/big", **{"wsgi.file_wrapper": FileWrapper})
    assert trace.named("/big").value == 4


@pytest.mark.case("W11")
def test_empty_pieces(same):
    def late(environ, start_response):
        start_response("200 OK", [*OK])
        yield b""
        yield b"x"
        yield b""

    same(lambda: served(late))
    same(lambda: served(streaming(iter(()))))


@pytest.mark.case("W12")
@pytest.mark.parametrize("status", ["200", "200 ", "999 X", "abc", "", "٢٠٠ OK", None, 200, b"200 OK"])
def test_odd_status_lines(same, status):
    def app(environ, start_response):
        start_response(status, [*OK])
        return [b"x"]

    same(lambda: served(app))


@pytest.mark.case("W13")
def test_headers_are_the_same_object(trace):
    mine = [("A", "b")]
    seen = []

    def app(environ, start_response):
        start_response("200 OK", mine)
        return []

    wrapped(app)(environ(), lambda status, headers: seen.append(headers))
    assert seen[0] is mine
    Headers(mine)["Added"] = "later"
    assert ("Added", "later") in seen[0]


@pytest.mark.case("W25")
def test_repeated_response_headers_pass_through(same):
    def app(environ, start_response):
        start_response("200 OK", [*OK, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [b"x"]

    same(lambda: served(app))


@pytest.mark.case("W15", "W16")
@pytest.mark.parametrize(
    "raised", [StopIteration(), SystemExit(0), SystemExit(2), KeyboardInterrupt(), GeneratorExit(), ValueError("x")]
)
def test_exceptions_of_the_application(same, raised):
    def app(environ, start_response):
        raise raised

    def probe():
        try:
            wrapped(app)(environ(), lambda *args: None)
        except BaseException as error:
            return error is raised, error.__context__, current_span.get()

    span = same(probe).named("/a/b")
    assert bool(span.error) == (
        not (isinstance(raised, GeneratorExit) or (isinstance(raised, SystemExit) and not raised.code))
    )


@pytest.mark.case("W18")
def test_a_client_that_went_away_is_no_error(trace):
    body = wrapped(streaming(Closable()))(environ(), lambda *args: None)
    next(iter(body))
    body.close()
    assert trace.named("/a/b").error == ""


@pytest.mark.case("W17")
@pytest.mark.parametrize("path", ["/a/b", "/logo.png"])
def test_a_failing_application_is_called_once(same, path):
    def probe():
        calls = []

        def app(environ, start_response):
            calls.append(1)
            raise ValueError("once")

        with pytest.raises(ValueError, match="once"):
            wrapped(wrapped(app))(environ(path), lambda *args: None)
        return calls

    same(probe)


@pytest.mark.case("W19")
def test_environ_and_nested_wrappers(trace):
    inside = []

    def inner(environ, start_response):
        inside.append({**environ})
        return simple(environ, start_response)

    def middle(environ, start_response):
        return wrapped(inner)(dict(environ), start_response)  # a middleware that copies

    given = environ()
    before = dict(given)
    assert wrapped(middle)(given, lambda *args: None) == [b"hello"]
    assert trace.names == ["/a/b"]
    assert given == before
    assert {key: value for key, value in inside[0].items() if key != KEY} == before


@pytest.mark.case("W19")
def test_the_same_environ_twice_is_two_requests(trace):
    given = environ()
    for _ in range(2):
        wrapped(simple)(given, lambda *args: None)
    assert trace.names == ["/a/b"] * 2


@pytest.mark.case("W20")
def test_input_is_the_servers(trace):
    source = io.BytesIO(b"abc")
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.input"] is source)
        return simple(environ, start_response)

    wrapped(app)(environ(**{"wsgi.input": source, "CONTENT_LENGTH": "3"}), lambda *args: None)
    assert seen == [True]
    assert trace.named("/a/b").value == 3 + 5


@pytest.mark.case("W21", "W23")
@pytest.mark.parametrize(
    "broken",
    [
        {"SERVER_PORT": ""},
        {"CONTENT_LENGTH": "many"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "\xb2"},  # a digit for str.isdigit, and none for int
        {"PATH_INFO": None},
        {"PATH_INFO": ""},
        {"SCRIPT_NAME": None},
        {"REMOTE_ADDR": None},
        {"QUERY_STRING": None},
        {"HTTP_UPGRADE": ""},
        {"REMOTE_PORT": b"80"},
        {"PATH_INFO": "/caf\xc3\xa9/%00/\ud83d"},
        {"QUERY_STRING": "a=" + "x" * 65536},
    ],
)
def test_odd_environs(same, broken):
    trace = same(lambda: served(simple, **broken))
    assert len(trace.names) == 1


@pytest.mark.case("W21")
def test_environ_that_is_nearly_empty(same):
    same(lambda: wrapped(lambda environ, start: [b""])({}, lambda *args: None))


@pytest.mark.case("W22")
@pytest.mark.parametrize(
    ("script", "path", "name"),
    [
        ("", "/", "/"),
        ("", "", "/"),
        ("/app", "/", "/app"),
        ("/app", "", "/app"),
        ("/app", "/users/7", "/app/users"),
        ("", "/a/b/c", "/a/b"),
    ],
)
def test_script_name_and_path(trace, script, path, name):
    served(simple, path, SCRIPT_NAME=script)
    assert trace.names == [name]


@pytest.mark.case("W24")
@pytest.mark.parametrize(
    ("header", "value", "trace_id"),
    [
        (
            "HTTP_TRACEPARENT",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0af7651916cd43dd8448eb211c80319c",
        ),
        ("HTTP_TRACEPARENT", "00-0a00000517856000001000001e04d2-0a00000504d20001-01", "0a00000517856000001000001e04d2"),
        ("HTTP_TRACEPARENT", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("HTTP_TRACEPARENT", "00-" + "0" * 32 + "-b7ad6b7169203331-01", None),
        ("HTTP_TRACEPARENT", "rubbish, rubbish", None),
        ("HTTP_TRACEPARENT", "x" * 100_000, None),
        ("HTTP_REQUEST_ID", "|4bf92f3577b34da6.1_2.", "4bf92f3577b34da6"),
        ("HTTP_TRACEID", "abc123", "abc123"),
    ],
)
def test_inbound_context(trace, header, value, trace_id):
    served(simple, **{header: value})
    span = trace.named("/a/b")
    if trace_id is None:
        assert (len(span.trace_id), span.parent_id) == (32, "")
    else:
        assert span.trace_id == trace_id


# -- context ---------------------------------------------------------------------------------------------------------


@pytest.mark.case("W26")
def test_two_interleaved_responses_do_not_nest(trace):
    seen = []

    def app(environ, start_response):
        start_response("200 OK", [*OK])
        for number in range(2):
            with trace.tracer.new_span(f"step:{environ['PATH_INFO']}:{number}"):
                yield b"x"

    first, second = (wrapped(app)(environ(path), lambda *args: None) for path in ("/one", "/two"))
    for body in (first, second, first, second):
        seen.append(next(body, None))
        assert current_span.get() is None
    for body in (first, second):
        body.close()
    assert current_span.get() is None


@pytest.mark.case("W26", "W27")
def test_spans_inside_belong_to_the_request_in_any_thread(trace):
    def app(environ, start_response):
        start_response("200 OK", [*OK])
        yield b"x"
        trace.tracer.begin("inside").finish()
        yield b"y"

    body = wrapped(app)(environ(), lambda *args: None)
    next(body)
    thread = threading.Thread(target=lambda: copy_context().run(lambda: (list(body), body.close())))
    thread.start()
    thread.join()
    inside, request = trace.named("inside"), trace.named("/a/b")
    assert (inside.trace_id, inside.parent_id) == (request.trace_id, request.id)


@pytest.mark.case("W28")
def test_dropped_without_close(trace):
    body = wrapped(streaming(Closable()))(environ(), lambda *args: None)
    next(body)
    assert trace.names == []
    del body
    gc.collect()
    assert trace.names == ["/a/b"]
    served(simple, "/next")
    assert trace.named("/next").parent_id == ""


@pytest.mark.case("W28")
def test_no_cycle_is_left_behind(trace):
    for body in ([b"x"], Closable(), iter([b"y"])):
        gc.collect()
        gc.disable()
        try:
            served(streaming(body))
            assert gc.collect() == 0
        finally:
            gc.enable()


@pytest.mark.case("W29")
def test_duration_covers_the_body(trace):
    now = trace.tracer.now
    skew = [0]
    trace.tracer.now = lambda: now() + skew[0]

    def app(environ, start_response):
        start_response("200 OK", [*OK])
        yield b"x"
        skew[0] += 3_000_000_000
        yield b"y"

    served(app)
    assert trace.named("/a/b").end_time - trace.named("/a/b").start_time >= 3000


# -- servers and frameworks ------------------------------------------------------------------------------------------


@pytest.mark.case("W14", "W30")
def test_wsgiref_under_its_validator(same):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Twice", "1"), ("X-Twice", "2")])  # W25
        return iter([b"pi", b"ece"])

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args):
            return

    def probe():
        with make_server("127.0.0.1", 0, validator(app), WSGIServer, Quiet) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}/validated"
            with suppressed():
                seen = [
                    (r.status_code, r.content, r.headers["X-Twice"]) for r in (requests.get(url), requests.head(url))
                ]
            server.shutdown()
            thread.join()
            return seen, server.get_app() is not None

    assert same(probe).names == ["/validated"] * 2


def get(url):
    with suppressed():
        response = requests.get(url, timeout=5)
        return response.status_code, response.content, response.headers.get("Content-Length")


def serve_waitress(app, probe):
    from waitress.server import create_server
    from waitress.wasyncore import close_all

    server = create_server(app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        return probe(f"http://127.0.0.1:{server.effective_port}")
    finally:
        # In its own thread, and waited for: a loop on closed sockets would eat the connections of the next server.
        # Woken by a channel that ends, the loop may have done it, and closed the trigger, before that is pulled.
        with contextlib.suppress(OSError):
            server.trigger.pull_trigger(lambda: close_all(server._map, ignore_all=True))
        thread.join()
        server.task_dispatcher.shutdown()


def serve_werkzeug(app, probe):
    from werkzeug.serving import WSGIRequestHandler as Werkzeug
    from werkzeug.serving import make_server

    class Quiet(Werkzeug):
        def log(self, *args):
            return

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        return probe(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def serve_cheroot(app, probe):
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", 0), app)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    while not server.ready:
        thread.join(0.01)
    try:
        return probe(f"http://127.0.0.1:{server.bind_addr[1]}")
    finally:
        server.stop()


@pytest.mark.case("W30")
@pytest.mark.parametrize("serve", [serve_waitress, serve_werkzeug, serve_cheroot])
def test_servers(same, serve):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [*OK])
            return iter([b"a", b"b"])
        return simple(environ, start_response)

    trace = same(lambda: serve(app, lambda url: (get(url + "/plain"), get(url + "/stream"))))
    assert sorted(trace.names) == ["/plain", "/stream"]


@pytest.mark.case("W30")
def test_gunicorns_application(trace):
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            return

        def load(self):
            return simple

    application = Application()
    assert application.wsgi()(environ(), lambda *args: None) == [b"hello"]
    assert application.callable is simple
    assert trace.names == ["/a/b"]


def flask_app():
    import flask

    app = flask.Flask("shop")

    @app.get("/items/<int:number>")
    def item(number):
        return f"item {number}"

    @app.get("/boom")
    def boom():
        raise ZeroDivisionError("boom")

    @app.get("/stream")
    def stream():
        return flask.Response(flask.stream_with_context(piece for piece in ("a", flask.request.path)))

    @app.before_request
    def before():
        if flask.request.path == "/before":
            raise KeyError("before")

    torn: list[Any] = []
    vars(app)["torn"] = torn
    app.teardown_request(lambda error: torn.append(type(error)))
    return app


@pytest.mark.case("W31", "W34")
def test_flask(same):
    def probe():
        app = flask_app()
        client = app.test_client()
        paths = ("/items/1", "/items/2", "/nope/3", "/boom", "/before", "/stream", "/static/missing.css")
        seen = [client.get(path) for path in paths]
        return [(one.status_code, one.data, sorted(one.headers)) for one in seen], app.torn

    trace = same(probe)
    assert trace.names == ["/items/<int:number>"] * 2 + ["/boom", "/before", "/stream"]
    assert trace.named("/boom").error.startswith("ZeroDivisionError: boom")


@pytest.mark.case("W31")
def test_flask_sampling_goes_by_the_route(traced_block):
    from stardust_auto.tracing.builder import TracePolicy

    with traced_block() as trace:
        trace.tracer.max_samples = 1
        trace.tracer._operator = TracePolicy(max_samples=1)
        client = flask_app().test_client()
        for number in range(30):
            client.get(f"/items/{number}")
        assert trace.names == ["/items/<int:number>"]


@pytest.mark.case("W19")
def test_mounted_applications_are_one_request(trace):
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.test import Client

    client = Client(DispatcherMiddleware(simple, {"/shop": flask_app()}))
    assert client.get("/shop/items/4").data == b"item 4"
    assert trace.names == ["/shop/items/<int:number>"]


@pytest.mark.case("W32")
def test_django(same):
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path, re_path

    def boom(request):
        raise ZeroDivisionError("boom")

    urls: Any = type(sys)("stardust_test_urls")
    urls.urlpatterns = [
        path("items/<int:number>/", lambda request, number: HttpResponse(f"item {number}")),
        re_path(r"^old/(?P<year>[0-9]{4})/$", lambda request, year: HttpResponse(year)),
        path("stream/", lambda request: StreamingHttpResponse(iter([b"a", b"b"]))),
        path("boom/", boom),
    ]
    sys.modules[urls.__name__] = urls
    if not settings.configured:
        settings.configure(ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None)
        django.setup()
    settings.ROOT_URLCONF = urls.__name__

    def probe():
        handler = WSGIHandler()
        seen = []
        for where in ("/items/1/", "/items/2/", "/old/1999/", "/stream/", "/boom/", "/nope/"):
            statuses: list[str] = []
            body = handler(environ(where), lambda status, headers, statuses=statuses: statuses.append(status))
            seen.append(
                (
                    statuses,
                    b"".join(body) if where != "/boom/" else b"",
                    type(body).__name__ if where != "/stream/" else "",
                )
            )
            body.close()
        return seen

    trace = same(probe)
    assert trace.names == ["/items/<int:number>/"] * 2 + ["/old/<year>/", "/stream/", "/boom/"]
    assert trace.named("/boom/").error.startswith("ZeroDivisionError: boom")


@pytest.mark.case("W33")
def test_bottle_falcon_pyramid(trace):
    import bottle
    import falcon
    from pyramid.config import Configurator
    from pyramid.response import Response

    shop = bottle.Bottle()
    shop.get("/bottle/<number>")(lambda number: number)
    served(shop, "/bottle/1")

    class Item:
        def on_get(self, request, response, number):
            response.text = number

    api = falcon.App()
    api.add_route("/falcon/{number}", Item())
    served(api, "/falcon/1")

    with Configurator() as config:
        config.add_route("item", "/pyramid/{number}")
        config.add_view(lambda request: Response("x"), route_name="item")
        served(config.make_wsgi_app(), "/pyramid/1")
    assert trace.names == ["/bottle/<number>", "/falcon/{number}", "/pyramid/{number}"]


def test_exceptions_that_bottle_and_falcon_answer_are_recorded_as_they_are(same):
    import bottle
    import falcon

    def boom(*_):
        raise ZeroDivisionError("boom")

    def probe():
        shop = bottle.Bottle()
        shop.get("/boom")(boom)
        shop.get("/gone")(lambda: bottle.abort(410, "gone"))

        class Item:
            on_get = boom

        api = falcon.App()
        api.add_route("/bang", Item())
        found: list[str] = []
        apps: list[Any] = [(shop, "/boom"), (shop, "/gone"), (api, "/bang")]
        for app, path in apps:
            body = app(environ(path, **{"wsgi.errors": io.StringIO()}), lambda status, *_: found.append(status))
            getattr(body, "close", lambda: None)()
        return found

    trace = same(probe)
    errors = {span.name: span.error.split("\r\n") for span in trace.spans if not span.name.startswith("ex:")}
    assert errors["/boom"][0] == errors["/bang"][0] == "ZeroDivisionError: boom"
    assert any("test_wsgi.py" in line for line in errors["/boom"])
    assert errors["/gone"] == ["Http Error 410 Gone"]


@pytest.mark.case("W33")
def test_kinds_of_applications(trace):
    class Instance:
        def __call__(self, environ, start_response):
            return simple(environ, start_response)

        def method(self, environ, start_response):
            return simple(environ, start_response)

    def with_default(environ, start_response, extra=None):
        assert extra is None
        return simple(environ, start_response)

    for app in (Instance(), Instance().method, with_default, lambda e, s: simple(e, s)):
        assert served(app)[1] == [b"hello"]
    assert len(trace.names) == 4


@pytest.mark.case("W35")
def test_static_files_and_websockets(trace):
    for path in ("/site.CSS", "/a/logo.png", "/font.woff2"):
        served(simple, path)
    served(simple, "/chat", HTTP_UPGRADE="WebSocket")
    assert trace.names == []
    served(simple, "/chat", HTTP_UPGRADE="h2c")
    assert trace.names == ["/chat"]


def test_a_page_is_traced_where_a_framework_has_a_route_for_it(trace):
    served(simple, "/about.html")
    assert trace.names == []  # a file, for all that is known
    app = flask_app()
    app.get("/pages/<name>.html")(lambda name: name)
    for _ in range(2):
        served(app, "/pages/about.html")
        served(app, "/nowhere.html")
    assert trace.names == ["/pages/<name>.html"] * 2


def test_no_request_gets_the_name_of_another_route(trace):
    app = flask_app()
    app.get("/items")(lambda: "all")

    def guarded(environ, start_response):
        if environ.get("HTTP_X_REFUSED"):
            start_response("403 Forbidden", [])
            return [b""]
        return app(environ, start_response)

    served(guarded, "/items/5")
    served(guarded, "/items", HTTP_X_REFUSED="1")
    assert trace.names == ["/items/<int:number>", "/items"]


AGREEING: list[dict[str, Any]] = [
    {},
    {"path": "/"},
    {"path": "/site.css"},
    {"path": "/page.html"},
    {"path": "/x/7/y", "SCRIPT_NAME": "/app"},
    {"HTTP_UPGRADE": "websocket"},
    {"HTTP_UPGRADE": "h2c"},
    {"HTTP_TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    {"HTTP_TRACEPARENT": "rubbish"},
    {"HTTP_REQUEST_ID": "|4bf92f3577b34da6.1_2."},
    {"HTTP_EAGLEEYE_TRACEID": "0af7651916cd43dd-1"},
    {"HTTP_TRACEID": "abc123"},
    {KEY: object()},
]


@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified", "400 Bad", "404 Not Found", "500 Oops", "odd", None])
@pytest.mark.parametrize("inside", [False, True])
def test_the_fast_way_and_the_plain_way_agree(traced_block, status, inside):
    """``responder`` has the steps of ``open_request`` and of ``end`` in one piece."""

    def app(environ, start_response):
        start_response(status, [])
        return [b""]

    def fast(tracer, environ):
        wrapped(app)(environ, lambda *args: None)

    def plain(tracer, environ):
        path = (environ.get("SCRIPT_NAME") or "") + (environ.get("PATH_INFO") or "/")
        span = open_request(tracer, WsgiSpan, path, environ, current_span.get(), header_of(environ))
        if span is not None:
            span.status = status
            span.end()

    def seen(way):
        with traced_block() as trace, trace.tracer.new_span("job") if inside else contextlib.nullcontext():
            for one in AGREEING:
                made = environ(**{"path": "/a/b", **one})
                way(trace.tracer, made)
                assert (KEY in made) == (KEY in one)
        known = {span.id: span.name for span in trace.spans}
        return [
            (span.name, span.tag, span.error, span.flag, known.get(span.parent_id, span.parent_id), len(span.trace_id))
            for span in trace.spans
        ]

    assert seen(fast) == seen(plain)


@pytest.mark.case("W36")
def test_asynchronous_callables_are_left_alone(trace):
    async def app(scope, receive, send):
        return

    class Asgi:
        async def __call__(self, scope, receive, send):
            return

    instance = Asgi()
    assert wrapped(app) is app
    assert wrapped(instance) is instance
    assert wrapped(None) is None


def test_tag_names_client_method_and_path_without_values(trace):
    served(simple, "/a/b", QUERY_STRING="token=secret&page=2", REQUEST_METHOD="POST")
    assert trace.named("/a/b").tag == "10.0.0.9 POST /a/b?token=?&page=?\r\nstatus: 200 OK"


def test_own_traffic_is_not_traced(trace):
    with suppressed():
        served(simple)
    assert trace.names == []


def test_under_a_span_of_the_programs_own(trace):
    with trace.tracer.new_span("job") as job:
        served(simple)
    assert trace.named("/a/b").parent_id == job.span_id


def test_a_scanner_takes_no_name_from_what_exists_and_leaves_no_orphan(trace):
    """Instrumentation review D4, D8: 404s used the names up, and calls below them named a parent that nobody had."""
    tracer = trace.tracer

    def app(environ, start_response):
        tracer.record("db:x:Select:session", tracer.now(), current_span.get())
        missing = environ["PATH_INFO"].startswith("/scan")
        start_response("404 Not Found" if missing else "200 OK", [*OK])
        return [b""]

    for number in range(300):
        served(app, f"/scan{number}/{chr(97 + number % 26)}")
    for path in ("/orders/new", "/orders/list", "/health"):
        for _ in range(2):
            served(app, path)
    builders = {builder.name: builder for builder in tracer.take()}
    assert {name: builder.total for name, builder in builders.items() if name.startswith("/")} == {
        "/orders/new": 2,
        "/orders/list": 2,
        "/health": 2,
    }
    samples = [sample for builder in builders.values() for sample in builder.samples]
    known = {sample.id for sample in samples} | {""}
    assert [sample for sample in samples if sample.parent_id not in known] == []
    assert len(builders["db:x:Select:session"].samples) > 10


def test_users_at_the_root_of_an_application_leave_names_of_use(trace):
    def app(environ, start_response):
        start_response("200 OK", [*OK])
        return [b""]

    for number in range(500):
        served(app, f"/u{chr(97 + number % 26)}{chr(97 + number // 26)}/items/{number}")
    names = {builder.name for builder in trace.tracer.take()}
    assert len(names) == 41
    assert "/*/items" in names
