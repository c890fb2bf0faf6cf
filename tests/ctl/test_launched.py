"""Which interpreter a command line starts: looked up as the system would, never run."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from stardust_auto.ctl.errors import UsageError
from stardust_auto.ctl.launched import examine, shebang, split_flags

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "flags", "script"),
    [
        (["app.py", "-I"], (), "app.py"),
        (["-I", "app.py"], ("-I",), "app.py"),
        (["-Es", "app.py"], ("-Es",), "app.py"),
        (["-W", "error", "app.py"], ("-W", "error"), "app.py"),
        (["-Werror", "-X", "dev", "app.py"], ("-Werror", "-X", "dev"), "app.py"),
        (["-IW", "error", "app.py"], ("-IW", "error"), "app.py"),
        (["-m", "http.server"], (), "http.server"),
        (["-Im", "http.server"], ("-I",), "http.server"),
        (["-mhttp.server"], (), "http.server"),
        (["-Sc", "import x"], ("-S",), "-c"),
        (["--check-hash-based-pycs", "always", "app.py"], ("--check-hash-based-pycs", "always"), "app.py"),
        ([], (), ""),
    ],
)
def test_options_of_the_interpreter(words: list[str], flags: tuple[str, ...], script: str) -> None:
    assert split_flags(words) == (flags, script)


def _script(folder: Path, text: str) -> str:
    path = folder / "tool"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#!/opt/py/bin/python3.11\n", ("/opt/py/bin/python3.11", ())),
        ("#!/opt/py/bin/python -I\n", ("/opt/py/bin/python", ("-I",))),
        (f"#!/usr/bin/env {os.path.basename(sys.executable)}\n", None),
        (f"#!/usr/bin/env -S {os.path.basename(sys.executable)} -E\n", None),
        ("#!/bin/sh\n'''exec' \"/a very/long/path/python3\" \"$0\" \"$@\"\n' '''\n", ("/a very/long/path/python3", ())),
        ("#!/bin/sh\necho hi\n", ("/bin/sh", ())),
        ("\x7fELF", (None, ())),
    ],
)
def test_interpreter_lines(
    tmp_path: Path, line: str, found: tuple[str | None, tuple[str, ...]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    path = _script(tmp_path, line)
    if found is None:
        flags = ("-E",) if "-E" in line else ()
        found = (os.path.join(os.path.dirname(sys.executable), os.path.basename(sys.executable)), flags)
    assert shebang(path) == found


def test_our_own_launcher_is_looked_through() -> None:
    found = examine(
        ["stardust-auto", "--app", "shop", "--server=http://127.0.0.1:1", "--", sys.executable, "-I", "app.py"]
    )
    assert found.interpreter == sys.executable
    assert found.flags == ("-I",)
    assert found.script == "app.py"
    assert found.variables == {"STARDUST_APP_ID": "shop", "STARDUST_SERVER": "http://127.0.0.1:1"}


def test_a_script_runs_its_interpreter(tmp_path: Path) -> None:
    path = _script(tmp_path, f"#!{sys.executable} -s\nprint(1)\n")
    found = examine([path])
    assert (found.interpreter, found.flags, found.script) == (sys.executable, ("-s",), path)


def test_what_is_no_python_is_said_to_be_none(tmp_path: Path) -> None:
    found = examine([_script(tmp_path, "#!/bin/sh\nexec python app.py\n")])
    assert found.interpreter is None
    assert found.starts == "/bin/sh"


@pytest.mark.parametrize(
    "command", [["no-such-command-anywhere"], ["stardust-auto"], ["stardust-auto", "--wrong", "x"]]
)
def test_what_cannot_be_started_is_one_line(command: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        examine(command)
    assert "\n" not in str(raised.value)
