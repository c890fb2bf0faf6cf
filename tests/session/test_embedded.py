"""The client against the embedded server: what only two real sides can show."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from stardust_auto.environment.identity import Identity
from stardust_auto.errors import ApiError
from stardust_auto.export.collector import Collector
from stardust_auto.export.stardust import StardustExporter
from stardust_auto.server import EmbeddedServer
from stardust_auto.session.session import Session
from stardust_auto.tracing.builder import SpanBuilder, TracePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    NewSession = Callable[..., Session]


@pytest.fixture
def platform() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


def admin(platform: EmbeddedServer, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {platform.key}"}
    answer = requests.request(method, f"{platform.url}/console/api/{path}", json=body, headers=headers, timeout=10)
    assert answer.ok, answer.text
    return answer.json()


def test_a_publish_reaches_the_program_within_a_second(platform: EmbeddedServer, new_session: NewSession) -> None:
    published = threading.Event()
    session = new_session(platform.url, push=True)
    session.commands.register("config/publish", lambda command: published.set())
    session.start()
    deadline = time.monotonic() + 10
    while not session.status.push:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    admin(platform, "PUT", "config/demo", {"scope": "", "items": {"a": "1"}})
    started = time.monotonic()
    assert admin(platform, "POST", "config/demo/publish", {})["pushed"] == 1
    assert published.wait(5)
    assert time.monotonic() - started < 1


def test_a_wrong_secret_is_refused_and_the_issued_one_works(
    platform: EmbeddedServer, new_session: NewSession, tmp_path: Any
) -> None:
    new_session(platform.url).call("App/Ping", {})  # registers the application; the issued secret is kept
    with pytest.raises(ApiError):
        new_session(platform.url, secret="wrong", cache_dir=str(tmp_path / "other")).call("App/Ping", {})
    new_session(platform.url, secret="wrong").call("App/Ping", {})


def test_a_report_whose_answer_is_lost_counts_once(platform: EmbeddedServer, new_session: NewSession) -> None:
    ready: list[SpanBuilder] = []

    class Source:
        period = 60

        def take(self) -> Sequence[SpanBuilder]:
            taken = ready[:]
            ready.clear()
            return taken

        def apply(self, policy: TracePolicy) -> None:
            return

    def count(total: int) -> None:
        builder = SpanBuilder("op")
        builder.total, builder.cost_ns, builder.max_ns, builder.min_ns = total, 10**9, 10**9, 10**9
        ready.append(builder)

    session = new_session(platform.url)
    reporter = Collector(Source(), session.worker)
    exporter = StardustExporter(session, reporter.apply)
    reporter.add(exporter)
    count(1)
    assert reporter.flush(5)
    send = session.connection._send

    def lose_the_answer(*arguments: Any, **options: Any) -> Any:
        from stardust_auto.errors import UnavailableError

        send(*arguments, **options)
        raise UnavailableError("no answer in time", may_have_arrived=True)

    session.connection._send = lose_the_answer  # type: ignore[method-assign]  # the server has it, we do not know
    count(10)
    assert not reporter.flush(5)
    session.connection._send = send  # type: ignore[method-assign]  # as it was
    assert reporter.flush(5)
    assert exporter.counts.reported == 11
    (operation,) = admin(platform, "GET", "apps/demo/operations?minutes=60")
    assert (operation["name"], operation["total"]) == ("op", 11)


def test_instances_that_log_in_at_once_share_what_the_first_is_given(tmp_path: Path) -> None:
    # §2.2 step 6: the first login registers the application; without the secret that is issued then, the next is refused
    with EmbeddedServer() as server:
        gate = threading.Barrier(8)

        def log_in(number: int) -> str:
            session = Session(
                Identity(server.url, "new", client_id=f"instance-{number}", cache_dir=str(tmp_path), push=False)
            )
            gate.wait(30)
            session.call("App/Ping", {"Id": number})
            return session.state

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(log_in, range(8))) == {"online"}
