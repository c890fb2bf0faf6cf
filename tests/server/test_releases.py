"""Drafts, plans and roll-backs do not get in each other's way; a full disk and a read change nothing."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from _kit.server_platform import Platform

from stardust_auto.server import EmbeddedServer
from stardust_auto.server.releases.sets import KEPT_SETS
from stardust_auto.server.store.database import Database
from stardust_auto.server.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from _kit.server_platform import Clock


def drafts(platform: Platform) -> dict[str, Any]:
    items = platform.admin("GET", "config/demo")["items"]
    return {item["key"]: item["new_value"] for item in items if item["pending"]}


def effective(platform: Platform) -> dict[str, str]:
    found: dict[str, str] = platform.admin("GET", "config/demo")["effective"]
    return found


def wait_published(platform: Platform, version: int) -> None:
    deadline = time.monotonic() + 10  # the server looks once a second
    while platform.admin("GET", "config/demo")["version"] < version:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_roll_back_leaves_every_draft(platform: Platform) -> None:
    platform.publish("demo", x="1")
    platform.publish("demo", x="2", newkey="n")
    platform.admin("PUT", "config/demo", {"items": {"newkey": "MY DRAFT", "x": "3"}})
    platform.admin("POST", "config/demo/rollback", {"version": 2})
    assert effective(platform) == {"x": "1"}
    assert drafts(platform) == {"newkey": "MY DRAFT", "x": "3"}
    platform.admin("POST", "config/demo/rollback", {"version": 1})
    assert effective(platform) == {}
    assert drafts(platform) == {"newkey": "MY DRAFT", "x": "3"}


def test_a_plan_publishes_what_it_was_made_of_and_nothing_else(platform: Platform, clock: Clock) -> None:
    platform.admin("PUT", "config/demo", {"items": {"a": "1", "b": "1"}})
    platform.admin("POST", "config/demo/publish", {"at": clock.now + 3000})
    platform.admin("PUT", "config/demo", {"items": {"half": "done", "b": "2"}})
    clock.advance(4)
    wait_published(platform, 2)
    assert effective(platform) == {"a": "1", "b": "1"}
    assert drafts(platform) == {"half": "done", "b": "2"}


def test_discarded_drafts_are_not_published_by_their_plan(platform: Platform, clock: Clock) -> None:
    platform.admin("PUT", "config/demo", {"items": {"a": "1"}})
    platform.admin("POST", "config/demo/publish", {"at": clock.now + 3000})
    platform.admin("POST", "config/demo/discard", {})
    platform.admin("PUT", "config/demo", {"items": {"half": "done"}})
    assert platform.admin("GET", "config/demo")["next_publish"] == 0
    clock.advance(4)
    assert platform.server.services.releases.due() == []
    assert effective(platform) == {}


def test_a_plan_is_cancelled_and_its_drafts_stay(platform: Platform, clock: Clock) -> None:
    platform.admin("POST", "apps/demo", {"create": True})
    assert "nothing is staged" in platform.admin("POST", "config/demo/publish", {"at": clock.now + 3000}, 409)["error"]
    platform.admin("PUT", "config/demo", {"items": {"a": "1"}})
    platform.admin("POST", "config/demo/publish", {"at": clock.now + 3000})
    platform.admin("POST", "config/demo/unplan", {})
    assert platform.admin("GET", "config/demo")["next_publish"] == 0
    assert drafts(platform) == {"a": "1"}


def test_who_publishes_what_somebody_else_has_published_meanwhile_is_told(platform: Platform) -> None:
    platform.publish("demo", a="1")
    platform.admin("PUT", "config/demo", {"items": {"b": "2"}})
    refused = platform.admin("POST", "config/demo/publish", {"version": 1}, status=409)
    assert "version 2 was published meanwhile" in refused["error"]
    assert platform.admin("POST", "config/demo/publish", {"version": 2})["version"] == 3


def test_old_sets_are_dropped_and_the_history_stays(platform: Platform) -> None:
    app = platform.server.store.apps.create("demo")
    releases = platform.server.services.releases
    for number in range(KEPT_SETS + 5):
        releases.stage(app, "", {"a": str(number)})
        releases.publish(app)
    assert "no version 2" in platform.admin("POST", "config/demo/rollback", {"version": 2}, status=404)["error"]
    assert platform.admin("POST", "config/demo/rollback", {"version": 20})["version"] == KEPT_SETS + 7
    assert effective(platform) == {"a": "18"}
    history = releases.history(app, 1000)
    assert len(history) == KEPT_SETS + 6
    assert sum(entry["kept"] for entry in history) == KEPT_SETS


def test_a_comment_that_is_too_long_is_refused_not_cut(platform: Platform) -> None:
    refused = platform.admin("PUT", "config/demo", {"items": {"a": "1"}, "comments": {"a": "x" * 300}}, status=400)
    assert "over 200 characters" in refused["error"]


def test_configuration_is_served_from_a_full_disk(platform: Platform) -> None:
    platform.publish("demo", greeting="hello")
    token = platform.login()
    with platform.server.store.database.write() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    platform.server.store.database._writer.execute(f"PRAGMA max_page_count={pages}")
    builder = platform.builder(Samples=[{"Id": str(i), "TraceId": "t", "Tag": "x" * 900} for i in range(500)])
    reply = platform.post("/Trace/Report", {"AppId": "demo", "Builders": [builder]}, token).json()
    assert "full" in reply["message"]
    for client in ("a@1", "b@2"):
        token = platform.login(client_id=client)
        data = platform.data("/Config/GetAll", {"AppId": "demo", "Version": 0}, token)
        assert data["configs"] == {"greeting": "hello"}
        assert platform.data("/App/Ping", {"Threads": 3}, token)["period"] == 60
    assert effective(platform) == {"greeting": "hello"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stardust.db").write_bytes(b"\xff" * 50_000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        EmbeddedServer(tmp_path).start()


def test_a_file_of_the_version_before_keeps_values_drafts_history_and_counts(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "stardust.db")
    for number, script in enumerate(MIGRATIONS[:2], start=1):
        db.executescript(f"BEGIN; {script} PRAGMA user_version={number}; COMMIT;")
    now = time.time_ns() // 1_000_000
    db.executescript(f"""
        INSERT INTO app (id, name, created) VALUES (1, 'demo', {now});
        INSERT INTO config_app (app_id, version, next_version, updated) VALUES (1, 2, 3, {now});
        INSERT INTO config_item (app_id, key, value, version, staged, new_value, comment, updated)
          VALUES (1, 'a', '1', 2, 1, '9', 'why', {now});
        INSERT INTO config_release VALUES
          (1, 2, {now}, 'publish', '[]', '[{{"key":"a","scope":"","value":"1","comment":"why"}}]');
        INSERT INTO operation (id, app_id, name, kind, last_seen) VALUES (1, 1, '/a', 'api', {now});
        INSERT INTO builder (app_id, operation_id, client_id, start_time, end_time, total, errors, cost, max_cost, min_cost, value)
          VALUES (1, 1, 'x', {now}, {now}, 3, 1, 30, 20, 5, 0), (1, 1, 'y', {now}, {now}, 4, 0, 10, 9, -1, 0);
    """)
    db.commit()
    db.close()
    with EmbeddedServer(tmp_path) as server:
        platform = Platform(server, None)  # type: ignore[arg-type]  # nothing here asks for the time
        item = platform.admin("GET", "config/demo")["items"][0]
        assert (item["value"], item["new_value"], item["comment"], item["version"]) == ("1", "9", "why", 2)
        row = platform.operations()["/a"]
        assert (row["total"], row["errors"], row["cost"], row["max_cost"], row["min_cost"]) == (7, 1, 40, 20, 5)
        assert platform.admin("POST", "config/demo/publish", {})["version"] == 3


def test_an_instance_is_not_green_once_its_socket_is_gone(platform: Platform) -> None:
    from _kit.server_platform import DIRECT
    from websockets.sync.client import connect

    token = platform.login()
    platform.data("/App/Ping", {}, token)
    address = platform.url.replace("http:", "ws:") + "/App/Notify"
    with connect(address, additional_headers={"Authorization": f"Bearer {token}"}, **DIRECT):
        assert platform.admin("GET", "apps")[0]["instances"][0]["online"] is True
    deadline = time.monotonic() + 5
    while platform.admin("GET", "apps")[0]["instances"][0]["online"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    platform.data("/App/Ping", {}, token)
    assert platform.admin("GET", "apps")[0]["instances"][0]["online"] is True


def test_a_database_gives_pages_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "stardust.db")
    with database.write() as db:
        db.executemany("INSERT INTO meta VALUES (?, ?)", [(str(n), "x" * 1000) for n in range(5000)])
    with database.write() as db:
        db.execute("DELETE FROM meta")
    database.give_back()
    with database.write() as db:
        assert db.execute("PRAGMA page_count").fetchone()[0] < 100
    database.close()
