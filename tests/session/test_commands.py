"""Commands: each run once, each answered (protocol.md §2.8, §12.4)."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from _kit.hand_clock import HandClock

from stardust_auto.errors import ApiError, UnavailableError
from stardust_auto.process.background import Worker
from stardust_auto.process.context import current_span
from stardust_auto.session.commands import Commands
from stardust_auto.wire.messages import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from _kit.faulty_server import FaultyServer

    from stardust_auto.session.session import Session
    from stardust_auto.transport.http import Request

NOW = 1_800_000_000_000


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = object.__repr__


class Desk:
    """Commands whose clock the test moves, and whose answers it keeps."""

    def __init__(self) -> None:
        self.clock = HandClock(wall=NOW / 1000)
        self.replies: list[dict[str, Any]] = []
        self.online = True
        self.commands = Commands(self, Worker(self.clock.monotonic), self.clock)  # type: ignore[arg-type]  # it stands for the connection
        self.commands.wake = lambda: None  # type: ignore[method-assign]  # the test drives it

    def now_ms(self) -> int:
        return int(self.clock.wall() * 1000)

    def call(self, request: Request) -> None:
        if not self.online:
            raise UnavailableError("away")
        assert request.path == "App/CommandReply"
        self.replies.append(json.loads(request.body or b""))

    def accept(self, *commands: Command) -> float | None:
        self.commands.accept(*commands)
        delay = self.commands.run()
        while delay == 0:
            delay = self.commands.run()
        return delay

    def answers(self) -> list[tuple[int, int, str | None]]:
        self.commands.run()
        return [(reply["Id"], reply["Status"], reply.get("Data")) for reply in self.replies]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_run_once_and_answered(desk: Desk) -> None:
    seen: list[str | None] = []
    desk.commands.register("say", lambda command: seen.append(command.argument))
    for _ in range(3):
        desk.accept(Command(7, "Say", "hello"))
    assert seen == ["hello"]
    assert desk.answers() == [(7, 2, "")]
    desk.clock.now += 3601  # an hour later the id may be another command's
    desk.accept(Command(7, "say", "again"))
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
    desk.commands.register("do", handler)
    desk.accept(Command(1, "do"))
    assert desk.answers() == [(1, *answer)]


def test_expired_and_unknown(desk: Desk) -> None:
    desk.commands.register("do", lambda command: "ran")
    desk.accept(Command(1, "do", expire=NOW - 1))
    desk.accept(Command(2, "no/such"))
    desk.accept(Command(3, None))
    desk.accept(Command(0, "do"))  # without an id: run, but there is nothing to answer to
    assert desk.answers() == [(1, 3, "expired"), (2, 4, "no handler for [no/such]"), (3, 4, "no handler for []")]


def test_a_start_in_the_future(desk: Desk) -> None:
    desk.commands.register("do", lambda command: command.argument)
    desk.accept(Command(1, "do", "b", start_time=NOW + 20_000))
    desk.accept(Command(2, "do", "a", start_time=NOW + 10_000))
    desk.accept(Command(3, "do", "c", start_time=NOW + 10_000, expire=NOW + 11_000))
    assert desk.answers() == [(1, 1, "scheduled"), (2, 1, "scheduled"), (3, 1, "scheduled")]
    assert desk.commands.run() == 10
    desk.clock.now += 15
    assert desk.commands.run() == 5
    desk.clock.now += 6
    assert desk.commands.run() is None
    assert desk.answers()[3:] == [(2, 2, "a"), (3, 3, "expired"), (1, 2, "b")]


def test_memory_is_bounded(desk: Desk) -> None:
    desk.commands.register("do", lambda command: None)
    for number in range(1, 30_000):
        desk.accept(Command(number, "do", start_time=NOW + 10**9))
    assert len(desk.commands._scheduled) <= 1000
    assert len(desk.commands._seen) <= 20_000


@pytest.mark.parametrize("count", [150, 10_000])
def test_whatever_is_run_is_answered(desk: Desk, count: int) -> None:
    ran: list[int] = []
    desk.commands.register("do", lambda command: ran.append(command.id))
    arrived = [Command(number, "do") for number in range(1, count + 1)]
    while len(ran) < count:  # what the inbox does not hold comes again with the next Ping
        desk.accept(*[command for command in arrived if command.id not in set(ran)])
    assert sorted(reply["Id"] for reply in desk.replies) == sorted(ran) == list(range(1, count + 1))


def test_nothing_more_is_run_while_answers_cannot_be_sent(desk: Desk) -> None:
    ran: list[int] = []
    desk.commands.register("do", lambda command: ran.append(command.id))
    desk.online = False
    desk.commands.accept(*[Command(number, "do") for number in range(1, 501)])
    for _ in range(20):
        desk.commands.run()
    assert len(ran) == 100
    desk.online = True
    desk.accept()
    assert len(ran) == len(desk.replies) == 500


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), Unprintable()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_that_raises_anything_is_answered_and_ends_nothing(
    server: FaultyServer, new_session: Callable[..., Session], error: BaseException, *, is_async: bool
) -> None:
    def handler(command: Command) -> object:
        if is_async:
            return later()
        raise error

    async def later() -> None:
        raise error

    server.period = 1
    server.commands = [{"id": 5, "command": "restart"}]
    session = new_session(server.url)
    session.commands.register("restart", handler)
    session.start()
    answer = server.wait_for("app/commandreply").body
    assert (answer["Id"], answer["Status"]) == (5, 4)
    assert answer["Data"].startswith(type(error).__name__)
    server.wait_for("app/ping", 3)  # the thread goes on
    assert session.worker.status.deaths == 0


def test_any_number_may_listen(desk: Desk) -> None:
    heard: list[str] = []

    def broken(command: Command) -> None:
        raise ValueError("mine alone")

    def second(command: Command) -> None:
        heard.append("second")

    for listener in (lambda command: heard.append("first"), broken, second, second):
        desk.commands.listen("Config/Publish", listener)
    desk.accept(Command(1, "config/publish"))
    desk.commands.register("config/publish", lambda command: "mine")
    desk.commands.unlisten("config/publish", second)
    desk.accept(Command(2, "config/publish"))
    assert heard == ["first", "second", "first"]
    assert desk.answers() == [(1, 2, "OK"), (2, 2, "mine")]


def test_async_handler_without_a_loop(desk: Desk) -> None:
    async def handler(command: Command) -> str:
        await asyncio.sleep(0)
        return f"async {command.argument}"

    desk.commands.register("do", handler)
    desk.accept(Command(1, "do", "x"))
    assert desk.answers() == [(1, 2, "async x")]


def test_whatever_can_be_awaited_is(desk: Desk) -> None:
    async def work(argument: str) -> str:
        await asyncio.sleep(0)
        return f"later {argument}"

    class Handler:
        async def __call__(self, command: Command) -> str:
            return await work("object")

    desk.commands.register("plain", lambda command: work("lambda"))
    desk.commands.register("object", Handler())
    desk.accept(Command(1, "plain"))
    desk.accept(Command(2, "object"))
    assert desk.answers() == [(1, 2, "later lambda"), (2, 2, "later object")]


def test_async_handler_runs_on_the_loop_that_registered_it(desk: Desk) -> None:
    async def main() -> list[Any]:
        threads: list[str] = []
        done = asyncio.Event()

        async def handler(command: Command) -> str:
            threads.append(threading.current_thread().name)
            done.set()
            return "ok"

        desk.commands.register("do", handler)
        worker = threading.Thread(target=desk.accept, args=(Command(1, "do"),), name="background")
        worker.start()
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.to_thread(worker.join)
        return threads

    assert asyncio.run(main()) == ["MainThread"]
    assert desk.answers() == [(1, 2, "ok")]


def test_what_a_handler_does_can_be_traced(desk: Desk) -> None:
    from stardust_auto.process.context import suppressed

    seen: list[object] = []
    desk.commands.register("do", lambda command: seen.append(current_span.get()))
    with suppressed():  # as on the background thread
        desk.accept(Command(1, "do"))
    assert seen == [None]


def test_commands_from_a_ping_are_run_and_answered(server: FaultyServer, new_session: Callable[..., Session]) -> None:
    # A pending command comes again with every Ping until it is answered, and to whichever instance pings (§2.5).
    pending = {"command": "my/cmd", "argument": "x", "startTime": "0001-01-01 00:00:00", "expire": None, "status": 0}
    server.commands = [{"id": 5, **pending}, {"id": 6, **pending, "command": "no/such"}, {"id": 5, **pending}]
    server.period = 1
    ran: list[str | None] = []
    session = new_session(server.url)

    def note(command: Command) -> str:
        ran.append(command.argument)
        return "fine"

    session.commands.register("my/cmd", note)
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
