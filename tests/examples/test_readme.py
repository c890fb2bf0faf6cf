"""The READMEs say what the code does, and both say the same."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from stardust_auto.ctl.app import app, config
from stardust_auto.ctl.target import KEY_VARIABLE
from stardust_auto.environment.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
BOTH = pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])


@BOTH
def test_every_variable_is_in_the_table_and_no_other(text: str) -> None:
    rows = re.findall(r"^\| (`STARDUST_.*?) \|", text, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert listed == {variable.name for variable in VARIABLES} | {KEY_VARIABLE}
    assert "`STARDUST_INSTRUMENT_<NAME>`" in text


@BOTH
def test_every_command_exists_and_every_command_is_named(text: str) -> None:
    known = {str(command.name) for group in (app, config) for command in group.registered_commands} | {"config", "apps"}
    block = text[text.index("\n## stardustctl") :]
    block = block[: block.index("\n## ", 5)]
    used = set(re.findall(r"stardustctl (?:config )?([a-z]+)", text))
    used |= set(re.findall(r"\| ([a-z]+)(?= |$)", block))
    assert used <= known
    assert {name for name in known if name not in text} == set()


def _code(text: str, language: str) -> list[list[str]]:
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [[line.partition(" #")[0].rstrip() for line in block.splitlines()] for block in blocks]


def test_both_show_the_same_commands_and_output() -> None:
    assert _code(ENGLISH, "bash") == _code(CHINESE, "bash")
    assert _code(ENGLISH, "text") == _code(CHINESE, "text")
    headings = [len(re.findall(r"^## ", text, re.MULTILINE)) for text in (ENGLISH, CHINESE)]
    assert headings[0] == headings[1]


@BOTH
def test_python_blocks_run(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "readme_settings.py").write_text(blocks[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SHOP_DATABASE__POOL", "9")
    monkeypatch.delenv("STARDUST_SERVER", raising=False)
    module = importlib.import_module("readme_settings")
    try:
        assert module.config.current.database.pool == 9
    finally:
        del sys.modules["readme_settings"]
    compile(blocks[1], "README", "exec")


@pytest.mark.parametrize(
    "name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/shop/README.md"]
)
def test_links_lead_to_files(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []
