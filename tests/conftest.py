"""For every test: secrets stay secret (``_kit/privacy_guard.py``), and a log that one test set up is no other test's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["_kit.privacy_guard"]


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("stardust_auto")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
