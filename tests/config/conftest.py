"""Shared parts of the settings tests: a clean environment, and nothing left running."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest
from _kit.config_center import ScriptedCenter

from stardust_auto.config.remote.clients import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.upper().startswith(("STARDUST_", "STAR", "SHOP_", "PYDANTIC_SETTINGS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / "cache"))
    yield
    CLIENTS.stop_all()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The lines of the package's logger, from INFO on."""
    caplog.set_level(logging.INFO, logger="stardust_auto")
    return caplog


@pytest.fixture
def center() -> Iterator[ScriptedCenter]:
    server = ScriptedCenter()
    yield server
    server.stop()
