"""How long a publish takes on a StarServer, whose answers come from a cache of 10 s (protocol.md §12.3): simulated, on a fake clock.

The simulation is held against what was measured on a running server before the client is: a publish becomes visible to polls
after 10.6 s; one pull 14 s after a change is stale, the next is not; the .NET client, which pulls once and then each minute,
takes most of a minute.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from _kit.config_center import ScriptedCenter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.config import ConfigClient

CACHE_SECONDS = 10.0
#: Promised from the publish on, with a push that arrives within a second.
PROMISE = 12.0
#: From a publish to its push: at once, as measured (16 to 80 ms), as with the console (0.5 s), and slow.
PUSH_DELAYS = (0.0, 0.08, 0.5, 1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class StarServer(ScriptedCenter):
    """GetAll from an entity cache. A reader who finds it too old gets it all the same, and has it read anew behind his back."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.database: dict[str, Any] = {"version": 1, "own": {"a": "old"}, "shared": {"g": "old"}}
        self.reload()

    def reload(self) -> None:
        self.cached = {key: dict(value) if isinstance(value, dict) else value for key, value in self.database.items()}
        self.loaded = self.clock()

    def data(self, body: dict[str, Any]) -> dict[str, Any]:
        # Only the application's own version counts: what shared applications publish is seen with version 0 alone (§6.3).
        self.version = self.cached["version"]
        self.values = {**self.cached["shared"], **self.cached["own"]}
        answer = super().data(body)
        if self.clock() - self.loaded >= CACHE_SECONDS:
            self.reload()
        return answer

    def publish(self) -> None:
        """As the console does it: in the database, past the server."""
        self.database["version"] += 1
        self.database["own"] = {"a": "new"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def starserver(clock: Clock) -> Iterator[StarServer]:
    center = StarServer(clock)
    yield center
    center.stop()


def live_after(client: ConfigClient, clock: Clock, key: str, delay: float | None, limit: float = 400.0) -> float:
    """Let the client pull when it wants to, from ``delay`` seconds on; seconds until it has the new value."""
    started = clock.now
    while True:
        assert delay is not None
        clock.now += delay
        assert clock.now - started < limit, "never"
        delay = client.run()
        if client.get(key) == "new":
            return clock.now - started


def publish_after(starserver: StarServer, clock: Clock, client: ConfigClient, age: float) -> None:
    """The client is up to date, and the server's cache ``age`` seconds old, when something is published."""
    client.run()
    starserver.reload()
    clock.now += age
    starserver.publish()


def test_the_simulation_is_what_was_measured(starserver: StarServer, clock: Clock) -> None:
    def poll(version: int) -> Any:
        return starserver.data({"Version": version})["configs"]

    starserver.reload()
    starserver.publish()
    seen = 0.0
    while poll(1) is None:  # somebody polls every 0.6 s or so
        clock.now += 0.6
        seen += 0.6
    assert 10 < seen < 11.5
    starserver.database["version"] += 1
    clock.now += 14
    assert poll(2) is None  # stale, though the cache was over
    clock.now += 0.1
    assert poll(2) is not None


def test_the_strategy_of_the_dotnet_client(starserver: StarServer, clock: Clock) -> None:
    client = starserver.client(clock=clock)
    publish_after(starserver, clock, client, 0.0)
    client.run()  # once, after the push, with its own version ...
    assert client.get("a") == "old"
    taken = live_after(client, clock, "a", 60.0)  # ... and with each poll
    assert 45 < taken < 130


@pytest.mark.parametrize("push", PUSH_DELAYS)
def test_live_within_twelve_seconds_whatever_the_age_of_the_cache(
    starserver: StarServer, clock: Clock, push: float
) -> None:
    taken, pulls = [], []
    client = starserver.client(clock=clock, use_cache=False)
    for age in itertools.chain((0.0, 0.01), (step / 2 for step in range(1, 30))):
        starserver.database["own"] = {"a": "old"}
        starserver.reload()
        client.refresh()
        publish_after(starserver, clock, client, age)
        clock.now += push
        before = len(starserver.requests)
        client.hint()
        taken.append(push + live_after(client, clock, "a", 0.0))
        pulls.append(len(starserver.requests) - before)
        delay = client.run()
        assert delay is not None
        assert delay > 50  # and then it is quiet
    assert max(taken) <= PROMISE
    assert max(pulls) <= 7
    assert (min(taken), max(taken)) == pytest.approx((push + 2.0, push + 10.6), abs=0.1)  # docs/reliability.md


def test_what_a_shared_application_publishes(starserver: StarServer, clock: Clock) -> None:
    client = starserver.client(clock=clock)
    publish_after(starserver, clock, client, 3.0)
    client.hint()
    live_after(client, clock, "a", 0.0)
    starserver.database["shared"] = {"g": "new"}
    clock.now += 30
    for _ in range(3):
        assert starserver.data({"Version": client.version})["configs"] is None  # for ever, by asking with the version
        clock.now += 30
    starserver.database["shared"] = {"g": "new"}
    client.hint()  # a quoted application pushes to those who quote it
    assert live_after(client, clock, "g", 0.0) <= PROMISE
    starserver.database["shared"] = {"g": "newer"}
    starserver.database["shared"] = {"g": "new", "h": "new"}
    assert live_after(client, clock, "h", 60.0) <= client.full_interval + 66  # without a push: the periodic full pull


def test_a_push_that_was_missed(starserver: StarServer, clock: Clock) -> None:
    client = starserver.client(clock=clock)
    publish_after(starserver, clock, client, 0.0)
    # The first poll gets the stale answer, the second one the new.
    assert live_after(client, clock, "a", 60.0) <= 60 + 66


def test_an_outage_in_the_middle_of_the_chase(starserver: StarServer, clock: Clock) -> None:
    client = starserver.client(clock=clock)
    publish_after(starserver, clock, client, 0.0)
    client.hint()
    starserver.script = [500, 500]
    assert live_after(client, clock, "a", 0.0) <= 20
