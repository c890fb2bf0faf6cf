"""The configuration center (protocol.md §6, §12.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _kit.server_platform import Clock, Platform

MEMBERS = ["version", "scope", "sourceIP", "nextVersion", "nextPublish", "updateTime", "configs", "coherent"]


class Consumer:
    """An instance that asks for its configuration."""

    def __init__(self, platform: Platform, app: str = "demo", client_id: str = "10.0.0.5@1") -> None:
        self.platform = platform
        self.app = app
        self.token = platform.login(app, client_id)

    def pull(self, version: int = 0, scope: str | None = None, **more: Any) -> dict[str, Any]:
        body = {"AppId": self.app, "Version": version, "Scope": scope, **more}
        data: dict[str, Any] = self.platform.data("/Config/GetAll", body, self.token)
        assert list(data) == MEMBERS
        return data

    def configs(self, scope: str | None = None) -> dict[str, str]:
        configs: dict[str, str] = self.pull(0, scope)["configs"]
        return configs

    def fails(self) -> str:
        reply = self.platform.post("/Config/GetAll", {"AppId": self.app, "Version": 0}, self.token).json()
        assert reply["code"] == 500, reply
        return str(reply["message"])


@pytest.fixture
def consumer(platform: Platform) -> Consumer:
    return Consumer(platform)


def test_a_fresh_application(consumer: Consumer) -> None:
    data = consumer.pull()
    assert (data["version"], data["nextVersion"], data["nextPublish"], data["configs"]) == (1, 0, "", {})
    assert consumer.pull(1)["configs"] is None


def test_staged_values_are_seen_when_they_are_published(platform: Platform, consumer: Consumer) -> None:
    staged = platform.admin("PUT", "config/demo", {"items": {"a": "1", "b": "2"}})
    assert staged == {"staged": 2, "version": 1, "next_version": 2}
    data = consumer.pull()
    assert (data["version"], data["nextVersion"], data["configs"]) == (1, 2, {})
    published = platform.admin("POST", "config/demo/publish", {})
    assert published["version"] == 2
    assert consumer.pull(1)["configs"] == {"a": "1", "b": "2"}
    data = consumer.pull(2)
    assert (data["version"], data["nextVersion"], data["configs"]) == (2, 2, None)
    assert platform.admin("POST", "config/demo/publish", {}) == {"version": 2, "pushed": 0, "changes": []}


def test_the_get_form_of_unchanged(platform: Platform, consumer: Consumer) -> None:  # protocol.md §6.1
    platform.publish("demo", a="1")
    data = platform.get("/Config/GetAll?appId=demo&version=2&scope=", consumer.token).json()["data"]
    assert list(data) == MEMBERS[:-1]  # official clients use GET, and get what a StarServer gives
    assert (data["version"], data["scope"], data["sourceIP"], data["nextVersion"], data["nextPublish"]) == (
        2,
        None,
        None,
        0,
        None,
    )
    assert data["configs"] is None


def test_a_version_from_another_life_of_the_server_gets_everything(platform: Platform, consumer: Consumer) -> None:
    platform.publish("demo", a="1")
    data = consumer.pull(9)
    assert (data["version"], data["configs"]) == (2, {"a": "1"})


def test_deleting_and_emptying(platform: Platform, consumer: Consumer) -> None:
    platform.publish("demo", a="1", b="")
    assert consumer.configs() == {"a": "1", "b": ""}
    platform.publish("demo", a=None)
    assert consumer.configs() == {"b": ""}
    platform.publish("demo", b=None)
    data = consumer.pull(3)
    assert (data["version"], data["configs"]) == (4, {})  # an emptied map is sent, not null


def test_staging_what_is_published_withdraws(platform: Platform, consumer: Consumer) -> None:
    platform.publish("demo", a="1")
    assert platform.admin("PUT", "config/demo", {"items": {"a": "2", "new": "x"}})["next_version"] == 3
    items = {item["key"]: item for item in platform.admin("GET", "config/demo")["items"]}
    assert items["a"] | {"comment": ""} == {
        "key": "a",
        "scope": "",
        "value": "1",
        "new_value": "2",
        "comment": "",
        "version": 2,
        "pending": True,
        "action": "change",
    }
    assert items["new"]["action"] == "add"
    assert platform.admin("PUT", "config/demo", {"items": {"a": "1", "new": None}})["next_version"] == 2
    assert [item["pending"] for item in platform.admin("GET", "config/demo")["items"]] == [False]
    platform.admin("PUT", "config/demo", {"items": {"a": None}})
    item = platform.admin("GET", "config/demo")["items"][0]
    assert (item["pending"], item["new_value"], item["action"]) == (True, None, "delete")
    platform.admin("POST", "config/demo/discard", {})
    assert consumer.configs() == {"a": "1"}
    assert platform.admin("GET", "config/demo")["next_version"] == 2


def test_scopes(platform: Platform, consumer: Consumer) -> None:  # protocol.md §6.4, §6.5
    platform.publish("demo", greeting="hello", pool="5")
    platform.publish("demo", "dev", greeting="hello dev", only="d")
    assert consumer.configs() == {"greeting": "hello", "pool": "5"}
    for scope in ("dev", "DEV"):
        data = consumer.pull(0, scope)
        assert data["scope"] == scope
        assert data["configs"] == {"greeting": "hello dev", "pool": "5", "only": "d"}
    assert consumer.configs("pro") == {"greeting": "hello", "pool": "5"}


def test_another_scope_is_a_change_whatever_the_version(platform: Platform, consumer: Consumer) -> None:
    platform.publish("demo", a="1")
    consumer.pull()
    assert consumer.pull(2)["configs"] is None
    assert consumer.pull(2, "dev")["configs"] == {"a": "1"}
    assert consumer.pull(2, "dev")["configs"] is None
    assert consumer.pull(2)["configs"] == {"a": "1"}


def test_references(platform: Platform, consumer: Consumer) -> None:
    platform.publish(
        "demo", host="db", port="5432", url="pg://${host}:${port}/x", again="<${url}>", _secret="s", use="${_secret}"
    )
    platform.publish("demo", "dev", host="localhost")
    configs = consumer.configs()
    assert configs["again"] == "<pg://db:5432/x>"
    assert configs["use"] == "s"
    assert "_secret" not in configs  # a leading _ stays inside
    assert consumer.configs("dev")["again"] == "<pg://localhost:5432/x>"


def test_references_to_another_application(platform: Platform, consumer: Consumer) -> None:
    platform.publish("shared", **{"Db:Main": "main", "key": "k"})
    platform.publish("shared", "dev", key="k-dev")
    platform.admin("POST", "config/shared/settings", {"quotable": True})
    platform.publish("demo", a="${Db:Main@shared}", b="${key@shared:dev}", c="${key@SHARED}")
    assert consumer.configs() == {"a": "main", "b": "k-dev", "c": "k"}


def test_an_application_that_does_not_share_is_not_read(platform: Platform) -> None:
    platform.publish("private", password="p")
    platform.admin("PUT", "config/demo", {"items": {"steal": "${password@private}"}})
    refused = platform.admin("POST", "config/demo/publish", {}, status=409)
    assert "password@private" in refused["error"]


@pytest.mark.parametrize(
    "items", [{"a": "${nowhere}"}, {"a": "${a}"}, {"a": "${b}", "b": "${c}", "c": "${a}"}, {"a": "${x@nobody}"}]
)
def test_a_reference_that_leads_nowhere_is_not_published(
    platform: Platform, consumer: Consumer, items: dict[str, str]
) -> None:
    platform.publish("demo", ok="1")
    platform.admin("PUT", "config/demo", {"items": items})
    assert "[a]" in platform.admin("POST", "config/demo/publish", {}, status=409)["error"]
    assert consumer.pull(2)["configs"] is None
    assert consumer.configs() == {"ok": "1"}
    assert platform.admin("GET", "config/demo")["next_version"] == 3  # still staged


def test_references_that_double_each_other_stay_small(platform: Platform) -> None:
    items = {"k0": "x" * 1000} | {f"k{n}": f"${{k{n - 1}}}" * 10 for n in range(1, 12)}
    platform.admin("PUT", "config/demo", {"items": items})
    assert "引用" in platform.admin("POST", "config/demo/publish", {}, status=409)["error"]


def test_a_reference_that_breaks_later_is_code_500(platform: Platform, consumer: Consumer) -> None:  # protocol.md §12.3
    platform.publish("shared", key="k")
    platform.admin("POST", "config/shared/settings", {"quotable": True})
    platform.publish("demo", a="${key@shared}")
    platform.admin("POST", "config/shared/settings", {"quotable": False})
    assert consumer.fails() == "在应用[demo]的[a]中无法解析[key@shared]"
    assert platform.admin("GET", "config/demo")["problem"] == "在应用[demo]的[a]中无法解析[key@shared]"


def test_changes_of_shared_applications_reach_their_users(platform: Platform, consumer: Consumer) -> None:
    # protocol.md §12.1, 6: on a real server a consumer that sends its version never sees them
    platform.publish("demo", own="1")
    version = consumer.pull()["version"]

    def next_version() -> int:
        nonlocal version
        data = consumer.pull(version)
        assert data["configs"] is not None
        assert data["version"] > version
        version = data["version"]
        return version

    platform.publish("Common", shared="global-1", own="never")
    assert consumer.pull(version)["configs"] is None  # not global yet
    platform.admin("POST", "config/Common/settings", {"is_global": True})
    next_version()
    assert consumer.configs() == {"own": "1", "shared": "global-1"}
    platform.publish("Common", shared="global-2")
    next_version()
    assert consumer.configs()["shared"] == "global-2"
    platform.publish("base", deep="d1")
    platform.publish("middle", mid="m1")
    platform.admin("POST", "config/middle/settings", {"quotes": ["base"]})
    platform.admin("POST", "config/demo/settings", {"quotes": ["middle"]})
    next_version()
    assert consumer.configs() == {"own": "1", "mid": "m1", "deep": "d1", "shared": "global-2"}
    platform.publish("base", deep="d2")  # quoted by what is quoted
    next_version()
    assert consumer.configs()["deep"] == "d2"
    platform.publish("named", x="1")
    platform.admin("POST", "config/named/settings", {"quotable": True})
    platform.publish("demo", ref="${x@named}")
    version = consumer.pull()["version"]
    platform.publish("named", x="2")  # named by a reference
    next_version()
    assert consumer.configs()["ref"] == "2"


def test_a_shared_change_leaves_staged_values_staged(platform: Platform, consumer: Consumer) -> None:
    platform.publish("demo", a="1")
    platform.admin("POST", "config/Common/settings", {"is_global": True})
    platform.admin("PUT", "config/demo", {"items": {"a": "2"}})
    platform.publish("Common", shared="1")
    data = consumer.pull()
    assert data["configs"] == {"a": "1", "shared": "1"}
    assert data["nextVersion"] == data["version"] + 1
    assert platform.admin("POST", "config/demo/publish", {})["version"] == data["version"] + 1
    assert consumer.configs()["a"] == "2"


def test_rollback_is_a_new_version(platform: Platform, consumer: Consumer) -> None:
    platform.publish("demo", a="1", gone="g")
    platform.publish("demo", a="2", gone=None, new="n")
    assert platform.admin("POST", "config/demo/rollback", {"version": 2})["version"] == 4
    assert consumer.pull(3)["configs"] == {"a": "1", "gone": "g"}
    history = platform.admin("GET", "config/demo/history")
    assert [(entry["version"], entry["kind"]) for entry in history] == [
        (4, "rollback to 2"),
        (3, "publish"),
        (2, "publish"),
    ]
    assert history[1]["changes"] == [
        {"key": "a", "scope": "", "old": "1", "new": "2"},
        {"key": "gone", "scope": "", "old": "g", "new": None},
        {"key": "new", "scope": "", "old": None, "new": "n"},
    ]
    platform.admin("POST", "config/demo/rollback", {"version": 3})
    assert consumer.configs() == {"a": "2", "new": "n"}
    assert platform.admin("POST", "config/demo/rollback", {"version": 5})["changes"] == []
    assert "no version 99" in platform.admin("POST", "config/demo/rollback", {"version": 99}, status=404)["error"]
    platform.admin("POST", "config/demo/rollback", {"version": "2"}, status=400)


def test_planned_publishing(platform: Platform, consumer: Consumer, clock: Clock) -> None:
    platform.admin("PUT", "config/demo", {"items": {"a": "1"}})
    platform.admin("POST", "config/demo/publish", {"at": clock.now}, status=400)
    platform.admin("POST", "config/demo/publish", {"at": 2**62}, status=400)
    platform.admin("POST", "config/demo/publish", {"at": clock.now + 60_000})
    assert len(consumer.pull()["nextPublish"]) == len("2026-08-02 11:00:00")
    assert platform.server.services.releases.due() == []
    clock.advance(61)
    assert len(platform.server.services.releases.due()) <= 1
    for _ in range(100):  # the server looks once a second
        data = consumer.pull()
        if data["configs"]:
            break
        import time

        time.sleep(0.05)
    assert data["configs"] == {"a": "1"}
    assert data["nextPublish"] == ""


def test_set_all(platform: Platform, consumer: Consumer) -> None:  # protocol.md §6.7, wire 203
    platform.publish("demo", greeting="hello")
    body = {
        "AppId": "demo",
        "Configs": {"fromPy": "v1", "greeting": "changed", "obj": {"Value": "ov", "Comment": "c"}, "n": 7},
    }
    assert platform.data("/Config/SetAll", body, consumer.token) == 4
    data = consumer.pull()
    assert (data["configs"], data["version"], data["nextVersion"]) == ({"greeting": "hello"}, 2, 3)
    platform.admin("POST", "config/demo/publish", {})
    assert consumer.configs() == {"greeting": "hello", "fromPy": "v1", "obj": "ov", "n": "7"}
    platform.admin("POST", "config/demo/settings", {"readonly": True})
    assert platform.post("/Config/SetAll", body, consumer.token).json()["code"] == 500


def test_keys_keep_their_spelling(platform: Platform, consumer: Consumer) -> None:
    items = {"Db:Dsn": "1", "a.b": "2", "a__b": "3", "#comment": "4", "中文": "值 ☃", "$Registry:x": "5"}
    platform.publish("demo", **items)
    assert consumer.configs() == items
    platform.publish("demo", **{"DB:DSN": "changed"})  # regardless of case it is the same key
    assert consumer.configs()["Db:Dsn"] == "changed"


@pytest.mark.parametrize("key", ["", " a", "a\n", "k" * 201])
def test_what_is_no_key(platform: Platform, key: str) -> None:
    reply = platform.http.put(
        f"{platform.url}/console/api/config/demo",
        json={"items": {key: "1"}},
        headers={"Authorization": f"Bearer {platform.server.key}"},
        timeout=10,
    )
    assert reply.status_code == (200 if key.strip() and len(key) <= 200 and "\n" not in key.strip() else 400)


def test_worker_ids_are_given_once(platform: Platform) -> None:  # protocol.md §6.6
    platform.publish("demo", a="1")
    platform.admin("POST", "config/demo/settings", {"enable_worker_id": True})
    first, second = Consumer(platform, client_id="a@1"), Consumer(platform, client_id="b@2")
    ids = {first.configs()["NewLife.WorkerId"], second.configs()["NewLife.WorkerId"]}
    assert len(ids) == 2
    assert first.configs()["NewLife.WorkerId"] in ids
    assert {first.configs()["NewLife.WorkerId"], second.configs()["NewLife.WorkerId"]} == ids


def test_used_and_missed_keys_are_noted(platform: Platform, consumer: Consumer) -> None:
    consumer.pull(0, None, UsedKeys="a,b", MissedKeys="c")
    app = platform.server.store.apps.find("demo")
    assert app is not None
    row = platform.server.store.instances.of(app.id)[0]
    assert (row["used_keys"], row["missed_keys"]) == ("a,b", "c")


def test_the_map_that_a_publish_would_make_for_the_administrator(platform: Platform) -> None:
    platform.publish("base", shared="s1", also="s2")
    platform.publish("demo", a="1", b="<${a}>", c="3", d="4")
    platform.admin("POST", "config/demo/settings", {"quotes": ["base"]})

    def stage(scope: str = "", **items: str | None) -> dict[str, Any]:
        platform.admin("PUT", "config/demo", {"scope": scope, "items": items})
        found: dict[str, Any] = platform.admin("GET", f"config/demo?scope={scope}")
        return found

    found = stage(a="9", c=None, E="${a}-${shared}", _inner="x", also="mine")
    assert found["staged_effective"] == {
        "a": "9", "b": "<9>", "d": "4", "E": "9-s1", "shared": "s1", "also": "mine"
    }  # fmt: skip
    assert found["effective"] == {"a": "1", "b": "<1>", "c": "3", "d": "4", "shared": "s1", "also": "s2"}
    found = stage("dev", a="7", d=None)
    assert (found["staged_effective"]["b"], found["staged_effective"]["d"]) == ("<7>", "4")
    assert platform.admin("GET", "config/demo")["staged_effective"]["b"] == "<9>"
    expected = found["staged_effective"]
    platform.admin("POST", "config/demo/publish", {})
    found = platform.admin("GET", "config/demo?scope=dev")
    assert found["effective"] == found["staged_effective"] == expected
    found = stage(f="${nowhere}")
    assert found["staged_effective"] is None
    assert "[nowhere]" in found["staged_problem"]
    assert (found["problem"], found["effective"]["a"]) == (None, "9")


def test_the_effective_map_for_the_administrator(platform: Platform) -> None:
    platform.publish("demo", a="1", b="<${a}>")
    platform.publish("demo", "dev", a="2")
    found = platform.admin("GET", "config/demo?scope=dev")
    assert found["effective"] == {"a": "2", "b": "<2>"}
    assert [(item["key"], item["scope"]) for item in found["items"]] == [("a", ""), ("a", "dev"), ("b", "")]
    assert found["scopes"] == ["dev"]
    platform.admin("GET", "config/nobody", status=404)
