"""The samples of the SDK's description, letter by letter but for the server's address (README, "Compared with the official SDK")."""

from __future__ import annotations

import os
import queue
from typing import TYPE_CHECKING, Any

import pytest
import requests

import stardust_auto
from stardust_auto.config.remote.clients import CLIENTS
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENT = """
client = StardustClient(
    server="http://star.example.com:6600",
    app_id="MyApp",
    secret="MySecret",
    scope="prod",
    enable_trace=True,
    enable_config=True
)

# APM 监控
with client.new_span("operation") as span:
    span.tag = "info"
    do_something()

# 配置中心
value = client.get_config("key", "default")
client.on_config_change(callback)
"""
TRACER = """
tracer = StardustTracer(server, app_id, secret)
tracer.start()

with tracer.new_span("operation") as span:
    do_something()

tracer.stop()
"""
CONFIG = """
config = ConfigClient(server, app_id, secret, scope)
config.start()

value = config.get("key", "default")
config.on_change(callback)

config.stop()
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmbeddedServer]:
    for name in [name for name in os.environ if name.upper().startswith(("STARDUST", "STARSERVER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path))
    with EmbeddedServer() as running:
        running.store.apps.create("MyApp", "MySecret")
        publish(running, "v1")
        yield running
        CLIENTS.stop_all()


def publish(server: EmbeddedServer, value: str) -> None:
    place, headers = f"{server.url}/console/api/config/MyApp", {"Authorization": f"Bearer {server.key}"}
    body = {"scope": "prod", "items": {"key": value}}
    requests.put(place, json=body, headers=headers, timeout=10).raise_for_status()
    requests.post(f"{place}/publish", json={}, headers=headers, timeout=10).raise_for_status()


def run(sample: str, server: EmbeddedServer, *, started: bool = False) -> dict[str, Any]:
    told: queue.Queue[dict[str, str]] = queue.Queue()
    names: dict[str, Any] = {
        **{name: getattr(stardust_auto, name) for name in ("StardustClient", "StardustTracer", "ConfigClient")},
        "server": server.url,
        "app_id": "MyApp",
        "secret": "MySecret",
        "scope": "prod",
        "do_something": lambda: None,
        "callback": told.put,
        "told": told,
    }
    text = sample.replace("http://star.example.com:6600", server.url)
    if started:
        text = text.replace("\n# APM", "client.start()\n# APM")
    exec(text, names)
    return names


def counted(server: EmbeddedServer) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {server.key}"}
    reply = requests.get(f"{server.url}/console/api/apps/MyApp/operations", headers=headers, timeout=10)
    return {row["name"]: row["total"] for row in reply.json()}


def test_the_client_before_its_start_is_usable(server: EmbeddedServer) -> None:
    names = run(CLIENT, server)
    assert names["value"] == "default", "as in the official SDK, nothing is loaded before start()"
    client = names["client"]
    with client:
        assert names["told"].get(timeout=10) == {"key": "v1"}
        assert client.get_config("key", "default") == "v1"
    assert names["told"].empty()
    assert counted(server)["operation"] == 1


def test_the_started_client_reads_the_center(server: EmbeddedServer) -> None:
    names = run(CLIENT, server, started=True)
    assert names["value"] == "v1"
    publish(server, "v2")
    assert names["told"].get(timeout=10) == {"key": "v2"}
    names["client"].stop()
    assert counted(server)["operation"] == 1


def test_the_tracer(server: EmbeddedServer) -> None:
    run(TRACER, server)
    assert counted(server)["operation"] == 1


def test_the_configuration_client(server: EmbeddedServer) -> None:
    assert run(CONFIG, server)["value"] == "v1"
