"""What the tests of the server use: a clock, and the calls they make."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import requests
from websockets.sync.client import connect

from stardust_auto.process.clock import Clock as SystemClock

if TYPE_CHECKING:
    from stardust_auto.server import EmbeddedServer

#: Options of `connect`: no proxy of the environment in between (websockets 15 and later look for one).
DIRECT: dict[str, Any] = {"proxy": None} if "proxy" in inspect.signature(connect).parameters else {}


class Clock(SystemClock):
    """A clock that stands still until it is told to move; ``now`` is Unix milliseconds."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._elapsed_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * 1000)
        self._elapsed_ns += int(seconds * 1_000_000_000)

    def monotonic_ns(self) -> int:
        return self._elapsed_ns

    def wall_ns(self) -> int:
        return self.now * 1_000_000

    def monotonic(self) -> float:
        return self._elapsed_ns / 1e9

    def wall(self) -> float:
        return self.now / 1000


class Platform:
    """A server and the calls that tests make to it."""

    def __init__(self, server: EmbeddedServer, clock: Clock) -> None:
        self.server = server
        self.clock = clock
        self.http = requests.Session()
        self.http.trust_env = False

    @property
    def url(self) -> str:
        """Address of the server."""
        return self.server.url

    def post(self, path: str, body: Any = None, token: str | None = None, **options: Any) -> requests.Response:
        """POST JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return self.http.post(self.url + path, json=body, headers=headers, timeout=10, **options)

    def get(self, path: str, token: str | None = None, **options: Any) -> requests.Response:
        """GET."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return self.http.get(self.url + path, headers=headers, timeout=10, **options)

    def login(self, app: str = "demo", client_id: str = "10.0.0.5@1", **more: Any) -> str:
        """A token, by the secret that every application may use here."""
        body = {"AppId": app, "ClientId": client_id, "Secret": self.server.app_secret, **more}
        reply = self.post("/App/Login", body).json()
        assert reply["code"] == 0, reply
        return str(reply["data"]["token"])

    def data(self, path: str, body: Any = None, token: str | None = None) -> Any:
        """The `data` of a POST that must succeed."""
        reply = self.post(path, body, token)
        assert reply.status_code == 200, reply.text
        assert reply.json()["code"] == 0, reply.text
        return reply.json()["data"]

    def admin(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The Admin API."""
        reply = self.http.request(
            method,
            f"{self.url}/console/api/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.server.key}"},
            timeout=10,
        )
        assert reply.status_code == status, reply.text
        return reply.json()

    def publish(self, app: str, scope: str = "", **items: Any) -> Any:
        """Stage and publish."""
        self.admin("PUT", f"config/{app}", {"scope": scope, "items": items})
        return self.admin("POST", f"config/{app}/publish", {})

    def builder(self, name: str = "/a", **more: Any) -> dict[str, Any]:
        """A builder that starts a second ago, with one sample."""
        start = self.clock() - 1000
        sample = {"Id": "s1", "TraceId": "t1", "StartTime": start, "EndTime": start + 40, "Tag": "tag"}
        values = {"Name": name, "StartTime": start, "EndTime": start + 500, "Total": 3, "Errors": 0, "Cost": 120}
        return {**values, "MaxCost": 90, "MinCost": 0, "Value": 5, "Samples": [sample], **more}

    def report(self, token: str, *builders: dict[str, Any], **more: Any) -> Any:
        """The `data` of a report."""
        return self.data("/Trace/Report", {"AppId": "demo", "Version": "1.0", "Builders": builders, **more}, token)

    def operations(self, app: str = "demo") -> dict[str, dict[str, Any]]:
        """Operations by name."""
        return {row["name"]: row for row in self.admin("GET", f"apps/{app}/operations?minutes=100000")}
