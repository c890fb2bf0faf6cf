"""The guard finds what it is there for: a suite that leaks fails, one that does not passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET = "leak-4f1c9d2e77"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJTdGFyU2VydmVyIiwic3ViIjoi"

LEAKS = {
    "log": "import logging; logging.getLogger('stardust_auto').warning('%s', secret)",
    "traceback in the log": (
        "import logging\n    try:\n        raise ValueError(secret)\n    except ValueError:\n"
        "        logging.getLogger('stardust_auto').exception('x')"
    ),
    "stdout": "print(secret)",
    "stderr": "import sys; sys.stderr.write(token)",
    "subprocess": "import subprocess, sys; subprocess.run([sys.executable, '-c', f'print({secret!r})'], capture_output=True)",
    "exception": (
        "import pytest\n    from stardust_auto.errors import UnavailableError\n"
        "    with pytest.raises(UnavailableError):\n        raise UnavailableError(secret)"
    ),
    "file": "tmp_path.joinpath('open').write_text(token)",
}
HARMLESS = {
    "nothing": "print('fine')",
    "own file": "import os; tmp_path.joinpath('own').write_text(token); os.chmod(tmp_path / 'own', 0o600)",
    "other logger": "import logging; logging.getLogger('app').info('fine')",
    "mask": "print(repr(planted))",
}


def run(tmp_path: Path, statements: Iterable[str], *options: str) -> str:
    """A run of its own: its output without what it shows on purpose, and its exit code."""
    tests = "".join(
        f"def test_{number}(tmp_path):\n    planted = Secret(secret)\n    {code}\n\n"
        for number, code in enumerate(statements)
    )
    source = f"from stardust_auto.privacy import Secret\nsecret, token = {SECRET!r}, {TOKEN!r}\n\n{tests}"
    (tmp_path / "test_it.py").write_text(source)
    (tmp_path / "test_it.py").chmod(0o600)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "_kit.privacy_guard",
        "--rootdir",
        str(tmp_path),
        "test_it.py",
    ]
    command += ["--basetemp", str(tmp_path / "base"), *options]
    environ = {"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    with open(tmp_path / "output", "w+") as output:
        os.chmod(tmp_path / "output", 0o600)
        code = subprocess.call(command, cwd=tmp_path, env=environ, stdout=output, timeout=60)
        output.seek(0)
        return f"{output.read().replace(SECRET, '').replace(TOKEN, '')}\nexit {code}"


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_fails_the_run(tmp_path: Path, leak: str) -> None:
    text = run(tmp_path, [HARMLESS["nothing"], LEAKS[leak]])
    assert "secrets that show" in text
    assert "; 0 found" not in text
    assert text.endswith("exit 1")
    for left in (tmp_path / "base").rglob("open"):
        left.unlink()


def test_a_leak_in_a_worker_of_xdist_fails_the_run(tmp_path: Path) -> None:
    text = run(tmp_path, [HARMLESS["nothing"], LEAKS["log"], LEAKS["stdout"]], "-n", "2")
    assert "secrets that show" in text
    assert "; 0 found" not in text
    assert text.endswith("exit 1")


def test_a_run_without_leaks_passes(tmp_path: Path) -> None:
    text = run(tmp_path, HARMLESS.values())
    assert "; 0 found" in text
    assert text.endswith("exit 0")
