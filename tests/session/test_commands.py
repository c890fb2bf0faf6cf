"""Commands: each run once, each answered (protocol.md §2.8, §12.4)."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stardust_auto.errors import ApiError
from stardust_auto.process.context import current_span
from stardust_auto.session.commands import CommandRunner
from stardust_auto.wire.messages import Command, CommandReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from _kit.faulty_server import FaultyServer

    from stardust_auto.session.session import Session

NOW = 1_800_000_000_000


class Desk:
    """A runner whose clocks the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.replies: list[CommandReply] = []
        self.runner = CommandRunner(self.replies.append, lambda: NOW + int(self.now * 1000), lambda: self.now)

    def answers(self) -> list[tuple[int, int, str | None]]:
        return [(reply.id, reply.status, reply.data) for reply in self.replies]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_run_once_and_answered(desk: Desk) -> None:
    seen: list[str | None] = []
    desk.runner.register("say", lambda command: seen.append(command.argument))
    for _ in range(3):
        desk.runner.accept(Command(7, "Say", "hello"))
    assert seen == ["hello"]
    assert desk.answers() == [(7, 2, "")]
    desk.now += 3601  # an hour later the id may be another command's
    desk.runner.accept(Command(7, "say", "again"))
    assert seen == ["hello", "again"]


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        (lambda command: "text", (2, "text")),
        (lambda command: {"a": 1}, (2, '{"a": 1}')),
        (lambda command: None, (2, "")),
        (lambda command: {1, 2}, (2, '"{1, 2}"')),
        (lambda command: 1 / 0, (4, "ZeroDivisionError: division by zero")),
        (lambda command: (_ for _ in ()).throw(ApiError(400, "bad argument")), (3, "bad argument")),
        (lambda command: (_ for _ in ()).throw(ApiError(404, "no such thing")), (4, "no such thing")),
    ],
)
def test_results(desk: Desk, handler: Callable[[Command], object], answer: tuple[int, str]) -> None:
    desk.runner.register("do", handler)
    desk.runner.accept(Command(1, "do"))
    assert desk.answers() == [(1, *answer)]


def test_expired_and_unknown(desk: Desk) -> None:
    desk.runner.register("do", lambda command: "ran")
    desk.runner.accept(Command(1, "do", expire=NOW - 1))
    desk.runner.accept(Command(2, "no/such"))
    desk.runner.accept(Command(3, None))
    desk.runner.accept(Command(0, "do"))  # without an id: run, but there is nothing to answer to
    assert desk.answers() == [(1, 3, "expired"), (2, 4, "no handler for [no/such]"), (3, 4, "no handler for []")]


def test_a_start_in_the_future(desk: Desk) -> None:
    desk.runner.register("do", lambda command: command.argument)
    desk.runner.accept(Command(1, "do", "b", start_time=NOW + 20_000))
    desk.runner.accept(Command(2, "do", "a", start_time=NOW + 10_000))
    desk.runner.accept(Command(3, "do", "c", start_time=NOW + 10_000, expire=NOW + 11_000))
    assert desk.answers() == [(1, 1, "scheduled"), (2, 1, "scheduled"), (3, 1, "scheduled")]
    assert desk.runner.run_waiting() == 10
    desk.now = 15
    assert desk.runner.run_waiting() == 5
    desk.now = 21
    assert desk.runner.run_waiting() is None
    assert desk.answers()[3:] == [(2, 2, "a"), (3, 3, "expired"), (1, 2, "b")]


def test_memory_is_bounded(desk: Desk) -> None:
    desk.runner.register("do", lambda command: None)
    for number in range(1, 30_000):
        desk.runner.accept(Command(number, "do", start_time=NOW + 10**9))
    assert len(desk.runner._waiting) <= 1000
    assert len(desk.runner._seen) <= 20_000


def test_async_handler_without_a_loop(desk: Desk) -> None:
    async def handler(command: Command) -> str:
        await asyncio.sleep(0)
        return f"async {command.argument}"

    desk.runner.register("do", handler)
    desk.runner.accept(Command(1, "do", "x"))
    assert desk.answers() == [(1, 2, "async x")]


def test_whatever_can_be_awaited_is(desk: Desk) -> None:
    async def work(argument: str) -> str:
        await asyncio.sleep(0)
        return f"later {argument}"

    class Handler:
        async def __call__(self, command: Command) -> str:
            return await work("object")

    desk.runner.register("plain", lambda command: work("lambda"))
    desk.runner.register("object", Handler())
    desk.runner.accept(Command(1, "plain"))
    desk.runner.accept(Command(2, "object"))
    assert desk.answers() == [(1, 2, "later lambda"), (2, 2, "later object")]


def test_async_handler_runs_on_the_loop_that_registered_it(desk: Desk) -> None:
    async def main() -> list[Any]:
        threads: list[str] = []
        done = asyncio.Event()

        async def handler(command: Command) -> str:
            threads.append(threading.current_thread().name)
            done.set()
            return "ok"

        desk.runner.register("do", handler)
        worker = threading.Thread(target=desk.runner.accept, args=(Command(1, "do"),), name="background")
        worker.start()
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.to_thread(worker.join)
        return threads

    assert asyncio.run(main()) == ["MainThread"]
    assert desk.answers() == [(1, 2, "ok")]


def test_what_a_handler_does_can_be_traced(desk: Desk) -> None:
    from stardust_auto.process.context import suppressed

    seen: list[object] = []
    desk.runner.register("do", lambda command: seen.append(current_span.get()))
    with suppressed():  # as on the background thread
        desk.runner.accept(Command(1, "do"))
    assert seen == [None]


def test_commands_from_a_ping_are_run_and_answered(server: FaultyServer, new_session: Callable[..., Session]) -> None:
    # A pending command comes again with every Ping until it is answered, and to whichever instance pings (§2.5).
    pending = {"command": "my/cmd", "argument": "x", "startTime": "0001-01-01 00:00:00", "expire": None, "status": 0}
    server.commands = [{"id": 5, **pending}, {"id": 6, **pending, "command": "no/such"}, {"id": 5, **pending}]
    server.period = 1
    ran: list[str | None] = []
    session = new_session(server.url)
    session.register_command("my/cmd", lambda command: ran.append(command.argument) or "fine")
    session.start()
    server.wait_for("app/ping", 3)
    server.wait_for("app/commandreply", 2)
    assert ran == ["x"]
    assert [call.body for call in server.of("app/commandreply")] == [
        {"Id": 5, "Status": 2, "Data": "fine"},
        {"Id": 6, "Status": 4, "Data": "no handler for [no/such]"},
    ]


def test_an_answer_waits_for_the_server(server: FaultyServer, new_session: Callable[..., Session]) -> None:
    server.commands = [{"id": 5, "command": "app/freeMemory"}]
    server.answers["app/commandreply"] = lambda handler: handler.reply_bytes(b"", 503)
    session = new_session(server.url)
    session.start()
    server.wait_for("app/commandreply")
    del server.answers["app/commandreply"]
    assert server.wait_for("app/commandreply", 2, timeout=20).body["Status"] == 2
