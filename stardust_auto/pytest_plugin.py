"""Fixtures for pytest, there as soon as the package is installed. Nothing heavy is imported before a test asks for one of them.

* ``stardust_config``: a configuration center in memory; every ``live`` handle and ``Settings()`` reads it. No network, no thread.
* ``stardust_capture``: what the test's own calls leave in the traces.
* ``stardust_server``: a whole Stardust server in this process.

``STARDUST_*`` variables of a ``.env`` file do not count in a test run, unless ``STARDUST_AUTO`` is on.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stardust_auto.config.live.offline import OfflineCenter
    from stardust_auto.server import EmbeddedServer
    from stardust_auto.testing import Captured


def _keep_from_rewriting() -> None:
    """pytest rewrites all modules of a distribution that brings a plugin. In an activated process those would be the agent's, in a thread
    of its own: ``ast.parse`` there can disturb one of the program's (SystemError: AST constructor recursion depth mismatch).
    """
    for finder in sys.meta_path:
        marked = getattr(finder, "_must_rewrite", None)
        if isinstance(marked, set) and "stardust_auto" in marked:
            marked.discard("stardust_auto")
            getattr(finder, "_marked_for_rewrite_cache", {}).clear()


def _leave_dotenv_out() -> None:
    """The ``.env`` of a developer must not make the tests of a program talk to a platform, unless the run itself is to be traced."""
    if os.environ.get("STARDUST_AUTO", "").strip().lower() in ("", "0", "false", "no", "off"):
        from stardust_auto.environment import settings

        settings.ignore_dotenv()


_keep_from_rewriting()
_leave_dotenv_out()


@pytest.fixture
def stardust_config() -> Iterator[OfflineCenter]:
    """:func:`stardust_auto.testing.offline` around the test."""
    from stardust_auto.testing import offline

    with offline() as center:
        yield center


@pytest.fixture
def stardust_capture() -> Iterator[Captured]:
    """:func:`stardust_auto.testing.capture` around the test."""
    from stardust_auto.testing import capture

    with capture() as captured:
        yield captured


@pytest.fixture
def stardust_server() -> Iterator[EmbeddedServer]:
    """:func:`stardust_auto.testing.memory_server` around the test."""
    from stardust_auto.testing import memory_server

    with memory_server() as server:
        yield server
