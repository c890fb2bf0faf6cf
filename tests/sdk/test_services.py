"""Services, commands and asyncio through the SDK, on the embedded server (protocol.md §7, §2.8)."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from stardust_auto import StardustClient
from stardust_auto.errors import UnavailableError
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stardust_auto.wire.messages import Command, ServiceInstance


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith(("STARDUST", "STARSERVER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(period=1, ping_period=1) as running:
        yield running


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def addresses(found: list[ServiceInstance]) -> list[str | None]:
    return [instance.address for instance in found]


def test_offered_found_and_withdrawn(server: EmbeddedServer) -> None:
    consumer = StardustClient(server.url, "web", enable_config=False)
    provider = StardustClient(server.url, "stock", enable_config=False, app_version="v2.1-rc1")
    with consumer:
        assert consumer.resolve("stock-api") == []
        provider.register_service("stock-api", "http://0.0.0.0:8001", tags=("blue", "eu"))
        until(lambda: bool(consumer.resolve("stock-api")))
        (found,) = consumer.resolve("stock-api", tags=["eu"])
        assert found.address is not None
        assert found.address.endswith(":8001")
        assert "0.0.0.0" not in found.address
        assert (found.version, found.tag) == ("2.1", "blue,eu")
        assert found.client == provider.session.account.client_id
        assert consumer.resolve("stock-api", tags=["red"]) == []
        assert consumer.resolve("stock-api", min_version="3") == []
        provider.stop()
        assert consumer.resolve("stock-api") == []


def test_repeated_with_the_heartbeat(server: EmbeddedServer) -> None:
    client = StardustClient(server.url, "stock", enable_config=False)
    client.register_service("stock-api", "http://10.0.0.1:80")
    until(lambda: bool(client.resolve("stock-api")))
    (first,) = client.resolve("stock-api")
    until(lambda: client.resolve("stock-api")[0].update_time != first.update_time)
    assert client.resolve("stock-api")[0].create_time == first.create_time
    client.stop()


def test_two_clients_of_one_session_withdraw_what_is_theirs(server: EmbeddedServer) -> None:
    one = StardustClient(server.url, "shop", enable_config=False)
    two = StardustClient(server.url, "shop", enable_config=False)
    one.register_service("one", "http://10.0.0.1:80")
    two.register_service("two", "http://10.0.0.1:81")
    assert one.session is two.session
    until(lambda: bool(one.resolve("one") and one.resolve("two")))
    two.stop()
    until(lambda: not one.resolve("two"))
    assert one.resolve("one")
    one.stop()


def test_changes_are_pushed_to_those_who_watch() -> None:
    with EmbeddedServer(ping_period=3600) as server:  # what arrives was pushed, not found with a heartbeat
        changes_are_pushed(server)


def changes_are_pushed(server: EmbeddedServer) -> None:
    seen: queue.Queue[list[str | None]] = queue.Queue()

    def listener(found: tuple[ServiceInstance, ...]) -> None:
        seen.put(addresses(list(found)))

    with StardustClient(server.url, "web", enable_config=False) as consumer:
        consumer.watch_service("stock-api", listener)
        assert seen.get(timeout=10) == []
        until(lambda: consumer.session.status.push)
        one = StardustClient(server.url, "stock", enable_config=False)
        one.register_service("stock-api", "http://10.0.0.1:80")
        assert seen.get(timeout=10) == ["http://10.0.0.1:80"]
        assert addresses(consumer.resolve("stock-api")) == ["http://10.0.0.1:80"]  # from memory
        one.unregister_service("stock-api")
        assert seen.get(timeout=10) == []
        one.stop()
    assert list(seen.queue) == []


def run_command(
    server: EmbeddedServer, client: StardustClient, name: str, argument: str = ""
) -> tuple[int, str | None]:
    app = server.store.apps.find(client.session.account.app_id)
    assert app is not None
    (command,) = server.store.commands.add(app.id, [client.session.account.client_id], name, argument)
    server.services.push([command])

    def answered() -> bool:
        found = server.store.commands.find(command.id)
        return found is not None and found.status > 1

    until(answered)
    found = server.store.commands.find(command.id)
    assert found is not None
    return found.status, found.result


def blocked_in_a_process() -> str:
    """The signals that a process blocks which is started here."""
    program = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), end='')"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30).stdout


def test_commands(server: EmbeddedServer) -> None:
    async def later(command: Command) -> dict[str, str | None]:
        await asyncio.sleep(0)
        return {"later": command.argument}

    client = StardustClient(server.url, "shop", enable_config=False)
    client.register_command("shop/now", lambda command: f"now {command.argument}")
    client.register_command("shop/later", later)
    client.register_command("shop/broken", lambda command: 1 / 0)
    client.register_command("shop/process", lambda command: blocked_in_a_process())
    with client:
        until(lambda: client.session.state == "online")
        assert run_command(server, client, "shop/now", "7") == (2, "now 7")
        assert run_command(server, client, "shop/later", "8") == (2, '{"later": "8"}')
        assert run_command(server, client, "shop/broken") == (4, "ZeroDivisionError: division by zero")
        assert run_command(server, client, "shop/unknown")[0] == 4
        assert run_command(server, client, "shop/process") == (2, "set()"), (
            "a process that a handler starts hears signals"
        )


def test_name_and_version_for_people(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_APP_NAME", "The shop")
    monkeypatch.setenv("STARDUST_APP_VERSION", "release-2024.7")
    with StardustClient(server.url, "shop", enable_config=False) as client:
        until(lambda: client.session.state == "online")
        app = server.store.apps.find("shop")
        assert app is not None
        assert app.display_name == "The shop"
        assert server.store.instances.of(app.id)[0]["version"] == "2024.7"


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def longest_gap(gaps: list[float]) -> None:
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


def test_a_loop_goes_on_whatever_the_server_does(hanging: str) -> None:
    gaps: list[float] = []

    async def main() -> None:
        ticker = asyncio.ensure_future(longest_gap(gaps))
        async with StardustClient(hanging, "loop") as client:
            client.register_command("x", lambda command: None)
            client.register_service("loop-api", "http://10.0.0.1:80")
            client.watch_service("other-api", lambda found: None)
            assert client.get_config("a", "b") == "b"
            with client.new_span("in the loop"):
                await asyncio.sleep(0)
            with pytest.raises(UnavailableError):
                await client.aresolve("other-api", timeout=0.5)
            assert not await client.aflush(0.5)
        ticker.cancel()

    started = time.perf_counter()
    asyncio.run(main())
    assert time.perf_counter() - started > 0.5  # at least so long the server let us wait
    # Usually 5 ms, the time after which Python lets another thread go on; a busy machine adds its own.
    assert sorted(gaps)[len(gaps) // 2] < 0.02
    assert max(gaps) < 0.45


def test_an_async_program(server: EmbeddedServer) -> None:
    async def main() -> None:
        loop_of_handler: list[object] = []

        async def handler(command: Command) -> str:
            loop_of_handler.append(asyncio.get_running_loop())
            return "done"

        async with StardustClient(server.url, "loop", enable_config=False) as client:
            client.register_command("where", handler)
            client.register_service("loop-api", "http://10.0.0.1:80")
            for _ in range(500):
                if found := await client.aresolve("loop-api"):
                    break
                await asyncio.sleep(0.02)
            assert addresses(found) == ["http://10.0.0.1:80"]
            assert await asyncio.to_thread(run_command, server, client, "where") == (2, "done")
            assert loop_of_handler == [asyncio.get_running_loop()]

    asyncio.run(main())
