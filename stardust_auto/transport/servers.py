"""The list of servers and which one is used (protocol.md §8.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stardust_auto.process.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stardust_auto.process.clock import Clock

#: How long a server that did not answer is passed over.
SHIELD_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """One address, without credentials and without a path's trailing slash."""

    url: str

    @classmethod
    def parse(cls, text: str) -> Server:
        """An address; user and password in it are dropped, they are no way to log in here."""
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        return cls(f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/')}")

    @property
    def websocket_url(self) -> str:
        """Where commands are pushed."""
        return "ws" + self.url[4:] + "/App/Notify"


class ServerList:
    """Failover: the first server that is not shielded; back to the first of the list as soon as its shield is over."""

    def __init__(self, servers: Iterable[str], clock: Clock = SYSTEM_CLOCK) -> None:
        self.all = tuple(dict.fromkeys(Server.parse(url) for url in servers))
        self._clock = clock
        self._shielded_until = dict.fromkeys(self.all, 0.0)
        #: Servers that have not answered since they failed.
        self._doubtful: set[Server] = set()
        self._active = self.all[0]

    @property
    def active(self) -> Server:
        """The server that answered last."""
        return self._active

    def candidates(self, *, probe: bool) -> list[Server]:
        """The servers to try for one call, each at most once. When all are shielded, all are tried.

        Args:
            probe: whether the call may find out if a server is back. A report may not: a server that hangs would cost it.
        """
        now = self._clock.monotonic()
        free = [server for server in self.all if self._shielded_until[server] <= now]
        proven = [server for server in free if probe or server not in self._doubtful]
        return proven or free or list(self.all)

    def answered(self, server: Server) -> None:
        """``server`` is in use now."""
        self._shielded_until[server] = 0.0
        self._doubtful.discard(server)
        self._active = server

    def failed(self, server: Server, seconds: float = SHIELD_SECONDS) -> None:
        """``server`` is passed over for ``seconds``."""
        self._shielded_until[server] = self._clock.monotonic() + seconds
        self._doubtful.add(server)
