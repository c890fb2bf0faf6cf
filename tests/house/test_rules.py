"""What this project asks of its own source: sizes, reasons, and no citation without a target."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "stardust_auto").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [*SOURCES, *TESTS, *sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "tools").glob("*.py"))]

#: The lists of edge cases, and the ids that each of them defines.
EDGE_CASES = {
    "edge-cases-process.md": "LX",
    "edge-cases-libraries.md": "IRSDW",
    "edge-cases-settings.md": "C",
}
_PAGE = re.compile(r"(?<![\w/.-])((?:\.\./)*(?:[\w-]+/)*[\w-]+(?:\.zh-CN)?\.md)\b")
_SECTION = re.compile(r"\bprotocol\.md §(\d+(?:\.\d+)?)")


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _at(path: Path, position: int) -> str:
    return f"{path.relative_to(ROOT)}:{_text(path).count(chr(10), 0, position) + 1}"


def test_a_module_over_400_lines_says_why() -> None:
    silent = [
        f"{path.relative_to(ROOT)} ({_text(path).count(chr(10))})"
        for path in SOURCES
        if _text(path).count("\n") > 400 and "400 lines" not in (ast.get_docstring(ast.parse(_text(path))) or "")
    ]
    assert silent == []


def test_every_exception_to_a_rule_has_its_code_and_its_reason() -> None:
    bare = []
    for path in SOURCES:
        for match in re.finditer(r"#\s*(noqa|type:\s*ignore)([^\n]*)", _text(path)):
            rest = match[2]
            if not re.match(r"(: ?[A-Z]+\d+(, ?[A-Z]+\d+)*|\[[\w, -]+\])\s+(-|#)\s+\S", rest):
                bare.append(f"{_at(path, match.start())}: {match[0]}")
    assert bare == []


def test_the_library_never_prints_and_swallows_nothing() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(_text(path))):
            if "ctl" not in path.parts and isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: print")
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(inner, ast.Pass) for inner in node.body):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: except ...: pass")
    assert found == []


def test_every_page_that_is_cited_exists() -> None:
    missing = []
    for path in [*CODE, *PAGES]:
        for match in _PAGE.finditer(_text(path)):
            name = match[1]
            places = (path.parent / name, ROOT / name, ROOT / "docs" / name)
            elsewhere = "/" in name.removeprefix("../").removeprefix("../").removeprefix("docs/").removeprefix("zh/")
            if not elsewhere and not any(place.exists() for place in places):
                missing.append(f"{_at(path, match.start())}: {name}")
    assert missing == []


def test_every_file_and_folder_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`((?:[\w.]+/)+[\w.]*)`", _text(ROOT / "docs" / "architecture.md"))
    assert len(named) > 20
    missing = [
        name
        for name in named
        if not any((base / end).exists() for base in (ROOT, ROOT / "stardust_auto") for end in (name, f"{name}.py"))
    ]
    assert missing == []


def test_every_section_of_the_protocol_that_is_cited_exists() -> None:
    headings = set(re.findall(r"^#+ §?(\d+(?:\.\d+)?)\b", _text(ROOT / "docs" / "protocol.md"), re.MULTILINE))
    missing = [
        f"{_at(path, match.start())}: §{match[1]}"
        for path in [*CODE, *PAGES]
        for match in _SECTION.finditer(_text(path))
        if match[1] not in headings
    ]
    assert missing == []


def _edge_cases() -> dict[str, str]:
    """The reason why there is no test, by id; empty where there must be one."""
    found: dict[str, str] = {}
    for page, letters in EDGE_CASES.items():
        for row in re.findall(rf"^\|\s*([{letters}]\d+\s*\|.*)\|$", _text(ROOT / "docs" / page), re.MULTILINE):
            number, *_, reason = (cell.strip() for cell in row.split("|"))
            assert number not in found, f"{number} stands twice"
            found[number] = reason
    return found


def _marked() -> dict[str, list[str]]:
    """Names of the tests that ``@pytest.mark.case`` binds to each id."""
    found: dict[str, list[str]] = {}
    for path in TESTS:
        for node in ast.walk(ast.parse(_text(path))):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.case":
                    for argument in mark.args:
                        assert isinstance(argument, ast.Constant), f"{path}: {node.name}"
                        found.setdefault(str(argument.value), []).append(node.name)
    return found


def test_every_edge_case_that_a_test_names_is_listed() -> None:
    assert sorted(set(_marked()) - set(_edge_cases())) == []


@pytest.mark.parametrize("page", EDGE_CASES)
def test_every_edge_case_has_a_test_or_a_reason(page: str) -> None:
    marked = _marked()
    letters = EDGE_CASES[page]
    without = [
        number
        for number, reason in _edge_cases().items()
        if number[0] in letters and number not in marked and not reason
    ]
    assert without == []


def _imports() -> dict[str, set[str]]:
    """Every module of the package and the modules of the package that it imports: for types and inside functions, too."""
    modules = {}
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        modules[name.removesuffix(".__init__")] = path
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(_text(path))):
            if isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {one if one in modules else node.module for one in full}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
        found[name] = (found[name] & modules.keys()) - {name}
    return found


def test_no_module_reaches_itself_by_imports() -> None:
    left = _imports()
    while free := {name for name, wanted in left.items() if not wanted & left.keys()}:
        left = {name: wanted for name, wanted in left.items() if name not in free}
    # What remains is in a circle or above one: drop what nobody in a circle needs.
    while unused := left.keys() - {one for wanted in left.values() for one in wanted}:
        left = {name: wanted for name, wanted in left.items() if name not in unused}
    assert sorted(left) == []
