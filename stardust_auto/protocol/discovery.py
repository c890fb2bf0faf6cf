"""Ask the StarAgent of this machine which server to use: UDP port 5500, NewLife's binary messages (protocol.md §8.2)."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Final

from stardust_auto.protocol import fields
from stardust_auto.protocol.fields import Message
from stardust_auto.protocol.text import NAME_LIMIT

AGENT_PORT: Final = 5500
_REQUEST_KIND: Final = 0x01
_REPLY: Final = 0x80
_ERROR: Final = 0x40
_LONG: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class AgentInfo(Message):
    """What an agent tells: ``server`` is the platform's address, ``code`` the node that this machine is."""

    process_id: int = fields.int32("ProcessId")
    process_name: str | None = fields.text("ProcessName", NAME_LIMIT)
    version: str | None = fields.text("Version", 50)
    ip: str | None = fields.text("IP", NAME_LIMIT)
    server: str | None = fields.text("Server", NAME_LIMIT)
    plugin_server: str | None = fields.text("PluginServer", NAME_LIMIT)
    code: str | None = fields.text("Code", 50)


def find_agent(timeout: float = 1.0, port: int = AGENT_PORT) -> AgentInfo | None:
    """The agent of this machine; None when none answers within ``timeout`` seconds. Never raises."""
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.send(encode_request("Info", b"{}", sequence=1))
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                info = read_agent(sock.recv(65535))
                if info is not None:
                    return info
    except OSError:
        return None  # nobody listens there, or nobody answered in time
    return None


def encode_request(action: str, body: bytes, sequence: int) -> bytes:
    """One request: four bytes of header, then action and body, each with its length."""
    name = action.encode()
    payload = bytes([len(name)]) + name + len(body).to_bytes(4, "little") + body
    return bytes([_REQUEST_KIND, sequence & 0xFF]) + len(payload).to_bytes(2, "little") + payload


def read_agent(packet: bytes) -> AgentInfo | None:
    """The agent's answer in ``packet``; None for anything else: another message, an error, rubbish."""
    body = decode_reply(packet, "Info")
    if body is None:
        return None
    try:
        value = json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return AgentInfo.from_wire(value) if isinstance(value, dict) else None


def decode_reply(packet: bytes, action: str) -> bytes | None:
    """The body of a successful reply to ``action``."""
    if len(packet) < 4 or packet[0] & (_REPLY | _ERROR) != _REPLY:
        return None
    length, start = int.from_bytes(packet[2:4], "little"), 4
    if length == _LONG:
        length, start = int.from_bytes(packet[4:8], "little"), 8
    payload = packet[start : start + length]
    name = action.encode()
    if len(payload) != length or not payload.startswith(bytes([len(name)]) + name):
        return None
    rest = payload[1 + len(name) :]
    size = int.from_bytes(rest[:4], "little")
    body = rest[4 : 4 + size]
    return body if len(rest) >= 4 and len(body) == size else None
