"""Django's redis caches, rq and fakeredis behave as they do plain; their commands have the right names and parents."""

from __future__ import annotations

import asyncio
import types
from typing import Any

import fakeredis
import pytest
import redis
import rq
from _kit.ports import reserved_port
from django.core.cache import CacheHandler
from django.test import override_settings

from stardust_auto.process.context import suppressed


def calls(trace):
    """(command, name of the parent) of every call to a store."""
    names = {span.id: span.name for span in trace.spans}
    return [
        (span.name.rpartition(":")[2], names.get(span.parent_id))
        for span in trace.spans
        if span.name.startswith("redis:")
    ]


def words(trace):
    return [command for command, _ in calls(trace)]


DJANGO = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"


def cache_of(backend, port, **settings):
    """A cache, as Django makes it from ``CACHES``."""
    location = f"redis://127.0.0.1:{port}/0"
    return CacheHandler({"default": {"BACKEND": backend, "LOCATION": location, **settings}})["default"]


@pytest.fixture(autouse=True)
def settings():
    """Django's settings for one test, whether there are others in this process or none."""
    with override_settings():
        yield


@pytest.mark.case("D1")
@pytest.mark.parametrize("backend", [DJANGO, DJANGO_REDIS])
def test_caches_of_django(same, store, backend):
    def probe():
        cache = cache_of(backend, store, KEY_PREFIX="secret", VERSION=2)
        results = [
            cache.set("a", {"secret": [1]}, timeout=60),
            cache.get("a"),
            cache.get("missing", "nothing"),
            cache.add("a", 2),
            cache.get_or_set("b", lambda: 5),
            cache.incr("b"),
            cache.decr("b", 2),
            cache.touch("a", 30),
            cache.has_key("a"),
            "b" in cache,
            cache.set_many({"c": 1, "d": b"raw"}),
            cache.get_many(["a", "c", "d", "missing"]),
            cache.delete("c"),
            cache.delete_many(["a", "d"]),
        ]
        with pytest.raises(ValueError, match="missing") as caught:
            cache.incr("missing")
        results.append((str(caught.value), type(caught.value.__context__)))
        cache.clear()
        cache.close()
        return results

    trace = same(probe)
    seen = words(trace)
    assert seen.count("PIPELINE") >= 1, seen  # set_many
    assert {"SET", "GET", "MGET"} <= set(seen)
    assert all("secret" not in f"{span.name} {span.tag}" for span in trace.spans)


@pytest.mark.case("D1")
def test_locks_patterns_and_the_raw_client_of_django_redis(same, store):
    def probe():
        cache = cache_of(DJANGO_REDIS, store)
        cache.clear()
        cache.set_many({f"n:{number}": number for number in range(5)})
        results = [sorted(cache.keys("n:*")), sorted(cache.iter_keys("n:*", itersize=2)), cache.ttl("n:1")]
        with cache.lock("guard", timeout=30):
            results.append(cache.client.get_client().exists(cache.make_key("guard")))
        results += [
            cache.delete_pattern("n:*"),
            cache.keys("*"),
            cache.set("x", 1, nx=True),
            cache.set("x", 2, nx=True),
        ]
        raw = cache.client.get_client(write=True)
        raw.flushdb()
        results += [isinstance(raw, redis.Redis), type(raw).__name__, raw.hset("h", "f", "v"), raw.hgetall("h")]
        return results

    assert {"HSET", "HGETALL", "EXISTS"} <= set(words(same(probe)))


@pytest.mark.case("D10")
def test_errors_of_a_store_that_is_gone(same):
    port = reserved_port()

    def probe():
        results = []
        for cache in (
            cache_of(DJANGO, port),
            cache_of(DJANGO_REDIS, port),
            cache_of(DJANGO_REDIS, port, OPTIONS={"IGNORE_EXCEPTIONS": True}),
        ):
            try:
                results.append(cache.get("a", "nothing"))
            except Exception as error:
                chain = type(error), type(error.__cause__), type(error.__context__), error.__suppress_context__
                results.append((*chain, str(error)))
        return results

    trace = same(probe)
    assert words(trace) == ["GET"] * 3
    assert all(span.error for span in trace.spans if span.name.startswith("redis:"))


def test_t01_commands_of_a_cache_are_children_of_the_span_around_them(trace, store):
    for backend in (DJANGO, DJANGO_REDIS):
        cache = cache_of(backend, store)
        with trace.tracer.new_span(f"page of {backend}"):
            cache.set("a", 1)
            cache.get("a")
    pages = [f"page of {backend}" for backend in (DJANGO, DJANGO_REDIS)]
    assert calls(trace) == [(command, page) for page in pages for command in ("SET", "GET")]


@pytest.mark.case("D1")
@pytest.mark.parametrize("backend", [DJANGO, DJANGO_REDIS])
def test_a_cache_that_cannot_be_made(same, store, backend):
    def probe():
        cache_of(backend, store, OPTIONS={"CLIENT_CLASS": "no.Such", "serializer": "no.Such"}).get("a")

    assert words(same(probe)) == []


#: Where the jobs find the server and the tracer of a test.
place: Any = types.SimpleNamespace()


def job(number):
    """What rq runs: commands of the program's own, inside the worker's."""
    with redis.Redis(port=place.port) as client:
        client.incrby("jobs", number)
    if number < 0:
        raise ValueError("a job that fails")
    return number * 2


def spanned(number):
    with place.tracer.new_span("job"):
        return job(number)


@pytest.mark.case("D1")
def test_rq_with_a_worker_in_this_process(same, store):
    place.port = store

    def probe():
        with redis.Redis(port=store) as client:
            with suppressed():
                client.flushall()
            queue = rq.Queue(connection=client)
            jobs = [queue.enqueue(job, number) for number in (1, 2, -1)]
            rq.SimpleWorker([queue], connection=client).work(burst=True)
            results = [one.get_status(refresh=True) for one in jobs] + [one.return_value() for one in jobs]
            result: Any = jobs[2].latest_result()
            trace = result.exc_string
            return results, trace.splitlines()[-3:], client.get("jobs"), queue.count, queue.failed_job_registry.count

    trace = same(probe)
    assert words(trace).count("INCRBY") == 3
    assert words(trace).count("PIPELINE") > 3


def test_t01_commands_of_a_job_are_children_of_its_span(trace, store):
    place.port = store
    place.tracer = trace.tracer
    with redis.Redis(port=store) as client:
        queue = rq.Queue(connection=client)
        queue.enqueue(spanned, 4)
        rq.SimpleWorker([queue], connection=client).work(burst=True)
    assert [pair for pair in calls(trace) if pair[0] == "INCRBY"] == [("INCRBY", "job")]


@pytest.mark.case("D22")
def test_fakeredis_with_all_that_is_patched(same):
    def probe():
        server = fakeredis.FakeServer()
        client, other = (
            fakeredis.FakeRedis(server=server),
            fakeredis.FakeStrictRedis(server=server, decode_responses=True),
        )
        results: list[Any] = [
            client.set("n", 1),
            other.get("n"),
            isinstance(client, redis.Redis),
            type(client).__name__,
        ]
        pipeline: Any = client.pipeline()
        results.append(pipeline.incr("n").get("n").execute())
        pipeline.watch("n")
        other.set("n", 7)
        pipeline.multi()
        pipeline.incr("n")
        with pytest.raises(redis.WatchError) as caught:
            pipeline.execute()
        results += [str(caught.value), client.get("n"), client.lpush("list", "a"), client.blpop("list", timeout=1)]
        with pytest.raises(redis.ResponseError) as refused:
            client.lpush("n", 1)
        results.append(str(refused.value))
        server.connected = False
        with pytest.raises(redis.ConnectionError) as gone:
            client.get("n")
        return [*results, str(gone.value)]

    assert words(same(probe)) == [
        "SET",
        "GET",
        "PIPELINE",
        "WATCH",
        "SET",
        "PIPELINE",
        "GET",
        "LPUSH",
        "BLPOP",
        "LPUSH",
        "GET",
    ]


@pytest.mark.case("D22")
def test_fakeredis_asyncio(same):
    async def main():
        async with fakeredis.FakeAsyncRedis() as client:
            results: list[Any] = [await client.set("n", 1), isinstance(client, redis.asyncio.Redis)]
            pipeline: Any
            async with client.pipeline() as pipeline:
                results.append(await pipeline.incr("n").get("n").execute())
            return results

    assert words(same(lambda: asyncio.run(main()))) == ["SET", "PIPELINE"]
