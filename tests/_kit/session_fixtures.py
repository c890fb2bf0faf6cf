"""A healthy server that can be told to misbehave, and sessions that are stopped whatever a test does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _kit.faulty_server import FaultyServer
from stardust_auto.environment.identity import Identity
from stardust_auto.process.background import Worker
from stardust_auto.process.clock import SYSTEM_CLOCK, Clock
from stardust_auto.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


@pytest.fixture
def new_session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(servers: str, app_id: str = "demo", secret: str | None = None, **options: object) -> Session:
        options.setdefault("cache_dir", str(tmp_path / "cache"))
        options.setdefault("push", False)
        clock: Clock = options.pop("clock", SYSTEM_CLOCK)  # type: ignore[assignment]  # as given
        session = Session(Identity(servers, app_id, secret, **options), worker=Worker(), clock=clock)  # type: ignore[arg-type]  # as given
        made.append(session)
        return session

    yield make
    for session in made:
        session.stop(2.0)
