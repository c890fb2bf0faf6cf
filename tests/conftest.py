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
    for name, known in logging.root.manager.loggerDict.items():
        # A library under test may have configured logging, which switches off every logger that is there already.
        if name.startswith("stardust_auto") and isinstance(known, logging.Logger):
            known.disabled = False
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
