"""docs/sdk.md, run as it is written."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sdk.md"


def test_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("STARDUST_SERVER", raising=False)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    with EmbeddedServer() as server:
        names: dict[str, Any] = {"SERVER": server.url}
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
        deadline = time.monotonic() + 10
        while ":8001" not in "".join(map(str, names["consumer"].resolve("stock-api"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        asyncio.run(names["main"]())
        names["consumer"].stop()
        names["provider"].stop()
    assert "8001" in capsys.readouterr().out


def test_the_chinese_twin_has_the_same_code_sections_and_rows() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (PAGE, PAGE.parent / "zh" / PAGE.name)]
    blocks = [re.findall(r"```python\n.*?```", text, re.DOTALL) for text in texts]
    assert blocks[1] == blocks[0]
    for mark in ("\n## ", "\n| ", "\n1. ", "\n5. "):
        assert texts[1].count(mark) == texts[0].count(mark), mark
