"""The list of servers and which one is used (protocol.md §8.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stardust_auto.environment.variable import parse_servers
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: How long a server that did not answer is passed over, in seconds.
SHIELD: Final = 60.0


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

    def __init__(self, servers: str | Iterable[str], clock: Callable[[], float] = monotonic) -> None:
        text = servers if isinstance(servers, str) else ",".join(servers)
        self.all = tuple(dict.fromkeys(Server.parse(url) for url in parse_servers(text)))
        self._clock = clock
        self._shielded_until = dict.fromkeys(self.all, 0.0)
        self._active = self.all[0]

    @property
    def active(self) -> Server:
        """The server that answered last."""
        return self._active

    def candidates(self) -> Iterator[Server]:
        """The servers to try for one call, each at most once. When all are shielded, all are tried."""
        now = self._clock()
        free = [server for server in self.all if self._shielded_until[server] <= now]
        yield from free or self.all

    def answered(self, server: Server) -> None:
        """``server`` is in use now."""
        self._shielded_until[server] = 0.0
        self._active = server

    def failed(self, server: Server, seconds: float = SHIELD) -> None:
        """``server`` is passed over for ``seconds``."""
        self._shielded_until[server] = self._clock() + seconds
