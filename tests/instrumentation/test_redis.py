"""Redis clients behave as without us; one span for each trip to the server, never a key or a value."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import socket
import threading
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import ResponseError, WatchError

from stardust_auto.instrumentation.redis.commands import CommandNames, command_word
from stardust_auto.instrumentation.redis.servers import address_of
from stardust_auto.process.context import current_span, suppressed


@pytest.fixture
def client(store):
    with redis.Redis(port=store, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1)) as client:
        with suppressed():
            client.ping()
        yield client


def commands(trace):
    return [name.rpartition(":")[2] for name in trace.names if name.startswith("redis:")]


def named(trace, command):
    (span,) = [span for span in trace.spans if span.name.endswith(f":{command}")]
    return span


def text(trace):
    return " ".join(f"{span.name} {span.tag} {span.error}" for span in trace.spans)


@pytest.mark.case("D1")
def test_names_are_upper_case_commands(trace, client, store):
    client.set("k", "v")
    client.execute_command("get", "k")
    client.execute_command(b"Get", "k")
    assert commands(trace) == ["SET", "GET", "GET"]
    assert trace.names[0] == f"redis:localhost:{store}/0:SET"


@pytest.mark.case("D2")
@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("CONFIG GET", "save"), "CONFIG GET"),
        (("config", "get", "save"), "CONFIG GET"),
        ((b"CLIENT LIST",), "CLIENT LIST"),
        (("SET key value",), "SET"),
        (("OBJECT", "ENCODING", "k"), "OBJECT ENCODING"),
        (("CONFIG", "s3cret!"), "CONFIG"),
        (("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", "$"), "XREAD BLOCK"),
        (("XREAD", "COUNT", 1, "STREAMS", "s", "0"), "XREAD"),
        ((), "(none)"),
        ((7,), "(none)"),
        (("",), "(none)"),
    ],
)
def test_two_word_commands(args, word):
    assert command_word(args) == word


@pytest.mark.case("D2")
def test_through_the_client(trace, client):
    client.config_get("save")
    client.execute_command("CONFIG", "GET", "save")
    client.client_list()
    assert commands(trace) == ["CONFIG GET", "CONFIG GET", "CLIENT LIST"]


@pytest.mark.case("D3")
def test_keys_and_values_are_never_recorded(trace, client):
    client.set("key-secret", "value-secret")
    client.execute_command("SETEX", "key-secret", 10, "value-secret")
    client.hset("key-secret2", mapping={"field-secret": "value-secret"})
    client.eval("return ARGV[1]", 1, "key-secret", "arg-secret")
    with pytest.raises(redis.AuthenticationError):
        client.execute_command("AUTH", "user-secret", "password-secret")
    pipeline = client.pipeline()
    pipeline.set("key-secret", "value-secret").get("key-secret").execute()
    client.execute_command("GET key-secret")
    assert "secret" not in text(trace)


@pytest.mark.case("D4", "D6")
def test_a_pipeline_is_one_span(trace, client):
    for transaction in (True, False):
        pipeline = client.pipeline(transaction=transaction)
        pipeline.set("a", 1).get("a").get("a")
        assert commands(trace) == ["PIPELINE"] * (not transaction)  # queued calls make none
        assert pipeline.execute() == [True, b"1", b"1"]
    spans = [span for span in trace.spans if span.name.endswith("PIPELINE")]
    assert [span.value for span in spans] == [3, 3]
    assert spans[0].tag.endswith("3 commands: SET, GET x2")


@pytest.mark.case("D5")
def test_an_empty_pipeline_makes_no_span(same, client):
    trace = same(lambda: (client.pipeline().execute(), len(client.pipeline())))
    assert trace.names == []


@pytest.mark.case("D7")
def test_watch_and_conflict(trace, client, store):
    other = redis.Redis(port=store)
    with client.pipeline() as pipeline:
        pipeline.watch("n")
        pipeline.get("n")
        other.set("n", 1)
        pipeline.multi()
        pipeline.set("n", 2)
        with pytest.raises(WatchError):
            pipeline.execute()
    assert commands(trace) == ["WATCH", "GET", "SET", "PIPELINE"]
    span = named(trace, "PIPELINE")
    assert span.error == ""
    assert span.tag.endswith("conflict")


@pytest.mark.case("D7")
def test_a_watched_pipeline_with_nothing_queued_is_sent_if_it_is_a_transaction(same, store):
    def probe():
        results = []
        with redis.Redis(port=store) as client:
            for transaction, multi in ((True, False), (False, False), (False, True)):
                with client.pipeline(transaction=transaction) as pipeline:
                    pipeline.watch("n")
                    if multi:
                        pipeline.multi()
                    results += [pipeline.execute(), pipeline.watching]
        return results

    trace = same(probe)
    assert commands(trace) == ["WATCH", "PIPELINE", "WATCH", "WATCH", "PIPELINE"]
    assert {span.tag.rpartition(" commands")[2] for span in trace.spans if span.name.endswith("PIPELINE")} == {""}


@pytest.mark.case("D7")
def test_a_watched_pipeline_with_nothing_queued_asyncio(same, store):
    async def main():
        results = []
        async with redis.asyncio.Redis(port=store) as client:
            for transaction in (True, False):
                async with client.pipeline(transaction=transaction) as pipeline:
                    await pipeline.watch("n")
                    results += [await pipeline.execute(), pipeline.watching]
        return results

    assert commands(same(lambda: asyncio.run(main()))) == ["WATCH", "PIPELINE", "WATCH"]


@pytest.mark.case("D8")
def test_errors_of_members_that_are_not_raised(trace, client):
    client.set("text", "x")
    pipeline = client.pipeline(transaction=False)
    pipeline.incr("text").get("text").incr("text")
    results = pipeline.execute(raise_on_error=False)
    assert [type(one) for one in results] == [ResponseError, bytes, ResponseError]
    span = named(trace, "PIPELINE")
    assert "failed: 2" in span.tag
    assert span.error.startswith("ResponseError")


@pytest.mark.case("D9")
def test_errors_are_unchanged_and_the_context_is_restored(same, client):
    client.set("text", "x")

    def probe():
        before = current_span.get()
        try:
            client.incr("text")
        except ResponseError as error:
            return str(error), type(error.__context__), error.__cause__, current_span.get() is before

    trace = same(probe)
    assert named(trace, "INCRBY").error.startswith("ResponseError: value is not an integer")


@pytest.mark.case("D10", "D11", "D12")
def test_connection_errors(trace):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        client = redis.Redis(
            host="127.0.0.1", port=port, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 2), socket_timeout=0.2
        )
        with pytest.raises(redis.ConnectionError):
            client.get("k")
    span = named(trace, "GET")
    assert span.name == f"redis:127.0.0.1:{port}/0:GET"
    assert span.error.startswith("ConnectionError")
    assert commands(trace) == ["GET"]


@pytest.mark.case("D13")
def test_blocking_commands_have_buckets_of_their_own(trace, client):
    client.blpop("queue", timeout=0.01)
    client.xread({"stream": "0"}, block=1)
    client.xread({"stream": "0"})
    assert commands(trace) == ["BLPOP", "XREAD BLOCK", "XREAD"]


@pytest.mark.case("D14")
def test_pubsub(trace, client):
    with client.pubsub() as pubsub:
        pubsub.subscribe("channel")
        pubsub.get_message(timeout=1)
        client.publish("channel", "secret")
        assert pubsub.get_message(timeout=1)["data"] == b"secret"
    assert commands(trace) == ["PUBLISH"]


@pytest.mark.case("D15")
def test_scan_iter(trace, client):
    client.mset({f"k{number}": number for number in range(30)})
    iterator = client.scan_iter(count=5)
    next(iterator)
    iterator.close()
    assert commands(trace) == ["MSET", "SCAN"]


@pytest.mark.case("D16", "D17")
def test_scripts_and_locks(same, client):
    def probe():
        client.script_flush()
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        results = [script(keys=["n"]), script(keys=["n"])]
        with client.lock("lock", timeout=5) as lock:
            results.append(lock.locked())
        client.delete("n")
        return results

    trace = same(probe)
    assert commands(trace)[:4] == ["SCRIPT FLUSH", "EVALSHA", "SCRIPT LOAD", "EVALSHA"]


@pytest.mark.case("D18")
def test_transaction(same, client):
    def probe():
        client.set("n", 1)

        def body(pipeline):
            value = int(pipeline.get("n"))
            pipeline.multi()
            pipeline.set("n", value + 1)

        return client.transaction(body, "n"), client.get("n")

    same(probe)


class Pool:
    """A pool of somebody's own, without what redis-py's have."""


class Node:
    host, port = "node", 7000


@pytest.mark.case("D19", "D20")
@pytest.mark.parametrize(
    ("pool", "address"),
    [
        (redis.ConnectionPool.from_url("redis://user:secret@host:7000/3"), "host:7000/3"),
        (redis.ConnectionPool.from_url("unix:///run/redis.sock?db=2"), "redis.sock/2"),
        (redis.ConnectionPool.from_url("rediss://host"), "host/0"),
        (redis.sentinel.SentinelConnectionPool("mymaster", redis.Sentinel([])), "mymaster/0"),
        (Pool(), "default"),
        (type("Nodes", (), {"startup_nodes": {"node:7000": Node}})(), "node:7000"),
    ],
)
def test_addresses(pool, address):
    assert address_of(pool) == address


@pytest.mark.case("D20")
def test_cluster_classes_are_patched(trace):
    from redis.asyncio.cluster import RedisCluster as AsyncCluster
    from redis.cluster import ClusterPipeline, RedisCluster

    for method in (RedisCluster.execute_command, ClusterPipeline.execute, AsyncCluster.execute_command):
        assert hasattr(method, "__wrapped__")
    assert inspect.iscoroutinefunction(AsyncCluster.execute_command)


@pytest.mark.case("D21")
def test_asyncio(same, store):
    async def main():
        async with redis.asyncio.Redis(port=store) as client:
            results: list[Any] = [await client.set("k", "secret"), await client.get("k")]
            pipeline: Any
            async with client.pipeline(transaction=True) as pipeline:
                results += await pipeline.set("k", 1).incr("k").execute()
            results.append(await client.pipeline().execute())
            try:
                await client.execute_command("NONSENSE")
            except ResponseError as error:
                results.append(str(error))
            return results

    trace = same(lambda: asyncio.run(main()))
    assert commands(trace) == ["SET", "GET", "PIPELINE", "NONSENSE"]
    assert "secret" not in text(trace)


@pytest.mark.case("D21")
def test_cancelled_mid_await(trace, store):
    async def main():
        async with redis.asyncio.Redis(port=store) as client:
            await client.ping()
            blocked: Any = client.blpop("never", timeout=30)
            task = asyncio.create_task(blocked)
            async with redis.asyncio.Redis(port=store) as other:
                while await other.info("clients") and not (await other.info("clients"))["blocked_clients"]:
                    continue
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not named(trace, "BLPOP").error  # nobody waits for it any more: counted, and no failure of the server
    assert named(trace, "BLPOP").tag.endswith("BLPOP\r\ncancelled")


@pytest.mark.case("D22")
def test_fakeredis_is_a_client_like_any_other(same):
    import fakeredis

    trace = same(lambda: (fakeredis.FakeRedis().set("k", "v"), fakeredis.FakeRedis().get("k")))
    assert commands(trace) == ["SET", "GET"]


@pytest.mark.case("D23")
def test_subclass(trace, store):
    class Mine(redis.Redis):
        def execute_command(self, *args, **options):
            return super().execute_command(*args, **options)

    assert Mine(port=store).ping() is True
    assert commands(trace) == ["PING"]


@pytest.mark.case("D24")
def test_a_client_made_before_is_traced(store, traced_block):
    client = redis.Redis(port=store)
    client.ping()
    with traced_block() as trace:
        client.ping()
    assert commands(trace) == ["PING"]


@pytest.mark.case("D25")
def test_pickle_and_signatures(same):
    owners = (
        (redis.Redis, "execute_command"),
        (redis.client.Pipeline, "execute"),
        (redis.asyncio.Redis, "execute_command"),
    )
    for owner, name in owners:

        def probe(owner=owner, name=name):
            function = getattr(owner, name)
            return (
                pickle.loads(pickle.dumps(function)) is function,
                function.__qualname__,
                str(inspect.signature(function)),
                inspect.iscoroutinefunction(function),
                function.__doc__,
            )

        same(probe)


@pytest.mark.parametrize("args", [(), (7,), (None,), ([],), ({},), (b"\xff",), ("NO SUCH",)])
def test_wrong_commands(same, client, args):
    same(lambda: client.execute_command(*args))


def test_threads_and_suppression(trace, client):
    threads = [threading.Thread(target=client.get, args=("k",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with suppressed():
        client.get("k")
        client.pipeline().get("k").execute()
    assert commands(trace) == ["GET"] * 8


def test_pools_are_forgotten_with_their_clients(trace, store):
    from stardust_auto.instrumentation.redis.servers import BY_POOL

    keys = []
    for _ in range(5):
        with redis.Redis(port=store) as client:
            client.ping()
            keys.append(id(client.connection_pool))
            assert keys[-1] in BY_POOL
        del client
        gc.collect()
    assert not BY_POOL.keys() & set(keys)


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("GET", "user:7:cart"), "GET user"),
        (("get", b"session-abc"), "GET session"),
        (("MGET", ["cart9", "x"]), "MGET cart"),
        (("SET", "7up", "secret"), "SET"),
        (("EVAL", "secret()", 0), "EVAL"),
        (("AUTH", "secret"), "AUTH"),
        (("GET", "x" * 99), "GET"),
    ],
)
def test_the_tag_names_the_prefix_of_a_key_where_that_is_asked_for(args, shown):
    names = CommandNames("localhost/0")
    assert names.describe(names.name(args), args[:2]) == f"localhost/0 {shown}"
    assert names.describe(names.name(args)) == f"localhost/0 {shown.partition(' ')[0]}"


def test_keys_are_shown_only_on_request(traced_block, client):
    with traced_block() as trace:
        client.get("user:7")
    with traced_block(redis_keys=True) as asked:
        client.get("user:7")
    assert [span.tag.rpartition(" ")[2] for span in (trace.spans[0], asked.spans[0])] == ["GET", "user"]
