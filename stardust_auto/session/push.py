"""Keeps the push socket open while the session is online (protocol.md §2.8, §12.4).

Nothing is lost for good while there is no socket: commands come with every Ping too, and settings are polled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from stardust_auto.log import get_logger
from stardust_auto.process.backoff import Backoff
from stardust_auto.wire.messages import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.privacy import Secret
    from stardust_auto.process.background import Worker
    from stardust_auto.process.clock import Clock
    from stardust_auto.session.connection import Connection
    from stardust_auto.transport.websocket import Loss, WebSocket

logger = get_logger(__name__)

#: After a shut-down of the server all its clients come back: spread over a minute.
_SPREAD_SECONDS: Final = 60.0
#: A server, or a proxy before it, that has no such socket or abuses it is asked again rarely.
_UNSUPPORTED_SECONDS: Final = 600.0
#: A socket that has lived for so long works: the back-off begins again.
_SETTLED_SECONDS: Final = 10.0
#: After so many sockets in a row that did not, an opening or a loss is no news.
_STORM: Final = 2
#: How long an open socket may be silent, in periods.
_SILENT_PERIODS: Final = 3
#: How long a handshake may take.
_HANDSHAKE_SECONDS: Final = 5.0


class Push:
    """A task of the worker, which runs it when the socket is readable.

    Args:
        connection: address, token and period.
        on_command: gets each command.
        on_open: called when a socket is open: what was pushed before it is lost, so everybody must look.
        on_lost: called when one is gone; ``reset=True`` if it was open and ended without a close frame.
    """

    name = "push"

    def __init__(
        self,
        connection: Connection,
        worker: Worker,
        clock: Clock,
        *,
        on_command: Callable[[Command], None],
        on_open: Callable[[], None],
        on_lost: Callable[[bool], None],
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._clock = clock
        self._on_command = on_command
        self._on_open = on_open
        self._on_lost = on_lost
        self._socket: WebSocket | None = None
        self.reset()

    def reset(self) -> None:
        """As new. In a forked child: the parent's socket is closed here without a frame."""
        if self._socket is not None:
            self._socket.abandon()
        self._socket = None
        self._backoff = Backoff(4.0, 60.0, jitter=1.0)
        self._spread = Backoff(_SPREAD_SECONDS, _SPREAD_SECONDS, jitter=1.0)
        self._not_before = 0.0
        self._last_ping = 0.0
        self._last_seen = 0.0
        #: When the socket was opened; ``None`` before that.
        self._opened_at: float | None = None
        #: The opening of this socket was announced.
        self._announced = False
        self._last_loss: Loss | None = None

    @property
    def connected(self) -> bool:
        """Whether commands can arrive at this moment."""
        return self._socket is not None and self._socket.opened and self._socket.loss is None

    def wake(self) -> None:
        """Connect soon, if there is no socket and the back-off is over."""
        self._worker.schedule(self, sooner=True)

    def run(self) -> float | None:
        """Connect, read, keep alive."""
        if self._socket is None:
            token = self._connection.token
            if token is None or not self._connection.online or self._connection.leaving:
                return None  # woken when it is online
            wait = self._not_before - self._clock.monotonic()
            if wait > 0:
                return wait
            self._connect(token)
        if self._socket is None:
            return max(0.05, self._not_before - self._clock.monotonic())
        return self._serve(self._socket, self._clock.monotonic())

    def finish(self, deadline: float) -> None:  # noqa: ARG002 - nothing is waited for
        """Close the socket with a frame."""
        if self._socket is not None:
            self._worker.watch(self, None)
            self._socket.close(1001)
            self._socket = None

    def _connect(self, token: Secret) -> None:
        # Here, and nowhere else in the agent: websockets takes 20 ms to import.
        from stardust_auto.transport.http import own_user_agent
        from stardust_auto.transport.websocket import Loss, WebSocket

        self._opened_at, self._announced = None, False
        url = self._connection.servers.active.websocket_url
        try:
            self._socket = WebSocket(url, token, own_user_agent(), self._clock)
        except (OSError, ValueError) as error:
            self._lost(Loss.FAILED, str(error))
        else:
            self._last_seen = self._clock.monotonic()
            self._worker.watch(self, self._socket.sock)

    def _serve(self, connected: WebSocket, now: float) -> float:
        for text in connected.receive():
            self._last_seen = now
            self._handle(connected, text)
        if connected.opened and self._opened_at is None:
            self._opened_at = self._last_seen = self._last_ping = now
        if self._opened_at is not None and connected.loss is None:
            self._settle(now - self._opened_at)
        if connected.has_more:
            return 0.0
        return self._keep_alive(connected, now)

    def _settle(self, age: float) -> None:
        """Announce an opening: at once, or when the socket has lived for a while if the last ones did not."""
        if not self._announced and (self._backoff.failures < _STORM or age >= _SETTLED_SECONDS):
            self._announced = True
            self._on_open()
        if age >= _SETTLED_SECONDS:
            self._backoff.succeeded()

    def _keep_alive(self, connected: WebSocket, now: float) -> float:
        from stardust_auto.transport.websocket import Loss

        period = max(float(self._connection.period), 1.0)
        silence = _SILENT_PERIODS * max(period, 60.0) if connected.opened else _HANDSHAKE_SECONDS
        if connected.loss is None and now - self._last_seen > silence:
            connected.close()
            connected.loss = Loss.SILENT
        if connected.loss is not None:
            self._socket = None
            self._worker.watch(self, None)
            self._lost(connected.loss, "")
            connected.close()
            return max(0.0, self._not_before - now)
        due = self._last_seen + silence - now
        if connected.opened:
            if now - self._last_ping >= period:
                self._last_ping = now
                connected.send_text("Ping")
            due = min(due, self._last_ping + period - now)
        if not self._announced and self._opened_at is not None:
            due = min(due, self._opened_at + _SETTLED_SECONDS - now)
        return max(0.05, due)

    def _lost(self, loss: Loss, detail: str) -> None:
        is_news = self._backoff.failures < _STORM
        reset = self._opened_at is not None and loss.name == "RESET"
        self._opened_at = None
        if loss.name == "GOING_AWAY":
            wait = max(0.5, self._spread.failed())
        elif loss.name in ("UNSUPPORTED", "ABUSED"):
            wait = _UNSUPPORTED_SECONDS
            if self._last_loss is not loss:
                why = "no push from this server" if loss.name == "UNSUPPORTED" else "this server pushes too much"
                logger.warning("%s; commands and settings come with the polls", why)
        else:
            wait = max(0.2, self._backoff.failed())
        self._last_loss = loss
        logger.debug("push socket: %s %s", loss.value, detail)
        self._not_before = self._clock.monotonic() + wait
        if is_news:  # a socket that never lives long is no news of the server
            self._on_lost(reset)

    def _handle(self, connected: WebSocket, text: str) -> None:
        if text == "Ping":
            connected.send_text("Pong")
        elif text.startswith("{"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                return
            command = Command.from_wire(value)
            if command.command:
                self._on_command(command)
        # "Pong" only shows that somebody is there; "event#..." is for the event bus, which we do not take part in.
