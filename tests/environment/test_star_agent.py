"""The StarAgent of the machine, over UDP (protocol.md §8.2)."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stardust_auto.environment.star_agent import (
    AgentInfo,
    decode_reply,
    encode_request,
    find_agent,
    read_agent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


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
