"""One WebSocket to the platform, on websockets' Sans-I/O protocol and a connection of our own (protocol.md §2.8, §12.4).

Connecting is bounded by one deadline. After that everything is driven by the socket being readable, and one turn reads a bounded amount:
whoever sends faster than a platform has reason to is disconnected.
"""

from __future__ import annotations

import logging
import ssl
from enum import Enum
from typing import TYPE_CHECKING, Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from stardust_auto.transport.network import Deadline, connect

if TYPE_CHECKING:
    import socket

    from stardust_auto.privacy import Secret
    from stardust_auto.process.clock import Clock

# At DEBUG, websockets logs whole requests including the token. Its log goes nowhere.
_nobody: Final = logging.Logger("nobody", logging.CRITICAL + 1)  # noqa: LOG001 - not in the tree, so no handler ever gets it

CONNECT_SECONDS: Final = 5.0
_SEND_SECONDS: Final = 5.0
_MAX_MESSAGE: Final = 1 << 20
#: Bytes read in one turn; other tasks have theirs in between.
TURN_BYTES: Final = 16_384
#: More than this much in one window is an abuse: real servers push a few commands a minute.
_WINDOW_SECONDS: Final = 10.0
_WINDOW_BYTES: Final = 4 << 20
_WINDOW_FRAMES: Final = 10_000
_GOING_AWAY: Final = (1001, 1012)


class Loss(Enum):
    """Why a socket is gone."""

    CLOSED = "closed"
    GOING_AWAY = "the server goes away"
    RESET = "reset"
    REFUSED = "refused"
    UNSUPPORTED = "not supported"
    FAILED = "failed"
    SILENT = "silent"
    ABUSED = "too much was sent"


class WebSocket:
    """One connection, from the TCP connect to its end.

    Attributes:
        sock: the socket, for a selector.
        opened: whether the handshake is complete.
        loss: why it is of no more use, or ``None``.
    """

    def __init__(self, url: str, token: Secret, user_agent: str, clock: Clock) -> None:
        """Connect, and send the request of the handshake.

        Raises:
            OSError: no connection within ``CONNECT_SECONDS``.
            ValueError: the address cannot be used.
        """
        self.loss: Loss | None = None
        self.opened = False
        self._clock = clock
        self._parts: list[bytes] = []
        self._window = clock.monotonic()
        self._bytes = 0
        self._frames = 0
        self._protocol = ClientProtocol(parse_uri(url), max_size=_MAX_MESSAGE, logger=_nobody)
        self._stream = connect(url, Deadline(CONNECT_SECONDS), tunnel=True)
        self.sock: socket.socket = self._stream.sock
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        request.headers["User-Agent"] = user_agent
        self._protocol.send_request(request)
        self._flush()

    def send_text(self, text: str) -> None:
        """Send one text frame."""
        if self.loss is None and self._protocol.state is State.OPEN:
            self._protocol.send_text(text.encode())
            self._flush()

    def receive(self) -> list[str]:
        """The texts that have arrived, of at most :data:`TURN_BYTES`; never waits."""
        if self.loss is not None:
            return []
        texts: list[str] = []
        try:
            data = self.sock.recv(TURN_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        except OSError:
            self.loss = Loss.RESET if self.opened else Loss.FAILED
            return []
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self.opened = self._protocol.handshake_exc is None
            elif isinstance(event, Frame):
                self._frames += 1
                self._take(event, texts)
        self._find_loss(ended=not data)
        self._bound(len(data))
        return texts

    @property
    def has_more(self) -> bool:
        """Whether TLS holds data that no selector sees."""
        pending = getattr(self.sock, "pending", None)
        return self.loss is None and pending is not None and pending() > 0

    def abandon(self) -> None:
        """In a forked child: close the descriptor, without a frame. The parent goes on with the connection."""
        self.loss = Loss.CLOSED
        self.sock.close()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """Send a close frame if the connection is open, and close it; nothing is waited for."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code)
                self._flush()
        finally:
            self.loss = self.loss or Loss.CLOSED
            self.sock.close()

    def _take(self, frame: Frame, texts: list[str]) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                texts.append(b"".join(self._parts).decode("utf-8", "replace"))
                self._parts = []

    def _find_loss(self, *, ended: bool) -> None:
        refusal = self._protocol.handshake_exc
        if refusal is not None:
            status = refusal.response.status_code if isinstance(refusal, InvalidStatus) else 0
            # A token that is not taken is answered like any other call: HTTP 200 with a code (§12.1).
            self.loss = Loss.REFUSED if status == 200 or status in (401, 403) else Loss.UNSUPPORTED
            if status == 0 or status >= 500:
                self.loss = Loss.FAILED
        elif self._protocol.close_rcvd is not None:
            self.loss = Loss.GOING_AWAY if self._protocol.close_rcvd.code in _GOING_AWAY else Loss.CLOSED
        elif ended:
            self.loss = Loss.RESET if self.opened else Loss.FAILED
        elif self._protocol.state in (State.CLOSING, State.CLOSED):
            self.loss = Loss.FAILED  # a frame that breaks the protocol; the server may leave the connection open

    def _bound(self, size: int) -> None:
        now = self._clock.monotonic()
        if now - self._window >= _WINDOW_SECONDS:
            self._window, self._bytes, self._frames = now, 0, 0
        self._bytes += size
        if (self._bytes > _WINDOW_BYTES or self._frames > _WINDOW_FRAMES) and self.loss is None:
            self.close(CloseCode.POLICY_VIOLATION)
            self.loss = Loss.ABUSED

    def _flush(self) -> None:
        self._stream.deadline = Deadline(_SEND_SECONDS)
        try:
            for data in self._protocol.data_to_send():
                if data:
                    self._stream.send_all(data)
        except OSError:
            self.loss = self.loss or Loss.RESET
        finally:
            self.sock.setblocking(False)
