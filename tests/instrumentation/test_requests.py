"""Requests and urllib3 behave as without us, and each request that the program causes is one span."""

from __future__ import annotations

import gc
import inspect
import io
import pickle
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import HTTPDigestAuth

from stardust_auto.instrumentation.kit import outbound
from stardust_auto.instrumentation.kit.outbound import BODIES
from stardust_auto.process.context import current_span, suppressed


def client_spans(trace):
    return [span for span in trace.spans if span.name.startswith("http")]


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.case("R1")
def test_one_span_whatever_the_redirects(trace, web, session):
    web.routes.update({"/a": (302, {"Location": "/b"}, b""), "/b": (301, {"Location": "/c"}, b"")})
    response = session.get(web.url + "/a")
    (span,) = client_spans(trace)
    assert [one.status_code for one in response.history] == [302, 301]
    assert span.name == f"{web.url}/a"
    assert "redirects: 2" in span.tag
    assert set(web.headers("traceparent")) == {f"00-{span.trace_id}-{span.id}-01"}


@pytest.mark.case("R1")
def test_a_request_made_by_a_hook_is_a_span_of_its_own(trace, web, session):
    def hook(response, **_):
        if response.url.endswith("/outer"):
            session.get(web.url + "/inner")

    session.get(web.url + "/outer", hooks={"response": hook})
    inner, outer = sorted(client_spans(trace), key=lambda span: span.name)
    assert (inner.name, outer.name) == (f"{web.url}/inner", f"{web.url}/outer")
    assert inner.parent_id == outer.id


@pytest.mark.case("R2", "R3")
def test_one_span_over_urllib3_and_its_id_on_the_wire(trace, web, session):
    session.get(web.url + "/items/7?token=secret")
    (span,) = client_spans(trace)
    assert web.headers("traceparent") == [f"00-{span.trace_id}-{span.id}-01"]
    assert span.name == f"{web.url}/items"


@pytest.mark.case("R3")
def test_under_a_request_of_ours(trace, web, session):
    with trace.tracer.new_span("job") as job:
        session.get(web.url)
    (span,) = client_spans(trace)
    assert (span.trace_id, span.parent_id) == (job.trace_id, job.span_id)


@pytest.mark.case("R4", "R5", "R6")
def test_nothing_of_the_callers_changes(same, web, session):
    web.routes["/hop"] = (302, {"Location": "/end"}, b"")

    def probe():
        headers = {"X-Mine": "1"}
        before = dict(session.headers)
        prepared = session.prepare_request(requests.Request("GET", web.url + "/hop", headers=headers))
        first, second = session.send(prepared), session.send(prepared)
        return (
            headers,
            dict(session.headers) == before,
            dict(prepared.headers),
            type(prepared.headers).__name__,
            first.history[0].request is prepared,
            second.history[0].request is prepared,
            dict(first.request.headers),
            [key for key in first.request.headers if key.lower() == "traceparent"],
        )

    same(probe)
    traceparents = [header for header in web.headers("traceparent") if header]
    assert len(traceparents) == 4
    assert len(set(traceparents)) == 2


@pytest.mark.case("R6", "R29")
def test_suppressed_traffic_has_no_span_and_no_header(trace, web, session):
    prepared = session.prepare_request(requests.Request("GET", web.url))
    session.send(prepared)
    with suppressed():
        session.send(prepared)
        urllib3.PoolManager().request("GET", web.url)
    assert len(client_spans(trace)) == 1
    assert web.headers("traceparent")[1:] == [None, None]


@pytest.mark.case("R7")
@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
def test_a_traceparent_of_the_users_is_kept(trace, web, session, name):
    session.get(web.url, headers={name: "00-mine-1-01"})
    urllib3.PoolManager().request("GET", web.url, headers={name: "00-mine-1-01"})
    assert web.headers("traceparent") == ["00-mine-1-01"] * 2


@pytest.mark.case("R8")
def test_only_allowed_hosts_get_headers_at_each_hop(traced_block, web, session):
    with type(web)("127.0.0.2") as other, traced_block(propagate_to=("127.0.0.1",)) as trace:
        web.routes["/away"] = (302, {"Location": other.url + "/back"}, b"")
        other.routes["/back"] = (302, {"Location": web.url + "/end"}, b"")
        session.get(web.url + "/away")
        assert [bool(header) for header in web.headers("traceparent")] == [True, True]
        assert other.headers("traceparent") == [None]
        urllib3.PoolManager().request("GET", web.url + "/away")
        assert [bool(header) for header in web.headers("traceparent")] == [True] * 4
        assert other.headers("traceparent") == [None, None]
        other.shutdown()
    assert len(client_spans(trace)) == 2


@pytest.mark.case("R8")
@pytest.mark.parametrize(("allowed", "sent"), [("shop.example", True), ("127.0.0.1", False)])
def test_behind_a_proxy_the_target_counts(traced_block, web, session, allowed, sent):
    with traced_block(propagate_to=(allowed,)):
        session.get("http://user:pass@shop.example:8080/x", proxies={"http": web.url})
        urllib3.ProxyManager(web.url).request("GET", "http://shop.example/x")
    assert [request[1] for request in web.requests] == ["http://shop.example:8080/x", "http://shop.example/x"]
    assert [header is not None for header in web.headers("traceparent")] == [sent, sent]


@pytest.mark.case("R8")
def test_public_hosts_get_no_headers_by_default(trace):
    from stardust_auto.instrumentation.registry import registry

    rule = registry.patches("requests").propagation
    assert rule is not None
    assert rule.allows("127.0.0.1")
    assert rule.allows("stock")
    assert not rule.allows("api.example.com")


def test_chunked_uploads_and_file_bodies(same, web, session):
    def probe():
        web.requests.clear()
        session.post(web.url, data=io.BytesIO(b"file"))
        return [request[3] for request in web.requests]

    same(probe)


@pytest.mark.case("R9", "R10")
def test_errors_are_the_same_objects_and_recorded(same, session):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x?token=secret"

        def probe():
            try:
                session.get(url)
            except requests.ConnectionError as error:
                return (
                    type(error),
                    error.request and error.request.url,
                    error.response,
                    type(error.__context__),
                    error.__cause__,
                )

        trace = same(probe)
    (span,) = client_spans(trace)
    assert span.error.startswith("ConnectionError: ")
    assert "secret" not in span.error + span.tag
    assert "ex:ConnectionError" in [one.name for one in trace.spans]


@pytest.mark.case("R9")
def test_an_error_passes_one_frame_of_ours(trace, session):
    raised = RuntimeError("mine")

    class Failing(BaseAdapter):
        def send(self, request, *_args, **_kwargs):
            raise raised

        def close(self):
            return

    session.mount("mock://", Failing())
    with pytest.raises(RuntimeError) as caught:
        session.get("mock://x/")
    assert caught.value is raised
    assert raised.__context__ is None
    assert [Path(entry.path).name for entry in caught.traceback if "stardust_auto" in str(entry.path)] == ["calls.py"]


@pytest.mark.case("R10")
def test_timeouts_and_too_many_redirects(trace, web, session):
    gate = threading.Event()
    web.routes["/slow"] = (200, {}, lambda _handler: (200, {}, b"late" if gate.wait(5) else b""))
    web.routes["/loop"] = (302, {"Location": "/loop"}, b"")
    with pytest.raises(requests.Timeout):
        session.get(web.url + "/slow", timeout=0.05)
    gate.set()
    with pytest.raises(requests.TooManyRedirects):
        session.get(web.url + "/loop")
    assert [span.error.partition(":")[0] for span in client_spans(trace)] == ["ReadTimeout", "TooManyRedirects"]


@pytest.mark.case("R11")
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interruptions_end_the_span(trace, web, session, raised):
    def hook(response, **_):
        raise raised

    with pytest.raises(raised):
        session.get(web.url, hooks={"response": hook})
    assert len(client_spans(trace)) == 1
    assert current_span.get() is None


@pytest.mark.case("R12")
@pytest.mark.case("R17")
@pytest.mark.parametrize(
    ("status", "error"), [(200, ""), (304, ""), (404, "404 Not Found"), (503, "503 Service Unavailable")]
)
def test_status(trace, web, session, status, error):
    web.routes["/s"] = (status, {}, b"")
    session.get(web.url + "/s")
    (span,) = client_spans(trace)
    assert span.error == error
    assert f"status: {status}" in span.tag


@pytest.mark.case("R13")
@pytest.mark.parametrize(
    "url",
    [
        "no-scheme",
        "http://",
        "http://:x/",
        None,
        "",
        7,
        b"http://127.0.0.1:1/",
        "http://[::1",
        "http://a:port/",
        "http://*/",
    ],
)
def test_bad_urls(same, session, url):
    same(lambda: session.get(url, timeout=0.2) and None)
    assert current_span.get() is None


@pytest.mark.case("R13")
def test_bytes_method(same, web, session):
    same(lambda: session.request(b"GET", web.url).status_code)


@pytest.mark.case("R14", "R15")
def test_arguments(same, web, session):
    prepared = requests.Request("GET", web.url).prepare()
    same(lambda: session.send(request=prepared).status_code)
    same(lambda: session.send(prepared, unknown=1))
    same(lambda: session.send())
    same(lambda: session.send(requests.Request("GET", web.url)))
    same(lambda: session.send(None))
    same(lambda: session.send(prepared, prepared))


@pytest.mark.case("R16")
def test_headers_none(same, web, session):
    def probe():
        prepared: Any = requests.Request("GET", web.url).prepare()
        prepared.headers = None
        return session.send(prepared).status_code

    same(probe)


def slow_body(handler):
    """Headers at once, the body in two parts 50 ms apart."""
    handler.send_response(200)
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"sl")
    handler.wfile.flush()
    time.sleep(0.05)
    handler.wfile.write(b"ow")
    raise ConnectionAbortedError  # all is said


@pytest.mark.case("R17")
@pytest.mark.parametrize(
    "read",
    [
        lambda response: response.content,
        lambda response: b"".join(response.iter_content(1)),
        lambda response: response.raw.read(),
        lambda response: b"".join(response.raw.stream(1)),
    ],
)
def test_a_streamed_body_belongs_to_its_request(trace, web, session, read):
    web.routes["/slow"] = (0, {}, slow_body)
    response = session.get(f"{web.url}/slow", stream=True)
    assert client_spans(trace) == []
    assert read(response) == b"slow"
    (span,) = client_spans(trace)
    assert span.error == ""
    assert span.duration_ns >= 50_000_000
    assert "headers after: " in span.tag


@pytest.mark.case("R17")
def test_a_streamed_body_ends_once_by_close_or_when_it_is_dropped(trace, web, session):
    with session.get(web.url, stream=True) as response:
        assert client_spans(trace) == []
    assert len(client_spans(trace)) == 1
    response.close()
    response = session.get(web.url, stream=True)
    assert len(client_spans(trace)) == 1
    del response  # by its caller, unread
    gc.collect()
    assert len(client_spans(trace)) == 2
    assert session.head(web.url, stream=True).ok  # there is no body
    assert len(client_spans(trace)) == 3
    assert not BODIES


@pytest.mark.case("R17")
def test_a_body_that_breaks_off_is_an_error(trace, web, session):
    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"sl")
        handler.close_connection = True
        raise ConnectionAbortedError

    web.routes["/broken"] = (0, {}, broken)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get(f"{web.url}/broken", stream=True).content  # noqa: B018 - to read it is the point
    (span,) = client_spans(trace)
    assert "IncompleteRead" in span.error


@pytest.mark.case("R17")
def test_open_bodies_are_bounded(trace, web, session, monkeypatch):
    monkeypatch.setattr(outbound, "MOST_OPEN_BODIES", 1)
    kept = [session.get(web.url, stream=True) for _ in range(3)]
    assert len(client_spans(trace)) == 2
    for response in kept:
        response.close()
    assert len(client_spans(trace)) == 3


AT_THE_END = """
import sys, requests
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.instrumentation.registry import registry
from stardust_auto.process import end
from stardust_auto.tracing.tracer import Tracer
tracer = Tracer(keep_totals=True)
registry.install(lambda: tracer, AgentSettings())
end.register(end.Phase.CLOSE, lambda _seconds: print(len(tracer.history())))
response = requests.get(sys.argv[1], stream=True)
print(len(tracer.history()))
"""


@pytest.mark.case("R17")
def test_a_body_that_is_still_open_is_counted_when_the_process_ends(web):
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, web.url], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["0", "1"]


def test_digest_authentication_is_no_redirect(trace, web, session):
    def challenge(handler):
        if "Authorization" in handler.headers:
            return 200, {}, b"in"
        return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b""

    web.routes["/digest"] = (0, {}, challenge)
    assert session.get(f"{web.url}/digest", auth=HTTPDigestAuth("u", "p")).content == b"in"
    (span,) = client_spans(trace)
    assert "redirects" not in span.tag
    assert "attempts: 2" in span.tag


@pytest.mark.case("R18")
def test_hooks_run_once_inside_the_span(trace, web, session):
    seen = []
    session.get(web.url, hooks={"response": lambda response, **_: seen.append(current_span.get().name)})
    assert seen == [client_spans(trace)[0].name]


@pytest.mark.case("R19")
def test_custom_adapters(same, session):
    class Nothing(BaseAdapter):
        def send(self, request, *_args, **_kwargs):
            return None

        def close(self):
            return

    session.mount("mock://", Nothing())
    same(lambda: session.get("mock://x/"))


@pytest.mark.case("R20")
def test_retries_are_attempts_of_one_span(trace, web, session):
    answers: list[Any] = [(503, {}, b""), (503, {}, b""), (200, {}, b"ok")]
    web.routes["/flaky"] = (200, {}, lambda _handler: answers.pop(0))
    session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(3, status_forcelist=[503], backoff_factor=0)))
    assert session.get(web.url + "/flaky").text == "ok"
    (span,) = client_spans(trace)
    assert "attempts: 3" in span.tag
    assert len(set(web.headers("traceparent"))) == 1


@pytest.mark.case("I13", "R21", "R22")
def test_session_subclasses(trace, web):
    class Calling(requests.Session):
        def send(self, request, **kwargs):
            return super().send(request, **kwargs)

    class Silent(requests.Session):
        def send(self, request, **kwargs):
            return "nothing sent"

    Calling().get(web.url)
    assert len(client_spans(trace)) == 1
    assert Silent().get(web.url) == "nothing sent"
    assert len(client_spans(trace)) == 1


@pytest.mark.case("R23")
def test_pickle(same, web, session):
    def probe():
        response = pickle.loads(pickle.dumps(session.get(web.url)))
        copied = pickle.loads(pickle.dumps(session))
        return response.text, response.request.url, dict(response.request.headers), type(copied)

    same(probe)
    same(lambda: pickle.loads(pickle.dumps(requests.Session.send)) is requests.Session.send)


@pytest.mark.case("R24")
def test_threads_share_a_session(trace, web, session):
    threads = [threading.Thread(target=session.get, args=(web.url,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = client_spans(trace)
    assert len(spans) == 8
    assert {f"00-{span.trace_id}-{span.id}-01" for span in spans} == set(web.headers("traceparent"))


@pytest.mark.case("R26")
def test_no_secret_is_recorded(trace, web, session):
    host = web.url.partition("://")[2]
    session.get(f"http://user:pass@{host}/x?token=t1&sig=s1&api_key=k1&page=2#fragment")
    (span,) = client_spans(trace)
    assert span.tag.startswith(f"GET {web.url}/x?token=?&sig=?&api_key=?&page=?\r\n")
    for secret in ("user", "pass@", "t1", "s1", "k1", "fragment"):
        assert secret not in span.tag + span.name


@pytest.mark.case("R27")
@pytest.mark.parametrize(
    "url", ["http://[::1]:9/x", "http://例え.テスト:9/", "http+unix://%2Ftmp%2Fx.sock/info", "http://127.0.0.1:99999/"]
)
def test_odd_hosts(same, session, url):
    same(lambda: session.get(url, timeout=0.2) and None)


@pytest.mark.case("R28")
def test_excluded_names_are_not_reported_but_propagate(trace, web, session):
    from stardust_auto.tracing.builder import TracePolicy

    trace.tracer.apply(TracePolicy(excludes=("*/health",)))
    session.get(web.url + "/health")
    assert client_spans(trace) == []
    assert web.headers("traceparent")[0]


def test_digest_authentication_is_one_span_and_propagates(trace, web, session):
    def challenge(handler):
        if handler.headers.get("Authorization"):
            return 200, {}, b"in"
        return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b""

    web.routes["/private"] = (200, {}, challenge)
    assert session.get(web.url + "/private", auth=HTTPDigestAuth("u", "p")).text == "in"
    (span,) = client_spans(trace)
    assert web.headers("traceparent") == [f"00-{span.trace_id}-{span.id}-01"] * 2


def test_value_is_the_length_of_the_body(trace, web, session):
    session.post(web.url, data=b"12345")
    assert client_spans(trace)[0].value == 5
    assert web.requests[0][3] == b"12345"


def test_urllib3_alone(trace, web):
    web.routes["/r"] = (302, {"Location": "/x"}, b"")
    manager = urllib3.PoolManager()
    manager.request("GET", web.url + "/r?k=v", headers={"X-Mine": "1"})
    urllib3.connection_from_url(web.url).urlopen("POST", "/direct", b"body", {"A": "b"})
    urllib3.HTTPConnectionPool("127.0.0.1", web.server_port).request("GET", "/r")
    first, second, third = client_spans(trace)
    assert (first.name, second.name, third.name) == (f"{web.url}/r", f"{web.url}/direct", f"{web.url}/r")
    assert first.tag.startswith(f"GET {web.url}/r?k=?")
    assert "redirects: 1" in first.tag
    assert all(web.headers("traceparent"))


def test_urllib3_off_leaves_requests_complete(traced_block, web, session):
    with traced_block(integrations={"urllib3": False}) as trace:
        session.get(web.url)
        urllib3.PoolManager().request("GET", web.url)
    (span,) = client_spans(trace)
    assert web.headers("traceparent") == [f"00-{span.trace_id}-{span.id}-01", None]


def test_urllib3_headers_are_unmutated(same, web):
    def probe():
        headers = {"X-Mine": "1"}
        manager = urllib3.PoolManager(headers={"D": "e"})
        manager.request("GET", web.url, headers=headers)
        manager.request("GET", web.url)
        return headers, dict(manager.headers)

    same(probe)


def test_urllib3_errors_and_arguments(same, web):
    pool: Any = urllib3.HTTPConnectionPool("127.0.0.1", web.server_port)
    same(lambda: pool.urlopen())
    same(lambda: pool.urlopen("GET", None))
    same(lambda: pool.urlopen("GET", "/", unknown=3).status)
    same(lambda: pool.urlopen(method="GET", url="/", headers=None).status)
    same(lambda: urllib3.PoolManager(retries=False).request("GET", "http://127.0.0.1:1/"))


@pytest.mark.case("I11")
def test_signatures(same):
    owners = ((requests.Session, "send"), (urllib3.HTTPConnectionPool, "urlopen"), (urllib3.PoolManager, "urlopen"))
    for owner, name in owners:

        def probe(owner=owner, name=name):
            function = getattr(owner, name)
            return str(inspect.signature(function)), function.__qualname__, function.__module__, function.__doc__

        same(probe)


@pytest.mark.case("R9")
def test_what_a_failed_call_leaves_behind_is_freed_as_without_us(same, web):
    """An exception keeps the frames that it passed: none of ours may lead back to it, nor to the response of a retry."""
    web.routes["/again"] = (200, {}, lambda _handler: (503 if len(web.requests) % 2 else 200, {}, b"ok"))

    def probe():
        gc.collect()
        gc.disable()
        try:
            try:
                requests.get("http://127.0.0.1:1/", timeout=5)
            except requests.ConnectionError as error:
                failed = weakref.ref(error)
            with urllib3.PoolManager(retries=urllib3.Retry(1, status_forcelist=[503], backoff_factor=0)) as manager:
                response = manager.request("GET", f"{web.url}/again", preload_content=False)
                answer = weakref.ref(response)
                del response
            return failed(), answer()
        finally:
            gc.enable()

    assert probe() == (None, None)
    same(probe)
