"""The command socket: /App/Notify (protocol.md §2.8, §12.4), on websockets' Sans-I/O protocol and our own socket.

It lives in the background thread: connecting is bounded by a short time-out, everything after that is driven by the
socket being readable. What is lost here is not lost: commands also come with every Ping.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State as SocketState
from websockets.uri import parse_uri

from stardust_auto.log import get_logger
from stardust_auto.process import jitter
from stardust_auto.process.clock import monotonic
from stardust_auto.process.sockets import open_socket
from stardust_auto.wire.messages import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.privacy import Secret

logger = get_logger(__name__)
# websockets writes whole requests, with their Authorization header, at DEBUG level: to nobody.
_nobody: Final = logging.Logger("nobody", logging.CRITICAL + 1)  # noqa: LOG001 - not in the tree, so no handler ever gets it

_CONNECT_TIMEOUT: Final = 5.0
_SEND_TIMEOUT: Final = 5.0
_MAX_MESSAGE: Final = 1 << 20
_BACKOFF_FIRST: Final = 2.0
_BACKOFF_LIMIT: Final = 60.0
#: At a shut-down of the server all its clients come back: spread over a minute.
_SPREAD: Final = 60.0
#: A server, or a proxy before it, that has no such socket is asked again rarely.
_UNSUPPORTED: Final = 600.0
_GOING_AWAY: Final = (1001, 1012)


class Loss(Enum):
    """Why the socket is gone."""

    CLOSED = "closed"
    GOING_AWAY = "going away"
    RESET = "reset"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    SILENT = "silent"


class PushSocket:
    """One connection, from the TCP connect to its end. ``loss`` is set once it is of no more use."""

    def __init__(self, url: str, token: Secret, user_agent: str) -> None:
        self.loss: Loss | None = None
        self.opened = False
        self._protocol = ClientProtocol(parse_uri(url), max_size=_MAX_MESSAGE, logger=_nobody)
        self._parts: list[bytes] = []
        self.sock = _connect(url, monotonic() + _CONNECT_TIMEOUT)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        request.headers["User-Agent"] = user_agent
        self._protocol.send_request(request)
        self._flush()

    def send_text(self, text: str) -> None:
        """Send one text frame."""
        if self.loss is None and self._protocol.state is SocketState.OPEN:
            self._protocol.send_text(text.encode())
            self._flush()

    def receive(self) -> list[str]:
        """The texts that have arrived; never waits."""
        texts: list[str] = []
        while self.loss is None:
            try:
                data = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError:
                self.loss = Loss.RESET
                break
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self._flush()
            for event in self._protocol.events_received():
                if isinstance(event, Response):
                    self.opened = self._protocol.handshake_exc is None
                elif isinstance(event, Frame):
                    self._take(event, texts)
            self._judge(ended=not data)
        return texts

    def abandon(self) -> None:
        """In a forked child: close the descriptor, without a frame and without TLS's good-bye. The parent goes on."""
        self.loss = Loss.CLOSED
        self.sock.close()

    def close(self, code: int = 1000) -> None:
        """Say good-bye when open, and close."""
        try:
            if self.loss is None and self._protocol.state is SocketState.OPEN:
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

    def _judge(self, *, ended: bool) -> None:
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

    def _flush(self) -> None:
        self.sock.settimeout(_SEND_TIMEOUT)
        try:
            for data in self._protocol.data_to_send():
                if data:
                    self.sock.sendall(data)
        except OSError:
            self.loss = self.loss or Loss.RESET
        finally:
            self.sock.setblocking(False)


class PushHost(Protocol):
    """What the socket needs from its session."""

    def push_url(self) -> str: ...  # the address of the socket on the active server
    def push_token(self) -> Secret | None: ...  # None while the session is not online
    def push_period(self) -> int: ...  # seconds between two text pings
    def user_agent(self) -> str: ...
    def watch_push(self, sock: socket.socket | None) -> None: ...  # run the task when the socket can be read
    def push_command(self, command: Command) -> None: ...
    def push_opened(self) -> None: ...
    def push_lost(self, *, reset: bool) -> None: ...  # reset: it was open and ended without a close frame


class Push:
    """Keeps one socket open while the session is online. A task of the worker.

    The host gives the address and the token, hears of commands and of what happened to the socket.
    """

    name = "push"

    def __init__(
        self,
        host: PushHost,
        *,
        clock: Callable[[], float] = monotonic,
        uniform: Callable[[float, float], float] = jitter.generator.uniform,
    ) -> None:
        self._host = host
        self._clock = clock
        self._uniform = uniform
        self.fresh()

    def fresh(self) -> None:
        """As new, also in a forked child: the parent's socket is not ours to close with a frame."""
        self._socket: PushSocket | None = None
        self._failures = 0
        self._not_before = 0.0
        self._last_ping = 0.0
        self._last_seen = 0.0
        self._was_open = False
        self._announced: Loss | None = None

    @property
    def connected(self) -> bool:
        """Whether commands can arrive at this moment."""
        return self._socket is not None and self._socket.opened and self._socket.loss is None

    def run(self) -> float | None:
        """Connect, read, keep alive."""
        token = self._host.push_token()
        if self._socket is None:
            if token is None:
                return None  # woken when the session is online
            wait = self._not_before - self._clock()
            if wait > 0:
                return wait
            self._connect(token)
        if self._socket is None:
            return max(0.05, self._not_before - self._clock())
        return self._serve(self._socket, self._clock())

    def _serve(self, connected: PushSocket, now: float) -> float:
        for text in connected.receive():
            self._last_seen = now
            self._handle(connected, text)
        if connected.opened and not self._was_open:
            self._was_open = True
            self._failures = 0
            self._last_seen = self._last_ping = now
            self._host.push_opened()
        return self._keep_alive(connected, now)

    def abandon(self) -> None:
        """In a forked child: the parent's socket is not ours to close with a frame."""
        if self._socket is not None:
            self._socket.abandon()
            self._socket = None

    def close(self) -> None:
        """Close with a frame; nothing is waited for."""
        if self._socket is not None:
            self._host.watch_push(None)
            self._socket.close(1001)
            self._socket = None

    def reconnect(self) -> None:
        """Drop the socket, for instance since the token or the identity is another; ``run`` makes a new one."""
        if self._socket is not None:
            self._host.watch_push(None)
            self._socket.close()
            self._socket = None
            self._was_open = False

    def _connect(self, token: Secret) -> None:
        self._was_open = False
        try:
            self._socket = PushSocket(self._host.push_url(), token, self._host.user_agent())
        except (OSError, ValueError) as error:
            self._lost(Loss.FAILED, str(error))
        else:
            self._last_seen = self._clock()
            self._host.watch_push(self._socket.sock)

    def _keep_alive(self, connected: PushSocket, now: float) -> float:
        period = max(float(self._host.push_period()), 1.0)
        silence = 3 * max(period, 60.0) if connected.opened else _CONNECT_TIMEOUT
        if connected.loss is None and now - self._last_seen > silence:
            connected.close()
            connected.loss = Loss.SILENT
        if connected.loss is not None:
            self._socket = None
            self._host.watch_push(None)
            self._lost(connected.loss, "")
            connected.close()
            return max(0.0, self._not_before - now)
        due = self._last_seen + silence - now
        if connected.opened:
            if now - self._last_ping >= period:
                self._last_ping = now
                connected.send_text("Ping")
            due = min(due, self._last_ping + period - now)
        return max(0.05, due)

    def _lost(self, loss: Loss, detail: str) -> None:
        was_open, self._was_open = self._was_open, False
        if loss is Loss.GOING_AWAY:
            delay = self._uniform(0.5, _SPREAD)
        elif loss is Loss.UNSUPPORTED:
            delay = _UNSUPPORTED
            if self._announced is not loss:
                logger.warning("no push from this server; commands and settings come with the polls")
        else:
            self._failures += 1
            delay = max(0.2, self._uniform(0.0, min(_BACKOFF_LIMIT, _BACKOFF_FIRST * 2 ** min(self._failures, 8))))
        self._announced = loss
        logger.debug("push socket %s %s", loss.value, detail)
        self._not_before = self._clock() + delay
        self._host.push_lost(reset=was_open and loss is Loss.RESET)

    def _handle(self, connected: PushSocket, text: str) -> None:
        if text == "Ping":
            connected.send_text("Pong")
        elif text.startswith("{"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                return
            command = Command.from_wire(value)
            if command.command:
                self._host.push_command(command)
        # "Pong" only shows that somebody is there; "event#..." is for the event bus, which we do not take part in.


def _connect(url: str, deadline: float) -> socket.socket:
    """A connected socket, through the proxy of the environment if there is one, TLS verified. Raises OSError."""
    from requests.utils import select_proxy

    from stardust_auto.transport.adapter import environment_settings

    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    host = parts.hostname or ""
    http_url = ("https" if secure else "http") + f"://{parts.netloc}{parts.path}"
    settings = environment_settings(http_url)
    proxy = select_proxy(http_url, settings["proxies"])
    left = _left(deadline)
    sock = _tunnel(proxy, host, port, left) if proxy else open_socket(host, port, lambda: _left(deadline))
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            sock.settimeout(_left(deadline))
            sock = _tls(settings["verify"]).wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _tunnel(proxy: str, host: str, port: int, timeout: float) -> socket.socket:
    from base64 import b64encode
    from http.client import HTTPConnection

    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise OSError(f"no socket through a proxy of the kind {parts.scheme}")
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    connection.set_tunnel(host, port, headers)
    connection.connect()
    sock: socket.socket = connection.sock
    return sock


def _tls(verify: Any) -> ssl.SSLContext:
    import certifi

    where = verify if isinstance(verify, str) else certifi.where()
    if os.path.isdir(where):
        return ssl.create_default_context(capath=where)
    return ssl.create_default_context(cafile=where)


def _left(deadline: float) -> float:
    return max(0.05, deadline - monotonic())
