"""``start()``, then a read: the center's value, after one bounded wait; callbacks know the first load."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from stardust_auto import ConfigClient, StardustClient, StardustConfigDict, StardustSettings, live
from stardust_auto.config.remote import client as client_module
from stardust_auto.config.remote.clients import CLIENTS
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Publish = Any


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.upper().startswith(("STARDUST", "STARSERVER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / "cache"))
    yield
    CLIENTS.stop_all()


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def publish(server: EmbeddedServer) -> Publish:
    def run(app: str = "jobs", scope: str = "", **values: str) -> None:
        place, headers = f"{server.url}/console/api/config/{app}", {"Authorization": f"Bearer {server.key}"}
        requests.put(place, json={"scope": scope, "items": values}, headers=headers, timeout=10).raise_for_status()
        requests.post(f"{place}/publish", json={}, headers=headers, timeout=10).raise_for_status()

    return run


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


READS: dict[str, Callable[[Any], object]] = {
    "get_config": lambda client: client.get_config("batches", "5"),
    "get_config_int": lambda client: str(client.get_config_int("batches", 5)),
    "get_all_configs": lambda client: client.get_all_configs().get("batches"),
    "config_version": lambda client: "12" if client.config_version >= 1 else "0",
    "config.get": lambda client: client.config.get("batches"),
}


@pytest.mark.parametrize("read", list(READS))
def test_the_first_read_gives_the_centers_value(server: EmbeddedServer, publish: Publish, read: str) -> None:
    publish(batches="12")
    client = StardustClient(server.url, "jobs")
    client.start()
    assert READS[read](client) == "12"
    client.stop()


def test_a_configuration_client_alone_gives_it_too(server: EmbeddedServer, publish: Publish) -> None:
    publish(scope="prod", batches="12", fast="yes")
    with ConfigClient(server.url, "jobs", "", "prod", client_id="10.0.0.9@77") as client:
        assert client.get_int("batches", 5) == 12
        assert client.get_bool("fast") is True
        assert client.get("missing") == ""
        assert (client.server, client.secret, client.client_id) == (server.url, "", "10.0.0.9@77")
        assert client.source_ip == "127.0.0.1"
        assert client.version >= 1
    assert client.get("batches") == "12"


def test_a_dead_server_costs_one_wait_for_all_reads_and_threads(hanging: str) -> None:
    client = StardustClient(hanging, "jobs")
    client.start()
    started = time.monotonic()
    threads = [threading.Thread(target=client.get_config, args=("batches",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert client.get_config_int("batches", 5) == 5
    for thread in threads:
        thread.join()
    assert 2.5 < time.monotonic() - started < 4.0
    started = time.monotonic()
    assert (client.get_config("batches", "5"), client.config_version) == ("5", 0)
    assert time.monotonic() - started < 0.2
    client.stop(0.1)


def test_before_start_and_after_stop_nothing_waits(hanging: str) -> None:
    client = StardustClient(hanging, "jobs")
    started = time.monotonic()
    assert client.get_config("batches", "5") == "5"
    client.start()
    client.stop(0.1)
    assert client.get_config("batches", "5") == "5"
    assert time.monotonic() - started < 1.5


def test_no_read_waits_on_an_event_loop(hanging: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        client = StardustClient(hanging, "jobs")
        client.start()
        started = time.monotonic()
        for _ in range(3):
            assert client.get_config("batches", "5") == "5"
        waited = time.monotonic() - started
        client.stop(0.1)
        return waited

    with caplog.at_level(logging.WARNING, "stardust_auto"):
        assert asyncio.run(main()) < 0.2
    assert sum("await astart()" in record.message for record in caplog.records) == 1


def test_astart_has_loaded_when_it_returns(server: EmbeddedServer, publish: Publish) -> None:
    publish(batches="12")

    async def main() -> list[object]:
        seen: list[object] = []
        async with StardustClient(server.url, "jobs") as client:
            seen.append(client.get_config_int("batches", 5))
        async with ConfigClient(server.url, "jobs") as config:
            seen.append(config.get("batches"))
        return seen

    assert asyncio.run(main()) == [12, "12"]


def calls_of(make: Callable[[], Any], register: str) -> tuple[Any, queue.Queue[dict[str, str]]]:
    client = make()
    calls: queue.Queue[dict[str, str]] = queue.Queue()
    getattr(client, register)(calls.put)
    return client, calls


@pytest.mark.parametrize("kind", ["client", "config"])
def test_a_callback_registered_before_the_first_load_is_called_once_with_it(
    server: EmbeddedServer, publish: Publish, kind: str
) -> None:
    publish(batches="12")
    if kind == "client":
        client, calls = calls_of(lambda: StardustClient(server.url, "jobs"), "on_config_change")
    else:
        client, calls = calls_of(lambda: ConfigClient(server.url, "jobs"), "on_change")
    for _ in range(2):  # a second start, also with a copy on disk, is not a first load
        with client:
            assert (client.config if kind == "client" else client).wait_loaded(10)
            time.sleep(0.1)
    assert calls.get(timeout=5) == {"batches": "12"}
    assert calls.empty()
    with client:
        publish(batches="13")
        assert calls.get(timeout=10) == {"batches": "13"}
    assert calls.empty()


def test_a_callback_of_a_client_that_joins_a_loaded_one_is_called_with_what_is_loaded(
    server: EmbeddedServer, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jobs(StardustSettings):
        model_config = StardustConfigDict(stardust_app="jobs")
        batches: int = 5

    monkeypatch.setenv("STARDUST_SERVER", server.url)
    publish(batches="12")
    handle = live(Jobs)
    assert handle.current.batches == 12
    client, calls = calls_of(lambda: StardustClient(server.url, "jobs"), "on_config_change")
    time.sleep(0.1)
    assert calls.empty(), "it has not started"
    with client:
        assert calls.get(timeout=5) == {"batches": "12"}
        late: queue.Queue[dict[str, str]] = queue.Queue()
        client.on_config_change(late.put)  # after the load: only changes
        publish(batches="13")
        assert calls.get(timeout=10) == late.get(timeout=10) == {"batches": "13"}
    assert calls.empty()
    assert late.empty()
    handle.close()


@pytest.mark.parametrize("kind", [StardustClient, ConfigClient])
def test_a_scope_that_looks_like_an_instance_is_one_warning(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    client_module.warn_of_instance.cache_clear()
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        for _ in range(2):
            client = kind("http://127.0.0.1:9", "jobs", "planted-secret-8", "10.0.0.5@4242")
            assert getattr(client, "config", client) is not None
        kind("http://127.0.0.1:9", "jobs", "", "prod")
    assert [record.message for record in caplog.records] == [
        "the scope '10.0.0.5@4242' looks like an instance: the fourth argument is the scope, pass client_id by its name"
    ]
    assert "planted-secret-8" not in f"{client!r} {vars(client)!r}"


def test_a_forked_child_follows_the_center_from_its_first_read_on(
    server: EmbeddedServer, publish: Publish, tmp_path: Path
) -> None:
    publish(batches="12")
    code = (
        "import os, sys, time\nfrom stardust_auto import StardustClient\n"
        f"client = StardustClient({server.url!r}, 'jobs'); client.start()\n"
        "assert client.get_config('batches') == '12'\n"
        "if os.fork() == 0:\n"
        "    print(client.get_config('batches'), flush=True)\n"
        "    deadline = time.monotonic() + 20\n"
        "    while client.get_config('batches') == '12' and time.monotonic() < deadline: time.sleep(0.01)\n"
        "    print(client.get_config('batches'), flush=True); sys.exit()\n"
        "os.wait()\n"
    )
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    with subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "12\n"
        publish(batches="13")
        assert process.stdout.readline() == "13\n"
    assert process.returncode == 0
