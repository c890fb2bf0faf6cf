"""The client and the protocol. Everything goes over real HTTP to a center that the test directs."""

from __future__ import annotations

import gc
import json
import math
import threading
import time
import weakref
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from _kit.config_center import ManualClock, ScriptedCenter, failure, wait_for
from pydantic import BaseModel

from stardust_auto import live
from stardust_auto.config import ConfigClient, RawSnapshot, StardustConfigDict, StardustSettings
from stardust_auto.config.remote.consistency import CHASE_OFFSETS_SECONDS, MOST_REQUESTS
from stardust_auto.config.remote.schedule import Schedule
from stardust_auto.config.remote.snapshot import make_snapshot
from stardust_auto.environment.identity import Identity
from stardust_auto.errors import StardustError
from stardust_auto.session.session import Session


class Shop(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    a: str = "default"
    b: int = 0


@pytest.mark.case("C22")
def test_no_map_means_unchanged_and_an_empty_map_means_empty(center: ScriptedCenter) -> None:
    center.values, center.coherent = {"a": "1"}, True
    client = center.client()
    handle = live(Shop, client=client)
    client.run()
    assert handle.current.a == "1"
    seen: list[tuple[str, str]] = []
    handle.on_change(lambda s: s.a, lambda old, new: seen.append((old, new)))
    for unchanged in ({"version": 1, "configs": None}, {"version": 1}):
        center.script.append(unchanged)
        client.run()
        assert client.get_all() == {"a": "1"}
    center.values = {}
    center.version = 2
    client.run()
    assert client.get_all() == {}
    assert handle.current.a == "default"
    assert handle.wait_callbacks(5)
    assert seen == [("1", "default")]


@pytest.mark.case("C23")
def test_another_scope_at_the_same_version_is_applied(center: ScriptedCenter) -> None:
    center.values, center.scope, center.coherent = {"a": "dev"}, "dev", True
    client = center.client()
    client.run()
    center.values, center.scope = {"a": "pro"}, "pro"
    client.run()  # the server said "unchanged", in another scope: asked again for everything
    assert (client.get("a"), client.scope, client.version) == ("pro", "pro", 1)
    assert [request["Version"] for request in center.requests] == [0, 1, 0]


@pytest.mark.case("C24")
def test_a_lower_version_is_pulled_anew_and_told(center: ScriptedCenter, lines: pytest.LogCaptureFixture) -> None:
    center.version, center.values, center.coherent = 9, {"a": "new"}, True
    client = center.client()
    client.run()
    center.version, center.values = 2, {"a": "restored"}
    client.run()
    assert (client.version, client.get("a")) == (2, "restored")
    assert [request["Version"] for request in center.requests] == [0, 9, 0]
    assert "went back from v9 to v2" in lines.text


@pytest.mark.case("C25")
def test_a_push_asks_for_everything(center: ScriptedCenter) -> None:
    center.coherent = True
    client = center.client()
    client.run()
    center.values = {"a": "from a quoted application"}  # our own version does not move
    client.run()
    assert client.get("a", None) is None
    client.hint()
    client.run()
    assert client.get("a") == "from a quoted application"
    assert center.requests[-1]["Version"] == 0


@pytest.mark.case("C26")
def test_the_periodic_full_pull_finds_a_global_change(center: ScriptedCenter) -> None:
    clock = ManualClock()
    center.coherent = True
    client = center.client(clock=clock)
    client.run()
    center.values = {"a": "from a global application"}
    clock.now += 300 - 1
    client.run()
    assert client.get("a", None) is None
    clock.now += 2
    client.run()
    assert client.get("a") == "from a global application"


@pytest.mark.case("C27")
def test_a_push_is_followed_until_nothing_has_changed_for_a_while(center: ScriptedCenter) -> None:
    clock = ManualClock()
    center.version, center.values = 42, {"a": "old"}
    client = center.client(clock=clock)
    client.refresh()
    asked = len(center.requests)
    client.hint()
    started, times = clock.now, []
    while (delay := client.run()) < 50:
        times.append(round(clock.now - started, 3))
        clock.now += delay
        if len(times) == 6:  # the server answered from its cache until now: 10.1 s (protocol.md §12.3)
            center.version, center.values = 43, {"a": "new"}
    times.append(round(clock.now - started, 3))
    assert times == [*CHASE_OFFSETS_SECONDS, 12.6, 14.6, 16.6, 18.6, 20.6, 22.6, 23.1]
    assert len(center.requests) - asked == MOST_REQUESTS
    assert all(request["Version"] == 0 for request in center.requests[asked:])
    assert (client.version, client.get("a")) == (43, "new")


@pytest.mark.case("C27")
def test_a_push_that_changes_nothing_costs_eight_requests(center: ScriptedCenter) -> None:
    clock = ManualClock()
    client = center.client(clock=clock)
    client.refresh()
    client.hint()
    started, times = clock.now, []
    while (delay := client.run()) < 50:
        times.append(round(clock.now - started, 3))
        clock.now += delay
    assert [*times, round(clock.now - started, 3)] == [*CHASE_OFFSETS_SECONDS, 12.5]


@pytest.mark.case("C28")
def test_a_storm_of_pushes_is_one_pull(center: ScriptedCenter) -> None:
    client = center.client()
    client.run()
    center.version, center.values = 2, {"a": "last"}
    for _ in range(100):
        client.hint()
    client.run()
    assert client.get("a") == "last"
    assert len(center.requests) == 2


@pytest.mark.case("C29")
def test_an_older_answer_that_arrives_later_is_dropped(center: ScriptedCenter) -> None:
    client = center.client()
    client.run()
    older = client._next_number()
    newer = client._next_number()
    client._apply(_snapshot("newer", 3), newer)
    client._apply(_snapshot("older", 2), older)
    assert (client.get("a"), client.version) == ("newer", 3)


def test_answers_are_judged_in_the_order_in_which_they_count(center: ScriptedCenter) -> None:
    """A first answer whose judgement takes long, and a second one meanwhile: settings and snapshot end alike."""
    client = center.client()
    client.run()
    judged: list[str] = []
    slow, go = threading.Event(), threading.Event()

    def judge(raw: RawSnapshot) -> None:
        if raw.values.get("a") == "1":
            slow.set()
            assert go.wait(5)
        judged.append(raw.values.get("a", ""))

    client.subscribe(judge)
    first, second = client._next_number(), client._next_number()
    threads = [threading.Thread(target=client._apply, args=(_snapshot("1", 2), first))]
    threads[0].start()
    assert slow.wait(5)
    threads.append(threading.Thread(target=client._apply, args=(_snapshot("2", 3), second)))
    threads[1].start()
    time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join(5)
    assert judged == ["1", "2"]
    assert client.get("a") == "2"
    assert client._stored is not None
    assert client._stored.held.values == {"a": "2"}


def _snapshot(value: str, version: int) -> RawSnapshot:
    return make_snapshot({"a": value}, version=version, origin="server", app_id="shop")


@pytest.mark.case("C30")
@pytest.mark.parametrize(
    "body",
    [
        {"code": 0, "data": {"version": 3, "configs": {"Db:Host": "h"}}},
        {"Code": 0, "Data": {"Version": 3, "Configs": {"Db:Host": "h"}}},
        {"code": "0", "data": {"version": "3", "configs": {"Db:Host": "h", "nothing": None}, "future": 1}},
        {"code": 200, "data": {"VERSION": 3, "CONFIGS": {"Db:Host": "h"}}},
    ],
)
def test_envelopes_in_any_case(center: ScriptedCenter, body: dict[str, Any]) -> None:
    center.script.append(json.dumps(body).encode())
    client = center.client()
    client.run()
    assert (client.get("db.host"), client.version, client.get_all()) == ("h", 3, {"Db:Host": "h"})


@pytest.mark.case("C30", "C37")
def test_an_error_code_is_an_error_and_the_last_good_values_stay(
    center: ScriptedCenter, lines: pytest.LogCaptureFixture
) -> None:
    center.values = {"a": "good"}
    client = center.client()
    client.run()
    for _ in range(3):
        center.script.append(failure(500, "key [x] not found"))
        client.run()
    assert client.get("a") == "good"
    assert "key [x] not found" in client.last_error
    assert client._schedule.failures == 3
    assert lines.text.count("key [x] not found") == 1
    client.run()
    assert (client.last_error, client._schedule.failures) == ("", 0)
    assert lines.text.count("refreshed again") == 1


@pytest.mark.case("C31")
def test_an_expired_token_costs_one_login(center: ScriptedCenter) -> None:
    client = center.client()
    client.run()
    center.version, center.values = 2, {"a": "b"}
    center.script.append(failure(401, "expired"))
    client.run()
    assert (client.get("a"), center.logins) == ("b", 2)


@pytest.mark.case("C31")
def test_a_refused_secret_is_not_hammered(center: ScriptedCenter) -> None:
    client = center.client()
    client.start()
    center.sessions[0].stop(1)
    center.script += [failure(403, "wrong secret")] * 100
    delays = [client.run() for _ in range(6)]
    assert client.state == "INTERRUPTED"
    assert delays[-1] > 20


@pytest.mark.case("C32")
def test_back_off_is_capped_jittered_and_reset() -> None:
    schedule = Schedule(60, 300, ManualClock())
    delays = [schedule.failed(loaded=True, chasing=False) for _ in range(30)]
    assert delays == sorted(delays[:3]) + delays[3:]
    assert 54 <= delays[0] <= 66
    assert max(delays) <= 330
    assert len({round(delay, 3) for delay in delays[5:]}) > 20
    schedule.succeeded(full=False)
    assert schedule.failures == 0
    assert 54 <= schedule.delay(math.inf) <= 66
    first = Schedule(60, 300, ManualClock())
    assert first.failed(loaded=False, chasing=False) < 2  # a start does not wait a minute for its second try
    assert first.failed(loaded=False, chasing=False, at_least=30) >= 30


@pytest.mark.case("C32")
def test_states_on_the_way_down_and_up(center: ScriptedCenter) -> None:
    client = center.client()
    assert client.state == "OFF"
    client.start()
    assert wait_for(lambda: client.state == "VALID")
    handle = live(Shop, client=client)
    assert handle.status.state == "VALID"
    states = []
    for _ in range(3):
        center.script[:] = [failure(500, "no")]
        client.run()
        states.append(handle.status.state)
    assert states == ["STALE", "STALE", "INTERRUPTED"]
    client.run()
    assert handle.status.state == "VALID"
    client.stop()
    assert handle.status.state == "OFF"


@pytest.mark.case("C33")
@pytest.mark.parametrize(
    "answer",
    [
        b"<html>login</html>",
        b'{"code": 0, "data": {"configs": {"a":',
        b"[]",
        b"null",
        b"",
        b'{"code": 0}',
        b'{"code":0,"data":[1]}',
    ],
)
def test_what_is_not_our_protocol_changes_nothing(center: ScriptedCenter, answer: bytes) -> None:
    center.values = {"a": "good"}
    client = center.client()
    client.run()
    center.script += [answer] * 3
    with pytest.raises(StardustError):
        client.refresh()
    assert client.get("a") == "good"
    assert client.last_error


@pytest.mark.case("C34")
def test_a_slow_center_is_bounded_by_a_total_time(center: ScriptedCenter) -> None:
    client = center.client()
    client.run()

    def slow(_: Any) -> dict[str, Any]:
        time.sleep(1.5)
        return {"version": 9, "configs": {}}

    center.script += [slow] * 3
    start = time.monotonic()
    with pytest.raises(StardustError):
        client.refresh(timeout=0.3)
    assert time.monotonic() - start < 1.2


@pytest.mark.case("C36")
@pytest.mark.parametrize("zone", ["local", "utc"])
def test_a_planned_publish_is_looked_for_in_time(center: ScriptedCenter, zone: str) -> None:
    clock = ManualClock()
    moment = datetime.fromtimestamp(clock.wall() + 20, tz=timezone.utc if zone == "utc" else None)
    center.next_publish = moment.strftime("%Y-%m-%d %H:%M:%S")
    center.coherent = True
    client = center.client(clock=clock)
    delay = client.run()
    assert 18 <= delay <= 21
    clock.now += delay + 1
    client.run()
    assert center.requests[-1]["Version"] == 0


@pytest.mark.case("C36")
@pytest.mark.parametrize("text", ["", "tomorrow", "2020-01-01 00:00:00", "9999-12-31 00:00:00", "0001-01-01 00:00:00"])
def test_an_unusable_publish_time_is_ignored(text: str) -> None:
    schedule = Schedule(60, 300, ManualClock())
    schedule.plan_publish(text)
    assert 54 <= schedule.delay(math.inf) <= 66


@pytest.mark.case("C36")
def test_next_publish_of_an_answer_is_planned(center: ScriptedCenter) -> None:
    center.next_publish = (datetime.now() + timedelta(seconds=10)).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ005 - local
    delay = center.client().run()
    assert delay < 11


@pytest.mark.case("C38")
def test_the_worker_id_is_metadata(center: ScriptedCenter) -> None:
    center.values = {"a": "1", "NewLife.WorkerId": "7", "PluginServer": "x"}
    client = center.client()
    client.run()
    handle = live(Shop, client=client)
    assert client.worker_id == client.get("newlife.WorkerId") == "7"
    assert client.get_all() == {"a": "1", "PluginServer": "x"}
    assert handle.current.a == "1"
    assert handle.status.unknown_keys == ()
    built = handle._loader.state.accepted
    center.values = {**center.values, "NewLife.WorkerId": "8"}
    center.version = 2
    client.run()
    assert client.worker_id == "8"
    assert built is not None
    assert handle._loader.state.accepted is not None
    assert handle._loader.state.accepted.settings is built.settings  # nothing was built


@pytest.mark.case("C39")
def test_the_secret_is_in_no_address_and_the_token_in_no_query(center: ScriptedCenter) -> None:
    client = center.client()
    client.run()
    assert center.headers
    assert all("s3cret" not in path and "token" not in path.lower() for path, _ in center.headers)
    assert center.headers[-1][1]["Authorization"].startswith("Bearer ")


@pytest.mark.case("C40")
def test_used_and_missed_keys_are_reported(center: ScriptedCenter) -> None:
    class Keys(StardustSettings):
        class Model(BaseModel, frozen=True):
            host: str = ""
            port: int = 0

        db: Model = Model()
        gone: str = ""

    center.values = {"Db:Host": "h", "secret": "never-report-values"}
    client = center.client()
    handle = live(Keys, client=client)
    client.run()
    assert handle.current.db.host == "h"
    client.get("Own.Key")
    client.get("own.key")
    client.run()
    request = center.requests[-1]
    assert request["UsedKeys"].split(",") == ["db:host", "db:port", "gone", "Own.Key"]
    assert request["MissedKeys"].split(",") == ["db:port", "gone", "Own.Key"]
    assert "never-report-values" not in json.dumps(center.requests)
    for number in range(1000):
        client.get(f"key{number}")
    client.run()
    assert len(center.requests[-1]["UsedKeys"]) <= 1010


@pytest.mark.case("C40")
def test_keys_are_reported_only_if_wanted(center: ScriptedCenter) -> None:
    client = center.client(report_keys=False)
    client.get("a")
    client.run()
    assert "UsedKeys" not in center.requests[0]


@pytest.mark.case("C41")
def test_a_jump_of_the_wall_clock_moves_nothing(center: ScriptedCenter) -> None:
    clock = ManualClock()
    center.coherent = True
    client = center.client(clock=clock)
    client.run()
    for clock.jump in (3600.0, -3600.0):
        assert 54 <= client.run() <= 66


def test_reading_in_any_spelling_and_type(center: ScriptedCenter) -> None:
    center.values = {"Db:Host": "h", "n": " 42 ", "bad": "x", "on": "Yes", "off": "0", "empty": "", "a.b": "dot"}
    client = center.client()
    assert (client.get("n", None), client.version, client.state) == (None, 0, "OFF")
    client.run()
    assert [client.get(key, None) for key in ("Db:Host", "db.host", "DB__HOST", "db:host", "a.b", "empty", "none")] == [
        "h", "h", "h", "h", "dot", "", None,
    ]  # fmt: skip
    assert client.get("none", "d") == "d"
    assert [client.get_int(key, 7) for key in ("n", "bad", "none")] == [42, 7, 7]
    assert [client.get_bool(key, True) for key in ("on", "off", "bad", "none")] == [True, False, True, True]
    copy = client.get_all()
    copy["n"] = "changed"
    assert client.get("n") == " 42 "
    with pytest.raises(TypeError):
        client.snapshot.values["n"] = "changed"  # type: ignore[index]  # the point


def test_callbacks_of_the_plain_client(center: ScriptedCenter) -> None:
    center.coherent = True
    client = center.client()
    client.run()
    seen: list[dict[str, str]] = []

    @client.on_change
    def changed(values: dict[str, str]) -> None:
        seen.append(values)

    center.version, center.values = 2, {"a": "1"}
    client.run()
    center.version = 3  # same content
    client.run()
    assert client._dispatcher.drain(5)
    assert seen == [{"a": "1"}]
    assert client.version == 3


def test_every_recorded_answer_of_a_real_server_is_understood(center: ScriptedCenter) -> None:
    """tests/wire: what StarServer and the .NET client's server said to /Config/GetAll, line by line."""
    folder = Path(__file__).parent.parent / "wire"
    answers = []
    for name in ("starserver.jsonl", "dotnet-client.jsonl"):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "Config/GetAll" in entry.get("request", {}).get("path", ""):
                answers.append(entry["response"]["body"])
    assert len(answers) > 20
    for body in answers:
        center.script[:] = [json.dumps(body).encode()] * 2
        client = center.client(use_cache=False)
        if body["code"] == 0 and body["data"]["configs"] is not None:
            client.refresh()
            assert client.version == body["data"]["version"]
            assert (
                client.get_all().items()
                >= {key: value for key, value in body["data"]["configs"].items() if key != "NewLife.WorkerId"}.items()
            )
        else:
            with pytest.raises(StardustError):
                client.refresh()


def test_clients_end_with_their_users(center: ScriptedCenter) -> None:
    client = center.client()
    client.run()
    gone = weakref.ref(client)
    del client
    center.sessions.clear()
    gc.collect()
    assert gone() is None


def test_a_client_without_a_server_says_so() -> None:
    client = ConfigClient(app_id="shop")
    for attempt in (client.start, client.start, client.refresh):
        with pytest.raises(ValueError, match="set STARDUST_SERVER"):
            attempt()
    assert (client.state, client.get("a", "d")) == ("OFF", "d")
    client.stop()


def test_copies_of_two_sessions_are_apart(center: ScriptedCenter) -> None:
    other = ScriptedCenter()
    try:
        clients = []
        for place, value in ((center, "one"), (other, "two")):
            place.values = {"a": value}
            session = Session(Identity(place.url, "shop", "s", push=False))
            place.sessions.append(session)
            client = ConfigClient(session=session)
            client.refresh()
            clients.append(client)
        loaded = [client._cache.load() for client in clients if client._cache is not None]
        assert [dict(entry.held.values) for entry in loaded if entry is not None] == [{"a": "one"}, {"a": "two"}]
    finally:
        other.stop()
