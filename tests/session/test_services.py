"""The service registry (protocol.md §7)."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stardust_auto.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _kit.faulty_server import FaultyServer

    from stardust_auto.session.session import Session
    from stardust_auto.wire.messages import ServiceInstance

    NewSession = Callable[..., Session]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = object.__repr__


@pytest.fixture
def instances(server: FaultyServer) -> list[dict[str, Any]]:
    """What the server knows of the service ``stock``."""
    known = [{"serviceName": "stock", "client": "10.0.0.7@1", "address": "http://10.0.0.7:80", "weight": 1}]
    server.answers["app/resolveservice"] = lambda handler: handler.reply(
        known if handler.call_body["ServiceName"] == "stock" else []
    )
    server.answers["app/registerservice"] = lambda handler: handler.reply({"serviceName": "shop"})
    # Recorded: a withdrawal that worked is answered with a null reference.
    server.answers["app/unregisterservice"] = lambda handler: handler.reply(None, 500, "Object reference not set")
    return known


@pytest.mark.usefixtures("instances")
def test_offered_each_period_and_withdrawn_on_stop(server: FaultyServer, new_session: NewSession) -> None:
    server.period = 1
    session = new_session(server.url, version="1.4-beta")
    registry = session.services
    registry.register("shop", "http://*:8000", tags=("blue", "eu"))
    second = server.wait_for("app/registerservice", 2)
    assert second.body == {
        "ServiceName": "shop",
        "ClientId": session.account.client_id,
        "Version": "1.4",
        "Address": "http://*:8000",
        "Tag": "blue,eu",
    }
    assert session.stop()
    assert server.count("app/unregisterservice") == 1
    paths = [call.path for call in server.calls]
    assert paths.index("app/unregisterservice") < paths.index("app/logout")


@pytest.mark.usefixtures("instances")
def test_withdrawn_by_hand(server: FaultyServer, new_session: NewSession) -> None:
    services = new_session(server.url).services
    services.register("shop", "http://*:8000")
    server.wait_for("app/registerservice")
    services.withdraw(["shop"])
    services.withdraw(["shop"])
    server.wait_for("app/unregisterservice")
    services.register("shop", "http://*:8000")
    server.wait_for("app/registerservice", 2)
    assert server.count("app/unregisterservice") == 1


@pytest.mark.usefixtures("instances")
@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), Unprintable()],
    ids=lambda error: type(error).__name__,
)
def test_a_listener_that_raises_anything_ends_nothing(
    server: FaultyServer, new_session: NewSession, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(found: tuple[ServiceInstance, ...]) -> None:
        raise error

    server.period = 1
    session = new_session(server.url)
    session.services.watch("stock", listener)
    server.wait_for("app/ping", 3)
    assert len([line for line in caplog.messages if "listener" in line]) == 1
    assert session.worker.running


@pytest.mark.usefixtures("instances")
def test_resolve(server: FaultyServer, new_session: NewSession) -> None:
    registry = new_session(server.url).services
    (found,) = registry.resolve("stock", tags=["blue"])
    assert (found.client, found.address, found.weight) == ("10.0.0.7@1", "http://10.0.0.7:80", 1)
    assert server.of("app/resolveservice")[0].body["Tag"] == "blue"
    assert registry.resolve("nobody") == []
    server.close()
    with pytest.raises(UnavailableError):
        registry.resolve("stock")


def test_watched_services_follow_the_push(
    server: FaultyServer, new_session: NewSession, instances: list[dict[str, Any]]
) -> None:
    seen: list[list[str | None]] = []
    changed = threading.Semaphore(0)

    def listener(found: tuple[ServiceInstance, ...]) -> None:
        seen.append([instance.client for instance in found])
        changed.release()
        raise RuntimeError("an application's mistake")

    session = new_session(server.url, push=True)
    registry = session.services
    registry.watch("stock", listener)
    assert changed.acquire(timeout=5)
    connected = server.wait_for_socket()
    instances.append({"serviceName": "stock", "client": "10.0.0.8@1", "address": "http://10.0.0.8:80"})
    connected.push("registry/register", 31, Argument='{"AppName":"stock","ServiceName":"stock"}')
    assert changed.acquire(timeout=5)
    assert seen == [["10.0.0.7@1"], ["10.0.0.7@1", "10.0.0.8@1"]]
    asked = server.count("app/resolveservice")
    assert [instance.client for instance in registry.resolve("stock")] == seen[-1]  # from memory
    assert server.count("app/resolveservice") == asked
    assert server.wait_for("app/commandreply").body == {"Id": 31, "Status": 2, "Data": "OK"}


@pytest.mark.usefixtures("instances")
def test_leaving_waits_for_nobody(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url)
    registry = session.services
    assert session.services is registry
    registry.register("shop", "http://*:8000")
    registry.register("stock", "http://*:8001")
    server.wait_for("app/registerservice", 2)
    registry.withdraw(["shop", "nobody"])
    assert server.wait_for("app/unregisterservice").body["ServiceName"] == "shop"
    registry.withdraw(["stock"])
    session.stop()
    assert [call.body["ServiceName"] for call in server.of("app/unregisterservice")] == ["shop", "stock"]


def test_no_longer_watched(server: FaultyServer, new_session: NewSession, instances: list[dict[str, Any]]) -> None:
    registry = new_session(server.url).services
    told = threading.Semaphore(0)
    listeners = [lambda found: told.release(), lambda found: told.release()]
    for listener in listeners:
        registry.watch("stock", listener)
    assert told.acquire(timeout=5)
    assert told.acquire(timeout=5)
    registry.unwatch("stock", listeners[0])
    asked = server.count("app/resolveservice")
    assert registry.resolve("stock")[0].client == "10.0.0.7@1"
    assert server.count("app/resolveservice") == asked
    registry.unwatch("stock", listeners[1])
    registry.unwatch("stock", listeners[1])
    registry.resolve("stock")
    assert server.count("app/resolveservice") == asked + 1


@pytest.mark.usefixtures("instances")
def test_one_service_that_is_refused_does_not_stop_the_others(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    server.period = 1
    refused = ("disabled", "watched")

    def answer(handler: Any) -> None:
        if handler.call_body["ServiceName"] in refused:
            handler.reply(None, 403, "disabled")
        else:
            handler.reply([])

    for path in ("app/registerservice", "app/resolveservice", "app/unregisterservice"):
        server.answers[path] = answer
    session = new_session(server.url)
    registry = session.services
    found = threading.Event()
    registry.register("disabled", "http://*:1")
    registry.register("shop", "http://*:2")
    registry.watch("watched", lambda instances: None)
    registry.watch("stock", lambda instances: found.set())
    assert found.wait(5)
    server.wait_for("app/registerservice", 6)
    registry.withdraw(["disabled", "shop"])
    server.wait_for("app/unregisterservice", 2)
    assert {call.body["ServiceName"] for call in server.of("app/registerservice")} == {"disabled", "shop"}
    session.stop()
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [f"the registry refuses service {name}: code 403: disabled" for name in ("disabled", "watched")]


@pytest.mark.usefixtures("instances")
def test_a_server_that_is_gone_when_services_leave(
    server: FaultyServer, new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    session = new_session(server.url)
    session.services.register("shop", "http://*:1")
    server.wait_for("app/registerservice")
    server.close()
    session.stop()
    assert [record.getMessage() for record in caplog.records if "registry" in record.getMessage()] == []
