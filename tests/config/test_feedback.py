"""What an instance tells the center of its configuration: the version in use, the one that it refused and why, what waits for a restart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import requests
from _kit.config_center import ManualClock, TornCenter, wait_for
from pydantic import Field

from stardust_auto import StardustClient, Static, live
from stardust_auto.config import StardustConfigDict, StardustSettings
from stardust_auto.config.remote.verdicts import Summary
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Shop(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_", stardust_app="shop")
    pool: int = Field(5, le=100)
    workers: Annotated[int, Static] = 1


class Console:
    """The administration interface of a running server."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._server.key}"}
        answer = requests.request(
            method, f"{self._server.url}/console/api/{path}", json=body, headers=headers, timeout=10
        )
        assert answer.ok, answer.text
        return answer.json()

    def publish(self, **items: object) -> int:
        self.call("PUT", "config/shop", {"items": items})
        version: int = self.call("POST", "config/shop/publish", {})["version"]
        return version

    def instance(self) -> dict[str, Any]:
        """What the one instance says of the live version."""
        (found,) = self.call("GET", "config/shop")["instances"]
        return {name: value for name, value in found.items() if name != "client_id"}


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    with EmbeddedServer() as server:
        monkeypatch.setenv("STARDUST_SERVER", server.url)
        console = Console(server)
        console.call("PUT", "config/shop", {"items": {"pool": "5"}})
        console.call("POST", "config/shop/publish", {})
        yield console


def heard(console: Console, wanted: Callable[[dict[str, Any]], bool]) -> float:
    """Seconds until the server has heard what is wanted."""
    start = time.monotonic()
    assert wait_for(lambda: wanted(console.instance()), 5), console.instance()
    return time.monotonic() - start


@pytest.mark.case("C80")
def test_a_version_counts_as_used_only_when_the_program_uses_it(console: Console) -> None:
    config = live(Shop)
    config.start()
    heard(console, lambda instance: instance["state"] == "used")
    time.sleep(1.2)  # the socket is open, and the last Ping is a second ago
    version = console.publish(pool="9")
    assert heard(console, lambda instance: instance["used_version"] == version) < 1
    assert console.instance() == {
        "state": "used",
        "served_version": version,
        "used_version": version,
        "reason": "",
        "waits_for_restart": [],
        "speaks": True,
    }
    refused = console.publish(pool="7000")
    assert heard(console, lambda instance: instance["state"] == "refused") < 2
    instance = console.instance()
    assert (instance["served_version"], instance["used_version"]) == (refused, version)
    assert instance["reason"].startswith("Shop: pool from Stardust shop v4 key")
    assert "7000" not in instance["reason"]
    console.call("POST", "config/shop/rollback", {"version": version})
    assert heard(console, lambda instance: instance["state"] == "used") < 2
    assert console.instance()["reason"] == ""
    config.close()


def test_fields_that_wait_for_a_restart_are_told(console: Console) -> None:
    config = live(Shop)
    config.start()
    heard(console, lambda instance: instance["state"] == "used")
    version = console.publish(workers="8")
    heard(console, lambda instance: instance["waits_for_restart"] == ["workers"])
    assert console.instance()["used_version"] == version
    config.close()


def test_a_program_without_a_class_uses_what_it_is_served(console: Console) -> None:
    with StardustClient(app_id="shop") as client:
        assert client.config is not None
        assert client.config.wait_loaded(5)
        heard(console, lambda instance: instance["state"] == "used")
        version = console.publish(pool="7000")
        heard(console, lambda instance: instance["used_version"] == version)


def test_an_official_client_is_served_and_says_nothing(console: Console) -> None:
    server = console._server
    login = requests.post(f"{server.url}/App/Login", json={"AppId": "shop", "ClientId": "net@1"}, timeout=5).json()
    headers = {"Authorization": f"Bearer {login['data']['token']}"}
    answer = requests.get(f"{server.url}/Config/GetAll?appId=shop", headers=headers, timeout=5).json()
    assert "coherent" not in answer["data"]
    requests.post(f"{server.url}/App/Ping", json={"Id": 1}, headers=headers, timeout=5)
    instance = console.instance()
    assert (instance["state"], instance["served_version"], instance["used_version"]) == ("served", 2, 0)


def test_the_older_of_two_versions_and_the_newer_refusal_speak_for_a_process() -> None:
    first = Summary(7, 0, "", ("workers",), "shop")
    second = Summary(6, 7, "Other: pool from ...", ("port",), "shop")
    both = first.merged(second)
    assert both == Summary(6, 7, "Other: pool from ...", ("workers", "port"), "shop")


# -- a StarServer: events of its history, once an answer is certain ---------------------------------------------------


def follow(center: TornCenter, clock: ManualClock, client: Any, seconds: float) -> None:
    end = clock.now + seconds
    delay = 0.0
    while clock.now + delay <= end:
        clock.now += delay
        delay = client.run()


@pytest.mark.case("C80")
def test_a_starserver_gets_events_once_the_answer_is_certain() -> None:
    clock = ManualClock()
    center = TornCenter(clock)
    center.publish({"pool": "5"})
    center.reload()
    client = center.client(clock=clock, use_cache=False)
    handle = live(Shop, client=client)
    client.run()
    assert handle.current.pool == 5
    assert center.events == []  # the first answer is checked twice before anybody is told
    follow(center, clock, client, 15)
    assert center.events == [("info", "config-applied", "shop v1 in use")]
    for values in ({"pool": "7000"}, {"pool": "8", "workers": "3"}):
        center.age(9.9, 4.0)  # the version turns before the rows do
        center.publish(values)
        client.hint()
        follow(center, clock, client, 40)
    assert center.events[1:] == [
        (
            "error",
            "config-refused",
            'shop v2 refused, v1 stays: Shop: pool from Stardust shop v2 key "pool": Input should be less than or equal to 100',
        ),
        ("info", "config-applied", "shop v3 in use, after a restart: workers"),
    ]
    assert handle.current.pool == 8
    handle.close()


def test_the_events_come_after_the_series_not_before() -> None:
    clock = ManualClock()
    center = TornCenter(clock)
    center.publish({"pool": "5"})
    center.reload()
    client = center.client(clock=clock, use_cache=False)
    follow(center, clock, client, 15)
    center.events.clear()
    center.age(0.0, 0.0)
    center.publish({"pool": "6"})
    client.hint()
    follow(center, clock, client, 12)
    assert client.get("pool") == "6"  # the program has it
    assert center.events == []  # the center is not told yet
    follow(center, clock, client, 14)
    assert center.events == [("info", "config-applied", "shop v2 in use")]
