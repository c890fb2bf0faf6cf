"""``.env`` of the working directory: read once, for the agent alone, weaker than the environment and stronger than the platform's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stardust_auto.environment import dotenv, settings
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.errors import EnvironmentVariableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write the file of the working directory, as a new process finds it."""
    for name in [name for name in os.environ if name.upper().startswith(("STARDUST", "STARS"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "_from_file", None)

    def put(text: str) -> Path:
        file = tmp_path / ".env"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return file

    return put


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("STARDUST_X=a b", "a b"),
        ("export STARDUST_X=a", "a"),
        ("  STARDUST_X = a  # why", "a"),
        ("STARDUST_X=http://h/#a", "http://h/#a"),
        ("STARDUST_X='a # b' # why", "a # b"),
        (r"STARDUST_X='it\'s ${UNSET_HERE}'", "it's "),
        (r'STARDUST_X="a\n\"b\" # c"', 'a\n"b" # c'),
        ("STARDUST_X=", ""),
        ("STARDUST_X=a\nSTARDUST_X=b", "b"),
        ("HOST=h\nSTARDUST_X=http://${HOST}:${PORT_UNSET:-6600}", "http://h:6600"),
        ("# STARDUST_X=no\nSTARDUST_X=yes", "yes"),
        ("STARDUST_X=a\r\n", "a"),
        ("OTHER='two\nlines'\nSTARDUST_X=a", "a"),
    ],
)
def test_a_line_is_read_as_python_dotenv_reads_it(text: str, value: str) -> None:
    assert dotenv.parse(text) == {"STARDUST_X": value}
    from_dotenv = pytest.importorskip("dotenv")
    from io import StringIO

    assert from_dotenv.dotenv_values(stream=StringIO(text))["STARDUST_X"] == value


def test_arguments_beat_the_environment_that_beats_the_file_that_beats_those_of_the_platform(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        "STARDUST_SERVER=http://file\nSTARDUST_APP_ID=file\nSTARDUST_SCOPE=file\nSTARDUST_INSTRUMENT_REDIS=off"
    )
    file.with_name("appsettings.json").write_text(json.dumps({"StarServer": "http://platform", "StarSecret": "s3cret"}))
    file.with_name("appsettings.json").chmod(0o600)
    file.with_name("Star.config").write_text("<Star><Secret>s3cret</Secret></Star>")
    file.with_name("Star.config").chmod(0o600)
    monkeypatch.setenv("STARDUST_APP_ID", "environment")
    monkeypatch.setenv("STARDUST_SCOPE", "environment")
    found = AgentSettings.from_environ(scope="argument")
    assert (found.servers, found.app_id, found.scope, found.secret) == (
        ("http://file",),
        "environment",
        "argument",
        "s3cret",
    )
    assert found.sources["servers"] == ".env: STARDUST_SERVER"
    assert not found.instrumented("redis")
    monkeypatch.setenv("STARDUST_INSTRUMENT_REDIS", "on")
    assert AgentSettings.from_environ().instrumented("redis")


def test_the_name_of_the_platform_in_the_environment_beats_the_file(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("STARDUST_SERVER=http://file")
    monkeypatch.setenv("StarServer", "http://environment")
    assert AgentSettings.from_environ().servers == ("http://environment",)


def test_it_is_read_once_and_the_environment_stays_as_it_is(write: Callable[[str], Path]) -> None:
    file = write("STARDUST_SERVER=http://one\nDATABASE_PASSWORD=hunter2\nSTARDUST_AUTO=1")
    before = dict(os.environ)
    found = AgentSettings.from_environ()
    assert dict(os.environ) == before
    assert not found.auto  # asked before any file is read
    assert "hunter2" not in repr(dotenv.read())
    file.write_text("STARDUST_SERVER=http://two")
    assert AgentSettings.from_environ().servers == ("http://one",)


def test_an_environment_that_is_handed_in_stands_alone(write: Callable[[str], Path]) -> None:
    write("STARDUST_SERVER=http://file")
    assert AgentSettings.from_environ({}).servers == ()


def test_a_value_that_cannot_be_used_names_the_file(write: Callable[[str], Path]) -> None:
    write("STARDUST_PERIOD=soon")
    with pytest.raises(
        EnvironmentVariableError, match=r"^\.env: STARDUST_PERIOD='soon' cannot be used: a whole number"
    ):
        AgentSettings.from_environ()


def test_a_file_that_others_may_write_is_not_used_and_said_so(write: Callable[[str], Path]) -> None:
    write("STARDUST_SERVER=http://file").chmod(0o666)
    found = AgentSettings.from_environ()
    assert found.servers == ()
    assert found.problems == (".env in the working directory is not used: every user may write to it",)


@pytest.mark.parametrize(
    ("text", "active"),
    [
        ("STARDUST_SERVER=http://127.0.0.1:9", True),
        ("STARDUST_SERVER=http://127.0.0.1:9\nSTARDUST_ENABLED=off", False),
        ("DATABASE_URL=sqlite://", False),
    ],
)
def test_it_activates_a_program(write: Callable[[str], Path], text: str, active: bool) -> None:
    file = write(text)
    code = "import os; from stardust_auto import activate; print(activate(), 'STARDUST_SERVER' in os.environ)"
    done = subprocess.run([sys.executable, "-c", code], cwd=file.parent, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{active} False\n", "")


@pytest.mark.parametrize(
    "text", ["STARDUST_X='" * 5000, "STARDUST_X" + " " * 60_000, "=" * 60_000, '"\\' * 30_000, "A=#" * 20_000]
)
def test_no_file_is_slow_to_read(text: str) -> None:
    import time

    started = time.process_time()
    dotenv.parse(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("auto", "servers"), [("", "()"), ("1", "('http://127.0.0.1:9',)")])
def test_the_file_of_a_developer_does_not_count_in_a_test_run(
    write: Callable[[str], Path], auto: str, servers: str
) -> None:
    file = write("STARDUST_SERVER=http://127.0.0.1:9")
    file.with_name("test_it.py").write_text(
        "from stardust_auto.environment.settings import AgentSettings\n"
        f"def test_it():\n    assert str(AgentSettings.from_environ().servers) == {servers!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=file.parent,
        env={**os.environ, "STARDUST_AUTO": auto},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
