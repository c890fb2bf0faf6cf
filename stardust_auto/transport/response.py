"""Reads an HTTP answer from a stream, bounded in time by its deadline and in bytes by a limit.

Loaded as soon as the program has ``http.client`` (``process/originals.py``): what a test of the program puts in the place of its classes
later never sees the agent's traffic.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stardust_auto.transport.network import Stream


class _Reader(io.RawIOBase):
    """The bytes of one answer. ``left`` ends an endless header, or an endless row of ``100 Continue``, too."""

    def __init__(self, stream: Stream, left: int) -> None:
        self._stream = stream
        self.left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        received = self._stream.receive_into(buffer)
        self.left -= received
        if self.left < 0:
            raise OSError("the answer is larger than it may be")
        return received


class Response(HTTPResponse):
    """The answer to a ``method`` request on ``stream``."""

    def __init__(self, stream: Stream, method: str, max_head: int) -> None:
        self._raw = _Reader(stream, max_head)
        super().__init__(self, method=method)  # type: ignore[arg-type]  # all it wants of a socket is makefile()

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What the base class reads from."""
        return io.BufferedReader(self._raw)

    def read_body(self, limit: int) -> bytes | None:
        """The body as it was sent, or ``None`` if it has more than ``limit`` bytes.

        Raises:
            OSError: it ended before its end, or not in time.
        """
        self._raw.left = 2 * limit + 65_536  # chunks have headers of their own
        chunks: list[bytes] = []
        size = 0
        while chunk := self.read(65_536):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                return None
        if self.length:
            raise OSError("the answer ended too early")
        return b"".join(chunks)
