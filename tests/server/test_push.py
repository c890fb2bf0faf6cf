"""The push socket and commands (protocol.md §2.8, §12.4)."""

from __future__ import annotations

import json
import logging
import threading
import time
from socket import create_connection
from typing import TYPE_CHECKING, Any

import pytest
from _kit.server_platform import DIRECT
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

if TYPE_CHECKING:
    from _kit.server_platform import Platform


def notify(platform: Platform, token: str, *, query: bool = False) -> Any:
    address = platform.url.replace("http:", "ws:") + "/App/Notify"
    if query:
        return connect(f"{address}?Token={token}", **DIRECT)
    return connect(address, additional_headers={"Authorization": f"Bearer {token}"}, **DIRECT)


def wait_connected(platform: Platform, count: int = 1) -> None:
    deadline = time.monotonic() + 5
    while len(platform.server.services.hub) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_ping_pong_exactly(platform: Platform) -> None:
    with notify(platform, platform.login()) as socket:
        for text in ("ping", "PING", "Ping ", "event#topic#me#subscribe", "{}", "x"):
            socket.send(text)
        socket.send(b"Ping")
        socket.send("Ping")
        assert socket.recv(5) == "Pong"
        with pytest.raises(TimeoutError):
            socket.recv(0.05)
        assert socket.ping().wait(5)  # protocol ping, protocol pong


def test_a_socket_lives_longer_than_a_request_may_take(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stardust_auto.server.connections.REQUEST_SECONDS", 0.2)
    with notify(platform, platform.login()) as socket:
        time.sleep(0.6)
        socket.send("Ping")
        assert socket.recv(5) == "Pong"


def test_no_token_in_the_log(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    caplog.set_level(logging.WARNING, "websockets.client")  # the test's own
    token = platform.login()
    for query in (False, True):
        with notify(platform, token, query=query) as socket:
            socket.send("Ping")
            assert socket.recv(5) == "Pong"
    assert token not in caplog.text


def test_a_publish_is_pushed_at_once_without_a_ping_before(platform: Platform) -> None:
    with (
        notify(platform, platform.login()) as first,
        notify(platform, platform.login(client_id="b@2"), query=True) as second,
    ):
        wait_connected(platform, 2)
        started = time.monotonic()
        assert platform.publish("demo", a="1")["pushed"] == 2
        frames = [json.loads(socket.recv(5)) for socket in (first, second)]
        assert time.monotonic() - started < 1.0
        for frame in frames:
            assert list(frame) == ["Id", "Command", "Argument", "StartTime", "Expire", "TraceId", "Status"]
            assert (frame["Command"], frame["Argument"], frame["StartTime"], frame["Status"]) == (
                "config/publish",
                "",
                "",
                0,
            )
            assert frame["Expire"].endswith("Z")
            assert len(frame["TraceId"].split("-")) == 4
        assert frames[0]["Id"] != frames[1]["Id"]  # one answers for itself only


def test_a_shared_change_is_pushed_to_its_users(platform: Platform) -> None:
    platform.admin("POST", "config/Common/settings", {"is_global": True})
    token = platform.login()
    platform.data("/Config/GetAll", {"AppId": "demo"}, token)
    with notify(platform, token) as socket:
        wait_connected(platform)
        assert platform.publish("Common", a="1")["pushed"] == 1
        assert json.loads(socket.recv(5))["Command"] == "config/publish"


def test_a_second_socket_of_the_same_identity_replaces_the_first(platform: Platform) -> None:
    token = platform.login()
    with notify(platform, token) as first, notify(platform, token) as second:
        with pytest.raises(ConnectionClosed):
            first.recv(5)
        platform.publish("demo", a="1")
        assert json.loads(second.recv(5))["Command"] == "config/publish"
        assert len(platform.server.services.hub) == 1


def test_the_end_of_the_server_is_told(platform: Platform) -> None:  # protocol.md §12.4: 1001 "Dispose"
    with notify(platform, platform.login()) as socket:
        wait_connected(platform)
        started = time.monotonic()
        platform.server.stop()
        assert time.monotonic() - started < 3
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Dispose")


def test_open_commands_come_with_each_ping_until_answered(platform: Platform) -> None:
    token, other = platform.login(), platform.login(client_id="b@2")
    platform.data("/App/Ping", {}, token)
    platform.data("/App/Ping", {}, other)
    platform.publish("demo", a="1")
    for _ in range(2):
        commands = platform.data("/App/Ping", {}, token)["commands"]
        assert len(commands) == 1
        assert list(commands[0]) == ["id", "command", "argument", "startTime", "expire", "traceId", "status"]
        assert commands[0]["startTime"] == "0001-01-01 00:00:00"
        assert commands[0]["expire"].endswith("0Z")
    answer = {"Id": commands[0]["id"], "Status": 2, "Data": "刷新配置成功"}
    assert platform.data("/App/CommandReply", answer, token) == 1
    assert platform.data("/App/Ping", {}, token)["commands"] is None
    assert len(platform.data("/App/Ping", {}, other)["commands"]) == 1  # one answer does not close it for others
    late = platform.login(client_id="c@3")
    assert platform.data("/App/Ping", {}, late)["commands"] is None  # it starts with the new values anyway


def test_a_disabled_application_loses_its_socket(platform: Platform) -> None:
    with notify(platform, platform.login()) as socket:
        wait_connected(platform)
        platform.admin("POST", "apps/demo", {"enabled": False})
        with pytest.raises(ConnectionClosed):
            socket.recv(5)


def test_a_rebound_name_gets_no_socket(platform: Platform) -> None:
    port = platform.server.services.port
    token = platform.login()
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(
            f"ws://evil.example:{port}/App/Notify?Token={token}", sock=create_connection(("127.0.0.1", port)), **DIRECT
        ),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_commands_expire(platform: Platform) -> None:
    token = platform.login()
    platform.publish("demo", a="1")
    platform.clock.advance(3601)
    assert platform.data("/App/Ping", {}, token)["commands"] is None


def test_an_answer_to_another_applications_command(platform: Platform) -> None:
    platform.login()
    platform.publish("demo", a="1")
    command = platform.server.store.commands.pending(1, "10.0.0.5@1")[0]
    reply = platform.post("/App/CommandReply", {"Id": command.id, "Status": 2}, platform.login("mallory"))
    assert reply.json()["code"] == 403
    assert platform.data("/App/CommandReply", {"Id": 999_999, "Status": 2}, platform.login()) == 0


def test_send_command_needs_the_right_and_waits_for_the_answer(platform: Platform) -> None:
    token, boss = platform.login(), platform.login("StarWeb")
    body = {"Code": "demo", "Command": "app/freeMemory", "Argument": "x", "Expire": 60, "Timeout": 5}
    refused = platform.post("/App/SendCommand", body, boss).json()
    assert (refused["code"], refused["message"]) == (401, "无权操作！")
    platform.admin("POST", "apps/StarWeb", {"allow_control": ["de*"]})
    assert platform.post("/App/SendCommand", {**body, "Code": "nobody"}, boss).json()["code"] == 500

    with notify(platform, token) as socket:
        wait_connected(platform)

        def answer() -> None:
            frame = json.loads(socket.recv(5))
            platform.data("/App/CommandReply", {"Id": frame["Id"], "Status": 2, "Data": frame["Argument"]}, token)

        thread = threading.Thread(target=answer)
        thread.start()
        assert platform.data("/App/SendCommand", body, boss) | {"id": 0} == {"id": 0, "status": 2, "data": "x"}
        thread.join()
        one = platform.data("/App/SendCommand", {**body, "Code": "demo@10.0.0.5@1", "Timeout": 0}, boss)
        assert (one["status"], one["data"]) == (0, None)  # queued and pushed, nobody waited
        assert json.loads(socket.recv(5))["Id"] == one["id"]


def test_send_command_without_an_answer(platform: Platform) -> None:  # protocol.md §12.1, 7: a real server says 500
    boss = platform.login("StarWeb")
    platform.admin("POST", "apps/StarWeb", {"allow_control": ["*"]})
    platform.login()
    body = {"Code": "demo", "Command": "no/such", "Timeout": 1}
    started = time.monotonic()
    assert platform.data("/App/SendCommand", body, boss)["status"] == 0
    assert 0.9 < time.monotonic() - started < 3


def test_sockets_that_come_and_go_leave_nothing(platform: Platform) -> None:
    token = platform.login()
    for _ in range(30):
        with notify(platform, token):
            pass
    deadline = time.monotonic() + 5
    while len(platform.server.services.hub) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(platform.server.services.hub) == 0


def test_registry(platform: Platform) -> None:  # protocol.md §7
    provider, consumer = platform.login("shop", "10.0.0.5@700"), platform.login("web", "10.0.0.6@1")
    body = {"ServiceName": "svc", "IP": "10.0.0.5", "Version": "1.0.0", "Tag": "blue,eu"}
    assert platform.data("/App/ResolveService", {"ServiceName": "svc"}, consumer) == []
    with notify(platform, consumer) as socket:
        wait_connected(platform)
        registered = platform.data("/App/RegisterService", {**body, "Address": "http://*:8000,http://h:9000"}, provider)
        assert registered["address"] == "http://10.0.0.5:8000,http://h:9000"
        frame = json.loads(socket.recv(5))
        assert frame["Command"] == "registry/register"
        assert json.loads(frame["Argument"]) == {
            "AppName": "shop",
            "ServiceName": "svc",
            "Address": registered["address"],
        }
        platform.data("/App/RegisterService", {**body, "Address": "http://*:8000,http://h:9000"}, provider)  # repeated
        assert platform.data("/App/ResolveService", {"ServiceName": "SVC", "Tag": "blue"}, consumer) == [registered]
        assert platform.data("/App/ResolveService", {"ServiceName": "svc", "Tag": "red"}, consumer) == []
        assert platform.data("/App/ResolveService", {"ServiceName": "svc", "MinVersion": "2"}, consumer) == []
        assert platform.data("/App/UnregisterService", {"ServiceName": "svc"}, provider)["serviceName"] == "svc"
        assert json.loads(socket.recv(5))["Command"] == "registry/unregister"  # the repetition was not told
    assert platform.data("/App/UnregisterService", {"ServiceName": "svc"}, provider) is None
    platform.data("/App/RegisterService", {**body, "Address": "http://+:1"}, provider)
    platform.clock.advance(301)
    assert platform.data("/App/ResolveService", {"ServiceName": "svc"}, consumer) == []  # silent for five minutes
