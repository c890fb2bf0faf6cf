"""The short selection of ``tools/upstream.py``: CPython's own sqlite3 and wsgiref tests do the same under ``stardust-auto``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "upstream.py"


@pytest.mark.parametrize("suite", ["cpython-sqlite3", "cpython-wsgiref"])
def test_no_test_of_cpython_can_tell(suite, tmp_path):  # design: promise 1
    done = subprocess.run(
        [sys.executable, str(TOOL), suite, "--work", str(tmp_path), "--timeout", "120"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differ under stardust-auto" in done.stdout or "comes without its tests" in done.stdout
