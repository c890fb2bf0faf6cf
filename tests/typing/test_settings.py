"""Settings as type checkers see them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OK, WRONG = HERE / "settings_ok.py", HERE / "settings_wrong.py"
PLUGIN = (
    "[mypy]\nplugins = pydantic.mypy\nstrict = True\n[pydantic-mypy]\ninit_forbid_extra = True\ninit_typed = False\n"
)
PLAIN = "[mypy]\nstrict = True\n"
DEFAULT = "[mypy]\n"


def expected_errors(path: Path) -> set[int]:
    return {number for number, line in enumerate(path.read_text().splitlines(), 1) if "# error" in line}


def mypy(path: Path, configuration: str, tmp_path: Path) -> tuple[int, str]:
    file = tmp_path / "mypy.ini"
    file.write_text(configuration)
    command = [sys.executable, "-m", "mypy", "--config-file", str(file), "--follow-imports=silent"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), "--no-error-summary", "--hide-error-context", str(path)]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, env={**os.environ, "MYPYPATH": ""}
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.case("C73")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("configuration", [PLAIN, PLUGIN, DEFAULT], ids=["strict", "plugin", "default"])
def test_mypy_sees_the_types(configuration: str, tmp_path: Path) -> None:
    assert mypy(OK, configuration, tmp_path) == (0, "")


@pytest.mark.case("C73")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("configuration", [PLAIN, PLUGIN], ids=["strict", "plugin"])
def test_mypy_refuses_what_is_wrong(configuration: str, tmp_path: Path) -> None:
    code, output = mypy(WRONG, configuration, tmp_path)
    assert code == 1
    found = {int(number) for number in re.findall(r"settings_wrong\.py:(\d+): error", output)}
    assert found == expected_errors(WRONG), output


def pyright(path: Path, tmp_path: Path) -> list[tuple[int, str]]:
    project = tmp_path / "pyrightconfig.json"
    project.write_text(
        json.dumps(
            {
                "include": [str(path)],
                "typeCheckingMode": "strict",
                "pythonVersion": "3.10",
                "reportMissingTypeStubs": False,
                "reportUnusedExpression": False,
                "reportUnknownLambdaType": False,
                "reportUnknownMemberType": False,
                "reportUnknownVariableType": False,
                "extraPaths": [str(ROOT)],
            }
        )
    )
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--project",
        str(project),
        "--outputjson",
        "--pythonpath",
        sys.executable,
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    report = json.loads(result.stdout)
    return [
        (entry["range"]["start"]["line"] + 1, entry["message"])
        for entry in report["generalDiagnostics"]
        if entry["severity"] == "error"
    ]


@pytest.mark.case("C73")
@pytest.mark.timeout(300)
def test_pyright_sees_the_types(tmp_path: Path) -> None:
    assert pyright(OK, tmp_path) == []


@pytest.mark.case("C73")
@pytest.mark.timeout(300)
def test_pyright_refuses_what_is_wrong(tmp_path: Path) -> None:
    errors = pyright(WRONG, tmp_path)
    assert {line for line, _ in errors} == expected_errors(WRONG), errors
