"""docs/checks-config.md: every case has a test, and every test that it names exists and says itself that it is about that case."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
DOCS = TESTS.parent / "docs"
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.*?) \|$", re.MULTILINE)
_MARK = re.compile(r"config\.md(?: §6)?,? ?(?:cases|case|nos\.|no\.)? ?(\d+(?:(?:, and |, | and )\d+)*)")


def documented() -> dict[int, set[str]]:
    """Names of tests by case."""
    rows = _ROW.findall((DOCS / "checks-config.md").read_text("utf-8"))
    found = {int(number): set(re.findall(r"`(test_\w+)`", tests)) for number, _, tests in rows}
    assert len(found) == len(rows), "a number twice"
    return found


def marked() -> dict[int, set[str]]:
    """Names of tests by the case that a comment in them names."""
    found: dict[int, set[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        source = file.read_text("utf-8")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                for numbers in _MARK.findall("\n".join(lines[node.lineno - 1 : node.end_lineno])):
                    for number in re.findall(r"\d+", numbers):
                        found.setdefault(int(number), set()).add(node.name)
    return found


def test_every_case_has_a_test_or_a_reason() -> None:
    rows = documented()
    assert sorted(rows) == list(range(1, 77))
    differently = (DOCS / "settings.md").read_text("utf-8").partition("## Judged differently")[2]
    without = [number for number, names in rows.items() if not names and f"(case {number})" not in differently]
    assert without == []


def test_what_is_named_is_marked_where_it_stands() -> None:
    marks = marked()
    wrong = {number: names - marks.get(number, set()) for number, names in documented().items()}
    assert {number: names for number, names in wrong.items() if names} == {}
