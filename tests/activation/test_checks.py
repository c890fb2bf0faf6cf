"""docs/checks-process.md: every check of start, life and end has a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
DOC = TESTS.parent / "docs" / "checks-process.md"
#: Number, what must be so, and where that is tested.
ROW = re.compile(r"^\| ([LX]\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_every_check_has_a_meaning_and_a_test() -> None:
    rows = ROW.findall(DOC.read_text("utf-8"))
    assert [number for number, _, _ in rows] == [f"L{n}" for n in range(1, 27)] + [f"X{n}" for n in range(1, 25)]
    assert [number for number, _, tests in rows if "`test_" not in tests] == []


def test_every_test_that_is_named_exists() -> None:
    files = {file.name: file.read_text("utf-8") for file in TESTS.rglob("test_*.py")}
    gone = []
    for number, _, tests in ROW.findall(DOC.read_text("utf-8")):
        for file, names in re.findall(r"(test_\w+\.py): ((?:`test_\w+`(?:, )?)+)", tests):
            gone += [
                f"{number}: {file}: {name}"
                for name in re.findall(r"`(test_\w+)`", names)
                if f"def {name}(" not in files.get(file, "")
            ]
    assert gone == []


def test_what_is_read_differently_is_explained() -> None:
    explained = (DOC.parent / "transparency.md").read_text("utf-8")
    differently = [
        number for number, meaning, _ in ROW.findall(DOC.read_text("utf-8")) if "read differently" in meaning
    ]
    assert [number for number in differently if f"**{number}, " not in explained] == []
