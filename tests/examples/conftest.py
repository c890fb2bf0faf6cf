"""The examples as a newcomer starts them: real processes, a server of their own in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from _kit.examples import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("STARDUST_", "STARSERVER", "SHOP_", "HELLO_", "NOTES_"))
    }
    environ |= {"XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path), "COLUMNS": "120"}
    folder = tmp_path / "work"
    folder.mkdir()
    yield Place(folder, environ)
    described = folder / ".stardust" / "server.json"
    if described.exists():
        os.kill(json.loads(described.read_text())["pid"], signal.SIGTERM)
