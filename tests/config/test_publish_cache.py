"""How a publish reaches a program through a StarServer, whose answers are torn for a while (protocol.md §12.3 and §12.7).

The stand-in reads version and rows through two caches that expire apart.
It is held against what was measured on a running server before the client is: a publish becomes visible to polls after 10.6 s; one pull
14 s after a change is stale, the next is not; for up to 12 s answers lack the changed keys, or have old values under the new version.
The .NET client, which pulls once and then each minute, needs most of a minute.
Time is a manual clock; the client's own schedule decides when it asks.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from _kit.config_center import ManualClock, ScriptedCenter, TornCenter

from stardust_auto.config.remote.consistency import MOST_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stardust_auto.config import ConfigClient

#: Promised from the publish on, with a push that arrives within a second; measured to be 11.6 s in this stand-in.
LIVE_SECONDS = 14.0
DELETED_SECONDS = 30.0
#: From a publish to its push: at once, as measured (16 to 80 ms), as with the console (0.5 s), and slow.
PUSH_DELAYS = (0.0, 0.08, 0.5, 1.0)
#: Ages of the two caches at the moment of the publish.
_AGE = (0.0, 0.01, 2.3, 5.0, 7.9, 9.99, 12.0, 29.0)
AGES = tuple(itertools.product(_AGE, _AGE))

V1 = {"greeting": "r0", "pool": "0", "fixed": "1"}
V2 = {"greeting": "r1", "pool": "1", "fixed": "1"}
WITHOUT_POOL = {"greeting": "r1", "fixed": "1"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def program(center: TornCenter, clock: ManualClock, values: Mapping[str, str] = V1) -> ConfigClient:
    """A program that has held ``values`` for long and is certain of them."""
    center.publish(values)
    center.reload()
    client = center.client(clock=clock, use_cache=False)
    client.refresh()
    while client._pending is not None:
        clock.now += 2
        client.refresh()
    return client


class Watch:
    """Lets a client ask when it wants to, and keeps what its program sees from a publish on."""

    def __init__(self, client: ConfigClient, clock: ManualClock, center: TornCenter) -> None:
        self.client, self.clock, self.center = client, clock, center
        self.started = clock.now
        self.asked_before = center.asked
        #: (seconds since the publish, values), whenever the values change.
        self.seen: list[tuple[float, dict[str, str]]] = [(0.0, dict(client.snapshot.values))]
        #: Seconds until the state was certain.
        self.whole = 0.0

    def follow(self, delay: float = 0.0, *, seconds: float) -> Watch:
        """First ask in ``delay`` seconds, then as the client says, for ``seconds`` after the publish."""
        while True:
            if self.clock.now + delay - self.started > seconds:
                return self
            self.clock.now += delay
            delay = self.client.run()
            values, elapsed = dict(self.client.snapshot.values), self.clock.now - self.started
            if values != self.seen[-1][1]:
                self.seen.append((elapsed, values))
            if self.client._pending is None and not self.whole:
                self.whole = elapsed

    def pushed(self, delay: float, *, seconds: float = 60.0) -> Watch:
        """The push arrives ``delay`` seconds after the publish."""
        self.clock.now += delay
        self.client.hint()
        return self.follow(seconds=seconds)

    @property
    def sets(self) -> list[dict[str, str]]:
        return [values for _, values in self.seen]

    @property
    def requests(self) -> int:
        return self.center.asked - self.asked_before


def publish(
    center: TornCenter, clock: ManualClock, client: ConfigClient, ages: tuple[float, float], values: Mapping[str, str]
) -> Watch:
    """Publish when the caches for the version and for the rows are so many seconds old."""
    center.age(*ages)
    center.publish(values)
    return Watch(client, clock, center)


# -- the stand-in -----------------------------------------------------------------------------------------------------


def test_the_stand_in_delays_a_publish_as_measured(clock: ManualClock) -> None:
    center = TornCenter(clock)
    center.publish(V1)
    center.reload()
    center.publish(V2)
    seen = 0.0
    while center.answer_to(1)["configs"] is None:  # somebody polls every 0.6 s or so
        clock.now += 0.6
        seen += 0.6
    assert 10 < seen < 11.5
    center.publish(V1)
    clock.now += 14
    assert center.answer_to(2)["configs"] is None  # stale, though the cache has expired
    clock.now += 0.1
    assert center.answer_to(2)["configs"] is not None


def test_the_stand_in_gives_every_torn_answer_that_was_seen(clock: ManualClock) -> None:
    kinds = set()
    for ages in AGES:
        center = TornCenter(clock)
        center.publish(V1)
        center.age(*ages)
        center.publish(V2)
        for _ in range(8):
            answer = center.answer_to(0)
            kinds.add((answer["version"], tuple(sorted(answer["configs"].items()))))
            clock.now += 1.7
    old, new, lacking = (tuple(sorted(values.items())) for values in (V1, V2, {"fixed": "1"}))
    assert kinds == {(1, old), (1, lacking), (2, old), (2, new)}


def test_the_strategy_of_the_dotnet_client_takes_most_of_a_minute(clock: ManualClock) -> None:
    center = TornCenter(clock)
    center.publish(V1)
    center.reload()
    center.publish(V2)
    assert center.answer_to(1)["configs"] is None  # once after the push ...
    started = clock.now
    while center.answer_to(1)["configs"] is None:  # ... and with each poll
        clock.now += 60
    assert 45 < clock.now - started < 130


# -- a running program ------------------------------------------------------------------------------------------------


@pytest.mark.case("C77")
@pytest.mark.parametrize("delay", PUSH_DELAYS)
def test_a_pushed_publish_is_live_in_time_and_never_torn(clock: ManualClock, delay: float) -> None:
    first, wholes, costs = [], [], []
    for ages in AGES:
        center = TornCenter(clock)
        watch = publish(center, clock, program(center, clock), ages, V2).pushed(delay, seconds=50)
        assert watch.sets == [V1, V2]
        assert watch.client.version == 2
        first.append(watch.seen[1][0])
        wholes.append(watch.whole)
        costs.append(watch.requests)
    assert max(first) <= LIVE_SECONDS
    assert (min(first), max(first)) == pytest.approx((delay + 2.0, delay + 10.6), abs=0.1)  # docs/reliability.md
    assert max(wholes) <= delay + 23.2
    assert max(costs) <= MOST_REQUESTS


@pytest.mark.case("C78")
@pytest.mark.parametrize("delay", PUSH_DELAYS)
def test_a_deleted_key_goes_in_time(clock: ManualClock, delay: float) -> None:
    gone, costs = [], []
    for ages in AGES:
        center = TornCenter(clock)
        watch = publish(center, clock, program(center, clock), ages, WITHOUT_POOL).pushed(delay, seconds=50)
        assert watch.sets == [V1, WITHOUT_POOL]
        gone.append(watch.seen[1][0])
        costs.append(watch.requests)
    assert max(gone) <= DELETED_SECONDS
    assert max(costs) <= MOST_REQUESTS


def test_without_a_push_the_polls_find_it_and_show_nothing_torn(clock: ManualClock) -> None:
    for ages in AGES:
        center = TornCenter(clock)
        watch = publish(center, clock, program(center, clock), ages, V2).follow(1.0, seconds=200)
        assert watch.sets == [V1, V2]
        assert watch.client._pending is None


@pytest.mark.case("C77")
@pytest.mark.parametrize("gap", [1.0, 3.0, 7.0, 11.0])
def test_two_publishes_in_a_row_show_whole_sets_only(clock: ManualClock, gap: float) -> None:
    last = {**V2, "pool": "2"}
    for ages in AGES:
        center = TornCenter(clock)
        watch = publish(center, clock, program(center, clock), ages, V2).pushed(0.05, seconds=gap)
        clock.now = watch.started + gap
        center.publish(last)
        watch.pushed(0.05, seconds=80)
        assert all(values in (V1, V2, last) for values in watch.sets)
        assert watch.sets[-1] == last
        assert watch.seen[-1][0] <= gap + LIVE_SECONDS
        assert watch.client.version == 3


def test_the_first_publish_of_an_application(clock: ManualClock) -> None:
    for ages in AGES:
        center = TornCenter(clock)
        watch = publish(center, clock, program(center, clock, {}), ages, V1).pushed(0.05)
        assert watch.sets == [{}, V1]
        assert watch.seen[1][0] <= LIVE_SECONDS


def test_the_version_counts_as_used_once_the_answers_are_certain(clock: ManualClock) -> None:
    center = TornCenter(clock)
    client = program(center, clock)
    center.age(9.99, 0.0)  # the version turns at once, the rows ten seconds later
    center.publish(V2)
    watch = Watch(client, clock, center)
    client.hint()
    watch.follow(seconds=5)
    assert center.answer_to(0)["version"] == 2
    assert (client.version, client.get("greeting")) == (1, "r0")
    watch.follow(seconds=60)
    assert (client.version, client.get("greeting")) == (2, "r1")


def test_a_program_that_starts_within_a_publish_is_right_in_time(clock: ManualClock) -> None:
    for ages, delay in itertools.product(AGES, (0.5, 3.0, 9.0)):
        center = TornCenter(clock)
        center.publish(V1)
        center.age(*ages)
        center.publish(V2)
        clock.now += delay
        client = center.client(clock=clock, use_cache=False)
        watch = Watch(client, clock, center).follow(seconds=60)
        assert watch.sets[-1] == V2
        assert watch.seen[-1][0] <= LIVE_SECONDS
        assert watch.client._pending is None
        assert watch.requests <= 1 + MOST_REQUESTS


@pytest.mark.case("C78")
def test_a_job_that_lives_for_ten_seconds_lets_a_deleted_key_go(clock: ManualClock, tmp_path: Path) -> None:
    for number, ages in enumerate(AGES[::5]):
        center = TornCenter(clock)
        center.publish(V1)
        center.reload()
        shown = []
        for run in range(5):
            client = center.client(clock=clock, cache_dir=str(tmp_path / str(number)))
            client._load_copy()
            watch = Watch(client, clock, center).follow(seconds=10)
            shown += watch.sets[1:] if watch.sets[0] == {} else watch.sets
            client._store_copy()
            clock.now += 20
            if run == 0:
                center.age(*ages)
                center.publish(WITHOUT_POOL)
        assert all(values in (V1, WITHOUT_POOL) for values in shown)
        assert shown[0] == V1
        assert shown[-1] == WITHOUT_POOL


@pytest.mark.case("C77")
def test_a_copy_on_disk_counts_as_held(clock: ManualClock, tmp_path: Path) -> None:
    for number, ages in enumerate(AGES):
        center = TornCenter(clock)
        center.publish(V1)
        center.reload()
        folder = str(tmp_path / str(number))
        center.client(clock=clock, cache_dir=folder).refresh()
        clock.now += 600
        center.age(*ages)
        center.publish(V2)
        clock.now += 0.5
        client = center.client(clock=clock, cache_dir=folder)
        client._load_copy()
        watch = Watch(client, clock, center).follow(seconds=200)
        assert watch.sets == [V1, V2]


def test_an_answer_that_is_held_back_ends_the_wait_for_one(clock: ManualClock, tmp_path: Path) -> None:
    center = TornCenter(clock)
    center.publish(V1)
    center.reload()
    center.client(clock=clock, cache_dir=str(tmp_path)).refresh()
    center.age(0.0, 12.0)
    center.publish(V2)
    center.answer_to(0)
    client = center.client(clock=clock, cache_dir=str(tmp_path))
    client._load_copy()
    client.run()
    assert client._pending is not None
    assert client._pending.missing
    assert client.wait_loaded(0)
    assert (client.snapshot.origin, client.get_all()) == ("server", V1)


def test_a_push_that_was_missed(clock: ManualClock) -> None:
    center = TornCenter(clock)
    watch = publish(center, clock, program(center, clock), (0.0, 0.0), V2).follow(60.0, seconds=200)
    # The first poll gets the stale answer, the second one the new.
    assert watch.seen[1][0] <= 60 + 66


def test_what_a_shared_application_publishes(clock: ManualClock) -> None:
    center = TornCenter(clock)
    client = program(center, clock)
    center.share({"g": "new"})
    for _ in range(3):
        clock.now += 30
        assert center.answer_to(client.version)["configs"] is None  # whoever sends the version never sees it
    client.hint()  # a quoted application pushes to those who quote it
    watch = Watch(client, clock, center).follow(seconds=40)
    assert watch.sets[-1] == {**V1, "g": "new"}
    assert watch.seen[1][0] <= LIVE_SECONDS
    center.share({"g": "new", "h": "new"})
    watch = Watch(client, clock, center).follow(60.0, seconds=700)
    assert watch.sets[-1] == {**V1, "g": "new", "h": "new"}
    assert watch.seen[1][0] <= 300 + 66  # without a push: the periodic full pull


def test_an_outage_in_the_middle_of_the_series(clock: ManualClock) -> None:
    center = TornCenter(clock)
    watch = publish(center, clock, program(center, clock), (0.0, 0.0), V2)
    center.failures = 2
    watch.pushed(0.0)
    assert watch.sets == [V1, V2]
    assert watch.seen[1][0] <= 20


# -- a server that is coherent ----------------------------------------------------------------------------------------


@pytest.fixture
def whole(clock: ManualClock) -> Iterator[ScriptedCenter]:
    center = ScriptedCenter()
    center.coherent, center.values = True, dict(V1)
    yield center
    center.stop()


@pytest.mark.case("C79")
def test_a_coherent_answer_costs_no_second_and_no_further_request(whole: ScriptedCenter, clock: ManualClock) -> None:
    client = whole.client(clock=clock)
    assert client.run() > 50
    whole.version, whole.values = 2, dict(WITHOUT_POOL)
    client.hint()
    assert client.run() > 50
    assert (client.version, client.get_all()) == (2, WITHOUT_POOL)
    assert len(whole.requests) == 2


@pytest.mark.parametrize("answers", ["torn", "whole"])
def test_the_flag_counts_for_the_answer_that_has_it(whole: ScriptedCenter, clock: ManualClock, answers: str) -> None:
    client = whole.client(clock=clock)
    client.run()
    whole.coherent = answers == "whole"
    whole.version, whole.values = 2, {"fixed": "1"}
    client.run()
    assert client.get_all() == (V1 if answers == "torn" else {"fixed": "1"})


def test_an_answer_of_any_shape_says_coherent_only_by_true(whole: ScriptedCenter, clock: ManualClock) -> None:
    values: tuple[Any, ...] = (1, "true", None, [], {"a": 1})
    for value in values:
        client = whole.client(clock=clock, use_cache=False)
        answer: dict[str, Any] = {"version": 1, "configs": dict(V1), "coherent": value}
        whole.script.append(answer)
        client.run()
        assert client._pending is not None
