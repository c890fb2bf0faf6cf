"""The service registry and the StarAgent of the machine (protocol.md §7, §8.2)."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stardust_auto.protocol.discovery import AgentInfo, decode_reply, encode_request, find_agent, read_agent
from stardust_auto.protocol.errors import ApiError, Unavailable
from stardust_auto.protocol.registry import ServiceRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faulty_server import FaultyServer

    from stardust_auto.protocol.messages import ServiceInstance
    from stardust_auto.protocol.session import Session

    NewSession = Callable[..., Session]


@pytest.fixture
def instances(server: FaultyServer) -> list[dict[str, Any]]:
    """What the server knows of the service ``stock``."""
    known = [{"serviceName": "stock", "client": "10.0.0.7@1", "address": "http://10.0.0.7:80", "weight": 1}]
    server.answers["app/resolveservice"] = lambda handler: handler.reply(
        known if handler.call_body["ServiceName"] == "stock" else []
    )
    server.answers["app/registerservice"] = lambda handler: handler.reply({"serviceName": "shop"})
    # Recorded: a withdrawal that worked is answered with a null reference.
    server.answers["app/unregisterservice"] = lambda handler: handler.reply(None, 500, "Object reference not set")
    return known


@pytest.mark.usefixtures("instances")
def test_offered_each_period_and_withdrawn_on_stop(server: FaultyServer, new_session: NewSession) -> None:
    server.period = 1
    session = new_session(server.url, version="1.4-beta")
    registry = ServiceRegistry(session)
    registry.register("shop", "http://*:8000", tags=("blue", "eu"))
    second = server.wait_for("app/registerservice", 2)
    assert second.body == {
        "ServiceName": "shop",
        "ClientId": session.client_id,
        "Version": "1.4",
        "Address": "http://*:8000",
        "Tag": "blue,eu",
    }
    assert session.stop()
    assert server.count("app/unregisterservice") == 1
    paths = [call.path for call in server.calls]
    assert paths.index("app/unregisterservice") < paths.index("app/logout")


@pytest.mark.usefixtures("instances")
def test_withdrawn_by_hand(server: FaultyServer, new_session: NewSession) -> None:
    registry = ServiceRegistry(new_session(server.url))
    registry.register("shop", "http://*:8000")
    server.wait_for("app/registerservice")
    registry.unregister("shop")
    registry.unregister("shop")
    assert server.count("app/unregisterservice") == 1
    server.answers["app/unregisterservice"] = lambda handler: handler.reply(None, 403, "no")
    registry.register("shop", "http://*:8000")
    with pytest.raises(ApiError):
        registry.unregister("shop")


@pytest.mark.usefixtures("instances")
def test_resolve(server: FaultyServer, new_session: NewSession) -> None:
    registry = ServiceRegistry(new_session(server.url))
    (found,) = registry.resolve("stock", tags=["blue"])
    assert (found.client, found.address, found.weight) == ("10.0.0.7@1", "http://10.0.0.7:80", 1)
    assert server.of("app/resolveservice")[0].body["Tag"] == "blue"
    assert registry.resolve("nobody") == []
    server.close()
    with pytest.raises(Unavailable):
        registry.resolve("stock")


def test_watched_services_follow_the_push(
    server: FaultyServer, new_session: NewSession, instances: list[dict[str, Any]]
) -> None:
    seen: list[list[str | None]] = []
    changed = threading.Semaphore(0)

    def listener(found: tuple[ServiceInstance, ...]) -> None:
        seen.append([instance.client for instance in found])
        changed.release()
        raise RuntimeError("an application's mistake")

    session = new_session(server.url, push=True)
    registry = ServiceRegistry(session)
    registry.watch("stock", listener)
    assert changed.acquire(timeout=5)
    connected = server.wait_for_socket()
    instances.append({"serviceName": "stock", "client": "10.0.0.8@1", "address": "http://10.0.0.8:80"})
    connected.push("registry/register", 31, Argument='{"AppName":"stock","ServiceName":"stock"}')
    assert changed.acquire(timeout=5)
    assert seen == [["10.0.0.7@1"], ["10.0.0.7@1", "10.0.0.8@1"]]
    asked = server.count("app/resolveservice")
    assert [instance.client for instance in registry.resolve("stock")] == seen[-1]  # from memory
    assert server.count("app/resolveservice") == asked
    assert server.wait_for("app/commandreply").body == {"Id": 31, "Status": 2, "Data": "ok"}


def test_the_recorded_request_and_frame() -> None:
    assert encode_request("Info", b"{}", 0).hex(" ") == "01 00 0b 00 04 49 6e 66 6f 02 00 00 00 7b 7d"  # §8.2


def reply(body: bytes, first: int = 0x81, action: bytes = b"Info") -> bytes:
    payload = bytes([len(action)]) + action + len(body).to_bytes(4, "little") + body
    return bytes([first, 1]) + len(payload).to_bytes(2, "little") + payload


@pytest.fixture
def agent() -> Iterator[tuple[int, list[bytes]]]:
    """A StarAgent: its port, and the packets that it sends for a request."""
    packets: list[bytes] = []
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                request, who = sock.recvfrom(2048)
            except OSError:
                return
            assert decode_reply(b"\x81" + request[1:], "Info") == b"{}"
            for packet in packets:
                sock.sendto(packet, who)

    threading.Thread(target=serve, daemon=True).start()
    yield sock.getsockname()[1], packets
    sock.close()


def test_the_agent_tells_the_server(agent: tuple[int, list[bytes]]) -> None:
    port, packets = agent
    packets += [b"rubbish", reply(b'{"server":"x"}', 0xC1), reply(b'{"Server":"http://10.0.0.1:6600","Code":"node7"}')]
    assert find_agent(2, port) == AgentInfo(server="http://10.0.0.1:6600", code="node7")


def test_no_agent_or_a_silent_one(agent: tuple[int, list[bytes]]) -> None:
    started = time.monotonic()
    assert find_agent(0.3, agent[0]) is None
    assert 0.2 < time.monotonic() - started < 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]
    started = time.monotonic()
    assert find_agent(5, free) is None
    assert time.monotonic() - started < 1


@given(st.binary(max_size=200) | st.binary(max_size=100).map(reply))
def test_any_packet(packet: bytes) -> None:
    info = read_agent(packet)
    assert info is None or isinstance(info, AgentInfo)


def test_long_and_odd_packets() -> None:
    long = reply(b'{"Server":"http://a"}')
    payload = long[4:]
    assert read_agent(b"\x81\x01\xff\xff" + len(payload).to_bytes(4, "little") + payload) == AgentInfo(
        server="http://a"
    )
    assert read_agent(long[:-1]) is None
    assert read_agent(reply(b"[" * 50_000)) is None
    assert read_agent(reply(b"[]")) is None
