"""One real server for each test, on a clock that stands still until the test moves it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from _kit.server_platform import Clock, Platform

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock() -> Clock:
    """The server's clock: the present, standing still."""
    return Clock(time.time_ns() // 1_000_000)


@pytest.fixture
def platform(clock: Clock) -> Iterator[Platform]:
    """A fresh server."""
    with EmbeddedServer(clock=clock) as server:
        yield Platform(server, clock)
