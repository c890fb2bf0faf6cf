"""Ask the StarAgent of this machine which server to use: UDP port 5500, NewLife's binary messages (protocol.md §8.2).

Only with ``STARDUST_DISCOVER``. It is asked at activation, before the program runs, so little is imported here.
"""

from __future__ import annotations

import os

from stardust_auto.process.clock import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

AGENT_PORT: Final = 5500
_REQUEST_KIND: Final = 0x01
_REPLY: Final = 0x80
_ERROR: Final = 0x40
_LONG: Final = 0xFFFF
_TEXT_LIMIT: Final = 200
#: How long an answer is kept, and also that there was none.
_REMEMBER_SECONDS: Final = 10.0

_last: tuple[int, float, AgentInfo | None] | None = None


class AgentInfo:
    """What a StarAgent says: the platform's address, the code of this machine's node, its version; each may be ``""``."""

    __slots__ = ("code", "server", "version")

    def __init__(self, server: str = "", code: str = "", version: str = "") -> None:
        self.server = server
        self.code = code
        self.version = version

    def __repr__(self) -> str:
        return f"AgentInfo(server={self.server!r}, code={self.code!r}, version={self.version!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentInfo) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def agent_of_machine(timeout: float = 1.0) -> AgentInfo | None:
    """:func:`find_agent`, asked at most every ten seconds in one process."""
    global _last
    now = monotonic()
    if _last is None or _last[0] != os.getpid() or now - _last[1] > _REMEMBER_SECONDS:
        _last = (os.getpid(), now, find_agent(timeout, AGENT_PORT))
    return _last[2]


def find_agent(timeout: float = 1.0, port: int = AGENT_PORT) -> AgentInfo | None:
    """The StarAgent of this machine, or ``None`` if none answers within ``timeout`` seconds. Never raises.

    If nothing listens on the port, the system refuses at once, and there is no wait.
    """
    import socket

    deadline = monotonic() + timeout
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.send(encode_request("Info", b"{}", sequence=1))
            while (left := deadline - monotonic()) > 0:
                sock.settimeout(left)
                info = read_agent(sock.recv(65535))
                if info is not None:
                    return info
    except OSError:
        return None
    return None


def encode_request(action: str, body: bytes, sequence: int) -> bytes:
    """One request: four bytes of header, then action and body, each with its length."""
    name = action.encode()
    payload = bytes([len(name)]) + name + len(body).to_bytes(4, "little") + body
    return bytes([_REQUEST_KIND, sequence & 0xFF]) + len(payload).to_bytes(2, "little") + payload


def read_agent(packet: bytes) -> AgentInfo | None:
    """The agent's answer in ``packet``; ``None`` for anything else: another message, an error, noise."""
    import json

    body = decode_reply(packet, "Info")
    if body is None:
        return None
    try:
        value = json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    members = {name.lower(): member for name, member in value.items()}
    return AgentInfo(*(_text(members.get(name)) for name in ("server", "code", "version")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _TEXT_LIMIT and value.isprintable() else ""


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
