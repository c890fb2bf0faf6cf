"""``doctor``, ``install`` and ``uninstall``, on real interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from _kit.ctl import Result

    from stardust_auto.server import EmbeddedServer


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of the tests may be busy."""
    monkeypatch.setattr("stardust_auto.ctl.doctor.LIMIT_SECONDS", 60.0)


def _topics(result: Result) -> dict[str, tuple[str, str]]:
    return {finding["topic"]: (finding["grade"], finding["text"]) for finding in result.json["findings"]}


def test_a_healthy_program(shop: Callable[..., Result], server: EmbeddedServer) -> None:
    result = shop("doctor", "--json", "--", sys.executable, "app.py")
    assert result.code == 0, result.out
    found = _topics(result)
    assert found["activation"] == ("ok", "active when started by stardust-auto")
    assert found["server"][0] == "ok"
    assert found["login"] == ("ok", "'shop' is not known yet: its first login registers it")
    assert server.store.apps.all() == []  # it examined and changed nothing
    assert found["clock"][0] == "ok"
    states = {row["library"]: row["state"] for row in result.json["libraries"]}
    assert {name: states[name] for name in ("requests", "sqlite3", "redis", "wsgiref.handlers")} == dict.fromkeys(
        ("requests", "sqlite3", "redis", "wsgiref.handlers"), "hooked"
    )
    assert all(row["version"] for row in result.json["libraries"] if row["state"] == "hooked")
    text = shop("doctor")
    assert text.code == 0
    assert text.out.endswith("no problem\n")


def test_settings_with_their_source_and_without_their_secrets(
    shop: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("starsecret", "planted-secret")
    monkeypatch.setenv("STARDUST_INSTRUMENT_REDIS", "0")
    result = shop("doctor", "--json", "--", "stardust-auto", "--app", "till", sys.executable, "app.py")
    rows = {row["setting"]: (row["value"], row["source"]) for row in result.json["settings"]}
    assert rows["STARDUST_APP_ID"] == ("till", "stardust-auto option")
    assert rows["STARDUST_SECRET"] == ("***", "environment, starsecret")
    assert rows["STARDUST_SERVER"][1] == "environment, STARDUST_SERVER"
    states = {row["library"]: row["state"] for row in result.json["libraries"]}
    assert (states["redis"], states["requests"]) == ("off", "hooked")
    assert "planted" not in result.out + shop("doctor").out


@pytest.mark.case("L10")
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["-I"], "-I and -E hide PYTHONPATH from the launcher: run 'stardustctl install'"),
        (["-E"], "-I and -E hide PYTHONPATH from the launcher: run 'stardustctl install'"),
        (["-S"], "nothing can activate the agent"),
    ],
)
def test_flags_that_keep_the_agent_out(ctl: Callable[..., Result], flags: list[str], text: str) -> None:
    result = ctl("doctor", "--json", "--", sys.executable, *flags, "app.py")
    assert result.code == 1
    found = _topics(result)
    assert any(text in entry[1] for entry in found.values() if entry[0] == "bad")


def test_an_interpreter_without_us(ctl: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    result = ctl("doctor", "--json", "--", str(tmp_path / "bare" / "bin" / "python"), "app.py")
    assert result.code == 1
    assert "stardust_auto is not installed there" in _topics(result)["agent"][1]


def test_a_bad_value_a_dead_server_and_a_switch(ctl: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_PERIOD", "often")
    found = _topics(ctl("doctor", "--json", "--app", "shop", "--server", "http://127.0.0.1:9"))
    assert found["STARDUST_PERIOD"][0] == "bad"
    monkeypatch.delenv("STARDUST_PERIOD")
    monkeypatch.setenv("STARDUST_ENABLED", "0")
    found = _topics(ctl("doctor", "--json", "--app", "shop", "--server", "http://127.0.0.1:9"))
    assert found["server"] == ("bad", "http://127.0.0.1:9 does not answer (connection refused); from --server")
    assert found["login"][0] == "skip"
    assert "STARDUST_ENABLED is off" in found["activation"][1]


def test_no_server_is_a_problem_and_no_python_a_warning(ctl: Callable[..., Result], tmp_path: Path) -> None:
    script = tmp_path / "start"
    script.write_text("#!/bin/sh\nexec python app.py\n")
    script.chmod(0o755)
    result = ctl("doctor", "--json", "--", str(script))
    assert result.code == 1
    found = _topics(result)
    assert found["command"][0] == "warn"
    assert found["server"][0] == "bad"


@pytest.mark.parametrize(("option", "told"), [("--master", True), ("--enable-threads", False)])
def test_threads_of_uwsgi(shop: Callable[..., Result], option: str, told: bool) -> None:
    uwsgi = str(Path(sys.executable).with_name("uwsgi"))
    found = _topics(shop("doctor", "--json", "--", uwsgi, option, "--wsgi-file", "app.py"))
    assert ("--enable-threads" in found.get("uwsgi", ("", ""))[1]) == told


def test_a_command_that_is_not_there(ctl: Callable[..., Result]) -> None:
    result = ctl("doctor", "--", "no-such-command-anywhere")
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


def test_install_makes_programs_active_without_a_launcher(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = str(tmp_path / "env" / "bin" / "python")
    site = Path(
        subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip()
    )
    here = [
        path for path in sys.path if (path and Path(path, "typer").is_dir()) or Path(path, "stardust_auto").is_dir()
    ]
    (site / "ours.pth").write_text("\n".join(here) + "\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STARDUST_", "PYTHONPATH"))}

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *words], env=environ | more, capture_output=True, text=True, timeout=60, check=False
        )

    question = "from stardust_auto.agent import active_options; print(active_options() is not None)"
    on = {"STARDUST_AUTO": "1", "STARDUST_SERVER": "http://127.0.0.1:9"}
    assert run("-c", question, **on).stdout == "False\n"
    installed = run("-m", "stardust_auto.ctl", "install", "--json")
    assert installed.returncode == 0, installed.stderr
    assert json.loads(installed.stdout)[0]["action"] == "written"
    assert run("-I", "-c", question, **on).stdout == "True\n"
    assert run("-I", "-c", question, STARDUST_SERVER="http://127.0.0.1:9").stdout == "False\n"
    assert "unchanged" in run("-m", "stardust_auto.ctl", "install").stdout
    assert "removed" in run("-m", "stardust_auto.ctl", "uninstall").stdout
    assert "nothing to remove" in run("-m", "stardust_auto.ctl", "uninstall").stdout
    assert run("-I", "-c", question, **on).stdout == "False\n"


def test_a_missing_extra_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')\n")
    done = subprocess.run(
        [sys.executable, "-m", "stardust_auto.ctl", "apps"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr
        == "stardustctl: the module 'typer' is missing; install it with: pip install 'stardust-auto[local]' "
        "(without it there are: install, uninstall, doctor)\n"
    )
