"""``apps``: create, secret, delete; where the key goes; a trace in any width."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import requests

from stardust_auto import StardustClient
from stardust_auto.ctl.trace_commands import waterfall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _kit.ctl import Result

    from stardust_auto.server import EmbeddedServer


def login(server: EmbeddedServer, app: str, secret: str) -> int:
    body = {"AppId": app, "Secret": secret, "ClientId": "a@1"}
    return int(requests.post(f"{server.url}/App/Login", json=body, timeout=5).json()["code"])


def test_a_secret_is_given_to_an_application_and_printed_once(
    shop: Callable[..., Result], server: EmbeddedServer
) -> None:
    secret = shop("apps", "secret", "jobs").out.strip()
    assert login(server, "jobs", secret) == 0
    assert login(server, "jobs", "another") == 403
    assert shop("apps", "secret", "jobs", "--set", "chosen-by-us", "--json").json == {
        "name": "jobs",
        "secret": "chosen-by-us",
    }
    assert login(server, "jobs", secret) == 403
    assert login(server, "jobs", "chosen-by-us") == 0
    assert "8 to 100 characters" in shop("apps", "secret", "jobs", "--set", "short").err


def test_two_containers_with_one_secret_are_both_let_in(server: EmbeddedServer) -> None:
    assert login(server, "shop", "mine-123") == 0  # a first login brings the secret of the application
    assert login(server, "shop", "mine-123") == 0
    assert login(server, "shop", "other-123") == 403


def test_two_programs_with_one_secret_and_no_common_folder_are_both_let_in(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (
        "first",
        "second",
    ):  # two containers; our client sends a salted proof, which does not tell the secret
        monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / folder))
        client = StardustClient(server=server.url, app_id="shop", secret="mine-123-and-more", enable_trace=False)
        client.start()
        assert client.config is not None
        assert client.config.wait_loaded(10)
        client.stop()
    assert login(server, "shop", "mine-123-and-more") == 0
    assert login(server, "shop", "other-123-and-more") == 403


def test_a_secret_is_kept_once_and_only_by_who_was_issued_one(server: EmbeddedServer) -> None:
    body = {"AppId": "shop", "ClientId": "a@1"}
    first = requests.post(f"{server.url}/App/Login", json=body, timeout=5).json()["data"]
    headers = {"Authorization": f"Bearer {first['token']}"}
    for secret, token, code in (
        ("mine-123-and-more", {}, 401),
        ("short", headers, 403),
        ("mine-123-and-more", headers, 0),
        ("again-and-again", headers, 403),
    ):
        reply = requests.post(f"{server.url}/App/Secret", json={"Secret": secret}, headers=token, timeout=5).json()
        assert reply["code"] == code
    assert login(server, "shop", first["secret"]) == 403


def test_an_application_is_created_and_deleted(shop: Callable[..., Result]) -> None:
    assert shop("apps", "create", "jobs").out == "jobs: created\n"
    assert [row["name"] for row in shop("apps", "--json").json] == ["jobs"]
    assert shop("apps", "delete", "jobs", "--yes").out == "jobs: deleted\n"
    assert shop("apps", "--json").json == []
    assert shop("apps", "delete", "jobs", "--yes").code == 1


def test_the_key_does_not_go_to_a_proxy(
    shop: Callable[..., Result], server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def listen() -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        heard.append(client.recv(10_000))
        client.close()

    thread = threading.Thread(target=listen)
    thread.start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    result = shop("apps", "--json")
    listener.close()
    thread.join()
    assert (result.code, result.json) == (0, [])
    assert heard == []


@pytest.mark.parametrize("columns", ["60", "80", "100", "200"])
def test_a_trace_keeps_its_columns_in_every_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    spans: list[dict[str, object]] = [
        {
            "app": "a-shop-with-a-long-name",
            "name": f"/polls/<int:pk>/{'x' * 80 if n else ''}",
            "depth": n % 4,
            "cost": 40 - n,
            "start_time": 1000 + n,
        }
        for n in range(8)
    ]
    spans[3]["error"] = "ValueError: damaged \x1b[31m"
    lines = waterfall({"trace_id": "t", "total": 8}, spans, tags=False)
    assert all(len(line) <= int(columns) for line in lines)
    bars = [line for line in lines if "|" in line]
    assert len(bars) == 8
    assert all("ms  |" in line and "/p" in line for line in bars)
    assert any("! ValueError: damaged" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_bar_is_plain_where_the_encoding_has_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    lines = waterfall({}, [{"app": "a", "name": "n", "depth": 0, "cost": 3, "start_time": 1}], tags=False)
    assert "\u2588" not in "".join(lines)
    assert "|###" in lines[-1]


WORKER = """
import sys
from pydantic import BaseModel, Field
from stardust_auto import StardustConfigDict, StardustSettings, live

class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    discount: int = Field(default=0, ge=0, le=90)

config = live(Settings)
print(config.current.discount, flush=True)
sys.stdin.read()
"""


def test_a_publish_says_what_each_instance_makes_of_it(
    shop: Callable[..., Result], server: EmbeddedServer, own_place: Path
) -> None:
    (own_place / "worker.py").write_text(WORKER)
    environ = {name: value for name, value in os.environ.items() if name != "STARDUST_ADMIN_KEY"}
    with subprocess.Popen(
        [sys.executable, "worker.py"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "0\n"
        taken = shop("config", "set", "discount=20", "--publish")
        assert taken.code == 0, taken.out
        assert f"@{worker.pid} uses it after " in taken.out
        result = shop("config", "set", "discount=150", "--publish", "--json")
        assert result.code == 1
        (instance,) = result.json["instances"]
        assert (instance["state"], instance["used_version"]) == ("refused", 2)
        assert "discount" in instance["reason"]
        assert "(refused v3, uses v2)" in shop("apps").out
        back = shop("config", "rollback", "2")
        assert back.code == 0, back.out
        assert "uses it after" in back.out
        worker.communicate("")
