"""The agent's own errors as events: told once, few, without secrets, whoever reads the log (protocol.md §2.7)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from _kit.hand_clock import HandClock

from stardust_auto.log import tell
from stardust_auto.privacy import Secret
from stardust_auto.session.log_events import INTERVAL_SECONDS, LIMIT, ErrorEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from _kit.faulty_server import FaultyServer

    from stardust_auto.session.session import Session

    NewSession = Callable[..., Session]

logger = logging.getLogger("stardust_auto")
instrumentation = logging.getLogger("stardust_auto.instrumentation")


def events(server: FaultyServer, name: str = "") -> list[dict[str, Any]]:
    return [event for call in server.of("app/postevents") for event in call.body if event["Type"] == "error"]


class Broken:
    name = "broken"

    def run(self) -> float | None:
        raise ZeroDivisionError("hush-hush-word is in here\nand a second line")

    def finish(self, deadline: float) -> None:
        """Nothing."""


def test_an_error_of_ours_arrives_with_the_start_and_the_stop(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url, secret="hush-hush-word")
    session.start()
    server.wait_for("app/postevents")
    session.add_task(Broken())
    server.wait_for("app/postevents", 2)
    instrumentation.warning("integration %s failed %d times and is now off: %s", "redis", 5, "x")
    server.wait_for("app/postevents", 3)
    session.stop()
    assert [(event["Name"], event["Remark"]) for event in events(server)] == [
        ("stardust_auto.process.background", "broken failed: ZeroDivisionError: *** is in here and a second line"),
        ("stardust_auto.instrumentation", "integration redis failed 5 times and is now off: x"),
    ]
    assert [
        event["Name"] for call in server.of("app/postevents") for event in call.body if event["Type"] == "info"
    ] == [
        "start",
        "stop",
    ]
    assert not any(isinstance(handler, ErrorEvents) for handler in logger.handlers)


def test_a_flood_is_few_events_and_small_calls(server: FaultyServer, new_session: NewSession) -> None:
    session = new_session(server.url)
    session.start()
    server.wait_for("app/postevents")
    for number in range(3000):
        logger.warning("the same %d", number)
    for number in range(3000):
        logger.error(f"another {number}")
    session.stop()
    assert len(events(server)) == LIMIT
    assert max(len(call.body) for call in server.of("app/postevents")) <= 100


def test_told_again_after_an_hour() -> None:
    clock = HandClock()
    told: list[tuple[str, ...]] = []
    handler = ErrorEvents(lambda *event: told.append(event), lambda: (Secret("number"),), clock)
    record = logger.makeRecord("stardust_auto", logging.WARNING, "x.py", 0, "text %d", ("no number",), None)
    assert [handler.handle(record), handler.handle(record)] == [True, False]
    clock.now += INTERVAL_SECONDS + 1
    assert handler.handle(record)
    record.levelno = logging.INFO
    assert not handler.handle(record)
    assert told == [("error", "stardust_auto", "text %d")] * 2


def test_what_the_connection_says_of_itself_is_no_event(server: FaultyServer, new_session: NewSession) -> None:
    server.answers["app/ping"] = lambda handler: handler.reply(None, 500, "later")
    session = new_session(server.url)
    session.start()
    server.wait_for("app/ping", 1)
    del server.answers["app/ping"]
    server.wait_for("app/postevents", timeout=20)
    session.stop()
    assert events(server) == []


def test_a_line_for_those_without_logging_stays_on_stderr(
    server: FaultyServer, new_session: NewSession, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest's own handlers read the root logger, so it is taken off for once."""
    monkeypatch.setattr(logger, "parent", None)
    session = new_session(server.url)
    session.start()
    server.wait_for("app/postevents")
    tell(instrumentation, logging.WARNING, "update refused: %s", "pool")
    server.wait_for("app/postevents", 2)
    session.stop()
    assert [event["Remark"] for event in events(server)] == ["update refused: pool"]
    assert capfd.readouterr().err == "update refused: pool\n"
