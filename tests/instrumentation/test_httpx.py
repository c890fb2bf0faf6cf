"""httpx behaves as without the agent, sync and async, and each request that the program sends is one span."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import time
import weakref

import httpx
import pytest

from stardust_auto.instrumentation.kit.outbound import BODIES
from stardust_auto.process.context import current_span, suppressed


def client_spans(trace):
    return [span for span in trace.spans if span.name.startswith("http")]


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


class Sync:
    """``httpx.Client``, asked as the async one is."""

    def __init__(self, **options):
        self.options = options

    def run(self, use):
        with httpx.Client(trust_env=False, **self.options) as client:
            return use(client)

    def get(self, url, **options):
        return self.run(lambda client: client.get(url, **options))

    def stream(self, url, read):
        def use(client):
            with client.stream("GET", url) as response:
                return read(response)

        return self.run(use)


class Async(Sync):
    """``httpx.AsyncClient``."""

    def run(self, use):
        async def main():
            async with httpx.AsyncClient(trust_env=False, **self.options) as client:
                return await use(client)

        return asyncio.run(main())

    def stream(self, url, read):
        async def use(client):
            async with client.stream("GET", url) as response:
                await response.aread()
                return read(response)

        return self.run(use)


@pytest.fixture(params=[Sync, Async])
def kind(request):
    return request.param


def test_a_request_is_one_span_and_its_id_is_on_the_wire(trace, web, kind):
    with trace.tracer.new_span("job") as job:
        response = kind().get(f"{web.url}/items/7?token=secret", headers={"X-Mine": "1"})
    (span,) = client_spans(trace)
    assert span.name == f"{web.url}/items"
    assert span.tag == f"GET {web.url}/items/7?token=?\r\nstatus: 200"
    assert (span.trace_id, span.parent_id) == (job.trace_id, job.span_id)
    assert web.headers("traceparent") == [f"00-{span.trace_id}-{span.id}-01"]
    assert "traceparent" not in response.request.headers


def test_a_body_is_the_value(trace, web):
    Sync().run(lambda client: client.post(web.url, content=b"12345"))
    assert client_spans(trace)[0].value == 5


def test_redirects_belong_to_the_request(trace, web, kind):
    web.routes.update({"/a": (302, {"Location": "/b"}, b""), "/b": (301, {"Location": "/c"}, b"")})
    response = kind(follow_redirects=True).get(f"{web.url}/a")
    (span,) = client_spans(trace)
    assert [one.status_code for one in response.history] == [302, 301]
    assert "redirects: 2" in span.tag
    assert "attempts" not in span.tag
    assert set(web.headers("traceparent")) == {f"00-{span.trace_id}-{span.id}-01"}


def test_digest_authentication_is_no_redirect(trace, web, kind):
    def challenge(handler):
        if "Authorization" in handler.headers:
            return 200, {}, b"in"
        return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b""

    web.routes["/digest"] = (0, {}, challenge)
    assert kind(auth=httpx.DigestAuth("u", "p")).get(f"{web.url}/digest").content == b"in"
    (span,) = client_spans(trace)
    assert "redirects" not in span.tag
    assert "attempts: 2" in span.tag


@pytest.mark.parametrize(("status", "error"), [(304, ""), (404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_statuses_from_400_on_are_errors(trace, web, kind, status, error):
    web.routes["/"] = (status, {}, b"")
    kind().get(web.url + "/")
    assert client_spans(trace)[0].error.partition("\r\n")[0] == error


@pytest.mark.parametrize("allowed", [("none",), ("elsewhere.example",)])
def test_a_host_that_is_not_allowed_gets_no_header(traced_block, web, kind, allowed):
    with traced_block(propagate_to=allowed) as trace:
        kind().get(web.url)
    assert web.headers("traceparent") == [None]
    assert len(client_spans(trace)) == 1


def test_a_traceparent_of_the_program_is_left_alone(trace, web, kind):
    kind().get(web.url, headers={"Traceparent": "mine"})
    assert web.headers("traceparent") == ["mine"]


def test_nothing_of_the_callers_changes(same, web, kind):
    web.routes["/hop"] = (302, {"Location": "/end"}, b"")

    def probe():
        seen = []

        def note(one):
            seen.append(
                (type(one).__name__, sorted(one.headers) if type(one).__name__ == "Request" else one.status_code)
            )

        async def note_async(one):
            note(one)

        hook = note if kind is Sync else note_async
        hooks = {"request": [hook], "response": [hook]}
        response = kind(event_hooks=hooks, follow_redirects=True).get(f"{web.url}/hop", headers={"X": "1"})
        return (
            seen,
            sorted(response.request.headers),
            [sorted(one.request.headers) for one in response.history],
            response.is_closed,
        )

    same(probe)


def test_errors_are_what_they_were(same, kind):
    from _kit.ports import reserved_port

    port = reserved_port()
    trace = same(lambda: kind().get(f"http://127.0.0.1:{port}/", timeout=1))
    (span,) = client_spans(trace)
    assert span.error.startswith("ConnectError")


@pytest.mark.parametrize("args", [(), (7,), (None,), ("text",)])
def test_wrong_arguments_are_refused_in_the_librarys_own_words(same, kind, args):
    same(lambda: kind().run(lambda client: client.get(*args)))


def test_metadata_of_what_is_patched(same):
    owners = (
        (httpx.Client, "send"),
        (httpx.AsyncClient, "send"),
        (httpx.Response, "close"),
        (httpx.Response, "aclose"),
    )

    def probe():
        found = []
        for owner, name in owners:
            function = getattr(owner, name)
            found.append(
                (
                    str(inspect.signature(function)),
                    function.__qualname__,
                    inspect.iscoroutinefunction(function),
                    type(function),
                    pickle.loads(pickle.dumps(function)) is function,
                )
            )
        return found

    same(probe)


@pytest.mark.parametrize("transport", [httpx.MockTransport(lambda request: httpx.Response(204)), None])
def test_transports_of_the_programs_own(same, transport):
    def empty(_environ, start):
        start("204 No Content", [])
        return [b""]

    if transport is None:
        transport = httpx.WSGITransport(app=empty)

    def probe():
        with httpx.Client(transport=transport, base_url="http://inside") as client:
            return client.get("/x").status_code, client._transport is transport

    assert len(client_spans(same(probe))) == 1


def test_a_streamed_body_belongs_to_its_request(trace, web, kind):
    web.routes["/slow"] = (0, {}, slow_body)
    assert kind().stream(f"{web.url}/slow", lambda response: response.read()) == b"slow"
    (span,) = client_spans(trace)
    assert span.duration_ns >= 50_000_000
    assert "headers after: " in span.tag
    assert not BODIES


def test_a_stream_left_early_or_dropped_ends_its_span(trace, web, kind):
    kind().stream(web.url, lambda response: response.status_code)
    assert len(client_spans(trace)) == 1
    with httpx.Client(trust_env=False) as client:
        response = client.send(client.build_request("GET", web.url), stream=True)
        assert len(client_spans(trace)) == 1
        reference = weakref.ref(response)
        del response
        gc.collect()
        assert reference() is None
    assert len(client_spans(trace)) == 2


def test_a_body_that_breaks_off_is_an_error(trace, web, kind):
    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"sl")
        handler.close_connection = True
        raise ConnectionAbortedError

    web.routes["/broken"] = (0, {}, broken)
    with pytest.raises(httpx.RemoteProtocolError):
        kind().stream(f"{web.url}/broken", lambda response: response.read())
    (span,) = client_spans(trace)
    assert span.error.startswith("RemoteProtocolError")


def test_a_cancelled_request_is_counted_and_no_error(trace, web):
    def slow(_handler):
        time.sleep(0.5)
        return 200, {}, b""

    web.routes["/slow"] = (0, {}, slow)

    async def main():
        async with httpx.AsyncClient(trust_env=False) as client:
            task = asyncio.create_task(client.get(f"{web.url}/slow"))
            while not web.requests:  # noqa: ASYNC110 - the server is a thread
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return client.is_closed

    assert asyncio.run(main()) is False
    (span,) = client_spans(trace)
    assert span.error == ""
    assert span.tag.endswith("cancelled")


def test_concurrent_requests_keep_their_own_parents(trace, web):
    async def one(client, number):
        with trace.tracer.new_span(f"job{number}"):
            await client.get(f"{web.url}/n{number}x")
            assert current_span.get().name == f"job{number}"

    async def main():
        async with httpx.AsyncClient(trust_env=False) as client:
            await asyncio.gather(*(one(client, number) for number in range(20)))

    asyncio.run(main())
    parents = {span.id: span.name for span in trace.spans if span.name.startswith("job")}
    assert {parents[span.parent_id] for span in client_spans(trace)} == {f"job{number}" for number in range(20)}
    assert all(
        parents[span.parent_id][3:] == span.tag.partition("/n")[2].partition("x")[0] for span in client_spans(trace)
    )


def test_off_and_suppressed(traced_block, web, kind):
    with traced_block(integrations={"httpx": False}) as trace:
        kind().get(web.url)
    assert client_spans(trace) == []
    with traced_block() as trace, suppressed():
        kind().get(web.url)
    assert client_spans(trace) == []
    assert web.headers("traceparent") == [None, None]
    assert not hasattr(httpx.Client.send, "__wrapped__")
