"""The push sockets: one for each instance, replaced by a second one of the same identity (protocol.md §2.8)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.websockets import WebSocket

FRAME_LIMIT = 64_000  # both ends read into 64 KiB and take each read for a whole message
_QUEUE = 1000
_log = logging.getLogger("stardust_auto.server")


class _Connection:
    """One socket. Texts to send wait in a bounded queue; whoever does not read them is cut off."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._queue: asyncio.Queue[str | tuple[int, str]] = asyncio.Queue(_QUEUE)
        self.closed = asyncio.Event()

    def send(self, item: str | tuple[int, str]) -> None:
        """Queue a text, or (code, reason) to close."""
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.closed.set()

    async def write(self) -> None:
        """Send what is queued until the socket is closed."""
        try:
            while True:
                item = await self._queue.get()
                if isinstance(item, str):
                    await asyncio.wait_for(self._websocket.send_text(item), 10)
                else:
                    await asyncio.wait_for(self._websocket.close(*item), 2)
                    return
        except (RuntimeError, OSError, asyncio.TimeoutError) as error:
            _log.debug("push socket gone: %r", error)
        finally:
            self.closed.set()


class Hub:
    """All push sockets of this server. ``post``, ``answered`` and ``connected`` may be called from any thread."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, str], _Connection] = {}
        self._waiters: dict[int, asyncio.Future[tuple[int, int, str | None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def bind(self) -> None:
        """Take the running loop as the one that sends."""
        self._loop = asyncio.get_running_loop()

    def connected(self, app_id: int) -> list[str]:
        """Client ids with an open socket."""
        return [client for app, client in list(self._connections) if app == app_id]

    def post(self, app_id: int, client_id: str, text: str) -> bool:
        """Send a text to one instance; False when it has no socket (then the command comes with its Ping)."""
        connection = self._connections.get((app_id, client_id))
        if connection is None or self._loop is None or len(text) > FRAME_LIMIT:
            return False
        self._call(connection.send, text)
        return True

    def disconnect(self, app_id: int) -> None:
        """Close the sockets of an application that may no longer have them."""
        for (app, _), connection in list(self._connections.items()):
            if app == app_id:
                self._call(connection.send, (1008, "Disabled"))

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError as error:  # the loop has ended
                _log.debug("not pushed: %r", error)

    async def serve(self, websocket: WebSocket, app_id: int, client_id: str, alive: Callable[[], object]) -> bool:
        """Run one accepted socket to its end; ``alive`` is called for each text ``Ping``.

        Returns whether the instance has no socket now: False if a second one has replaced this one.
        """
        connection = _Connection(websocket)
        key = (app_id, client_id)
        previous = self._connections.get(key)
        self._connections[key] = connection
        if previous is not None:
            previous.send((1000, "Replaced"))
        writer = asyncio.create_task(connection.write())
        reader = asyncio.create_task(self._read(websocket, connection, alive))
        gone = asyncio.create_task(connection.closed.wait())
        try:
            await asyncio.wait({reader, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            last = self._connections.get(key) is connection
            if last:
                del self._connections[key]
            for task in (reader, writer, gone):
                task.cancel()
            await asyncio.gather(reader, writer, gone, return_exceptions=True)
        return last

    async def _read(self, websocket: WebSocket, connection: _Connection, alive: Callable[[], object]) -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "Ping":  # exactly; anything else stays unanswered (protocol.md §12.4)
                connection.send("Pong")
                alive()

    async def close(self, code: int = 1001, reason: str = "Dispose") -> None:
        """Close every socket, as at the end of a server; waits at most two seconds."""
        connections = list(self._connections.values())
        for connection in connections:
            connection.send((code, reason))
        waits = [asyncio.create_task(connection.closed.wait()) for connection in connections]
        if waits:
            _, late = await asyncio.wait(waits, timeout=2)
            for task in late:
                task.cancel()
        for waiter in self._waiters.values():
            waiter.cancel()

    async def first_answer(self, command_ids: Sequence[int], timeout: float) -> tuple[int, int, str | None] | None:
        """Wait for the first (id, status, data) among some commands; None after ``timeout`` seconds."""
        future: asyncio.Future[tuple[int, int, str | None]] = asyncio.get_running_loop().create_future()
        for command_id in command_ids:
            self._waiters[command_id] = future
        try:
            return await asyncio.wait_for(future, timeout)
        except asyncio.TimeoutError:
            return None
        finally:
            for command_id in command_ids:
                self._waiters.pop(command_id, None)

    def answered(self, command_id: int, status: int, data: str | None) -> None:
        """An instance answered a command."""
        self._call(self._resolve, command_id, status, data)

    def _resolve(self, command_id: int, status: int, data: str | None) -> None:
        future = self._waiters.get(command_id)
        if future is not None and not future.done():
            future.set_result((command_id, status, data))
