"""docs/settings.md, run from top to bottom: Python blocks, the stardustctl lines, and what they print."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stardust_auto.server import EmbeddedServer

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "settings.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[int, str, str]]:
    """Line number, language and content of each block."""
    return [(text[: match.start()].count("\n") + 1, match[1], match[2]) for match in _BLOCK.finditer(text)]


def run_console(script: str, server: EmbeddedServer, folder: Path) -> None:
    for line in script.splitlines():
        command = shlex.split(line, comments=True)
        assert command[0] == "stardustctl", line
        result = subprocess.run(
            [sys.executable, "-m", "stardust_auto.ctl", *command[1:]],
            env={**os.environ, "STARDUST_ADMIN_KEY": server.key},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # The guide shows what a refused value does. Under load the instance may answer after the wait, which is no failure.
        refused = " refused it, keeps version " in result.stdout
        assert result.returncode == int(refused), result.stdout + result.stderr
        assert not refused or "exit code 1" in line


@pytest.mark.timeout(180)
def test_the_guide_runs_as_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    twelve_factor, change = [text for _, language, text in blocks(DOCUMENT.read_text("utf-8")) if language == "python"][
        :2
    ]
    program = twelve_factor.partition("os.environ")[0] + change.partition("\nconfig = ")[0]
    (tmp_path / "shop_settings.py").write_text(program, "utf-8")
    for name in ("SHOP_DATABASE__HOST", "SHOP_API_KEY", "SHOP_DATABASE__POOL"):
        monkeypatch.setenv(name, "")  # so that what the guide sets is undone
        monkeypatch.delenv(name)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        monkeypatch.setenv("STARDUST_SERVER", server.url)
        monkeypatch.setenv("STARDUST_APP_ID", "shop")
        namespace: dict[str, Any] = {"__name__": "guide"}
        out = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        for number, language, content in blocks(DOCUMENT.read_text(encoding="utf-8")):
            where = f"{DOCUMENT.name}:{number}"
            if language == "python":
                code = compile("\n" * number + content, str(DOCUMENT), "exec", dont_inherit=True)
                exec(code, namespace)
            elif language == "text":  # all that was printed since the last such block
                assert out.getvalue() == content, where
                out.seek(0)
                out.truncate()
            elif language == "bash":
                run_console(content, server, tmp_path)
            else:
                assert language == "console", where
        assert out.getvalue() == ""


def test_the_chinese_twin_has_the_same_blocks_and_sections() -> None:
    texts = [DOCUMENT.read_text(encoding="utf-8"), (DOCUMENT.parent / "zh" / DOCUMENT.name).read_text(encoding="utf-8")]
    english, chinese = ([block[1:] for block in blocks(text)] for text in texts)
    assert chinese == english
    assert len({text.count("\n## ") for text in texts}) == 1
    assert len({text.count("\n| ") for text in texts}) == 1
