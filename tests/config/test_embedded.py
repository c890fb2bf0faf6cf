"""The whole way on a real server: publish, push, pull, validate, swap, callback."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from _kit.config_center import wait_for
from pydantic import BaseModel

from stardust_auto import live
from stardust_auto.config import InvalidSettingsError, StardustConfigDict, StardustSettings
from stardust_auto.config.remote.clients import CLIENTS
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shop(StardustSettings):
    class Db(BaseModel, frozen=True):
        host: str = "localhost"
        pool: int = 5

    model_config = StardustConfigDict(env_prefix="SHOP_")
    db: Db = Db()


class Admin:
    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._server.key}"}
        answer = requests.request(
            method, f"{self._server.url}/console/api/{path}", json=body, headers=headers, timeout=10
        )
        assert answer.ok, answer.text
        return answer.json()

    def publish(self, items: dict[str, str | None], scope: str = "", app: str = "shop") -> Any:
        self.call("PUT", f"config/{app}", {"scope": scope, "items": items})
        return self.call("POST", f"config/{app}/publish", {})


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def admin(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Admin:
    monkeypatch.setenv("STARDUST_SERVER", server.url)
    monkeypatch.setenv("STARDUST_APP_ID", "shop")
    return Admin(server)


def test_a_published_value_is_live_within_a_second(admin: Admin) -> None:
    config = live(Shop)
    assert config.current.db.pool == 5
    arrived = threading.Event()
    seen: list[tuple[int, int]] = []

    @config.on_change(lambda s: s.db.pool)
    def resize(old: int, new: int) -> None:
        seen.append((old, new))
        arrived.set()

    assert wait_for(lambda: bool(admin.call("GET", "apps")[0]["instances"]))
    time.sleep(0.3)  # until the socket is open: nobody tells us
    start = time.monotonic()
    assert admin.publish({"Db:Pool": "9"})["version"] == 2
    assert arrived.wait(5)
    assert time.monotonic() - start < 1
    assert seen == [(5, 9)]
    assert (config.status.version, config.status.state) == (2, "VALID")
    assert admin.publish({"Db:Pool": "nine"})["version"] == 3
    assert wait_for(lambda: config.status.rejected_version == 3)
    assert config.current.db.pool == 9
    admin.call("POST", "config/shop/rollback", {"version": 2})
    assert wait_for(lambda: config.status.rejected_version is None)
    assert (config.current.db.pool, config.status.version) == (9, 4)
    assert str(config.explain("db.pool").winner) == 'stardust shop v4 key "Db:Pool"'
    admin.publish({"Db:Pool": None})
    assert wait_for(lambda: config.current.db.pool == 5)
    config.close()


def test_scopes_have_their_own_values(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    first = live(Shop)
    first.start()
    admin.publish({"db:host": "any"})
    admin.publish({"db:host": "prod"}, scope="prod")
    monkeypatch.setenv("STARDUST_SCOPE", "prod")
    second = live(Shop)
    assert second.current.db.host == "prod"
    assert second.status.scope == "prod"
    assert wait_for(lambda: first.current.db.host == "any")
    first.close()
    second.close()


@pytest.mark.case("C35", "C60")
def test_a_server_that_is_gone_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    server = EmbeddedServer(data=folder).start()
    port = int(server.url.rpartition(":")[2])
    monkeypatch.setenv("STARDUST_SERVER", server.url)
    monkeypatch.setenv("STARDUST_APP_ID", "shop")
    config = live(Shop)
    config.start()
    Admin(server).publish({"db:pool": "7"})
    assert wait_for(lambda: config.current.db.pool == 7)
    server.stop()
    config.client.refresh_interval = 0.1  # type: ignore[union-attr]  # it is the real client
    assert wait_for(lambda: config.status.state == "INTERRUPTED", 20)
    assert config.current.db.pool == 7
    again = live(Shop, start_timeout=0.2)  # another program starts meanwhile: from the copy on disk
    assert again.current.db.pool == 7
    server = EmbeddedServer(data=folder, port=port).start()
    try:
        Admin(server).publish({"db:pool": "8"})
        assert wait_for(lambda: config.current.db.pool == 8, 30)
        assert wait_for(lambda: config.status.state == "VALID")
    finally:
        config.close()
        again.close()
        server.stop()
    assert len([record for record in lines.records if "is refreshed again" in record.message]) == 1


@pytest.mark.case("C53")
def test_two_classes_share_one_login(admin: Admin) -> None:
    class Other(StardustSettings):
        name: str = ""

    first, second = live(Shop), live(Other)
    assert first.current.db.pool == 5
    assert second.current.name == ""
    assert Shop().db.pool == 5
    assert first.client is second.client
    (app,) = [entry for entry in admin.call("GET", "apps") if entry["name"] == "shop"]
    assert len(app["instances"]) == 1
    first.close()
    second.close()


def test_a_value_of_the_center_that_never_was_valid_stops_the_start(admin: Admin) -> None:
    live(Shop).start()
    CLIENTS.stop_all()  # as a new process would be
    admin.publish({"db:pool": "many"})
    (copy,) = Path(os.environ["STARDUST_CACHE_DIR"], "config").iterdir()
    copy.unlink()
    config = live(Shop)
    with pytest.raises(InvalidSettingsError, match=r'db\.pool from Stardust shop v2 key "db:pool"'):
        config.start()
    config.close()
