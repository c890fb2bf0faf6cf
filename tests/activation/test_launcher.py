"""The launcher: what it starts cannot tell that it was there."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from _kit.activation_kit import LAUNCHER, PROBE, Run

from stardust_auto import __version__
from stardust_auto.activation import launcher, marks

REPORT = """
import json, os, sys
print(json.dumps({"argv": sys.argv, "pid": os.getpid(), "cwd": os.getcwd(), "path": sys.path, "stdin": sys.stdin.read(),
                  "secret": os.environ.get("STARDUST_SECRET"), "orig": sys.orig_argv}))
sys.exit(7)
"""


@pytest.mark.case("L1", "L2", "L3")
def test_arguments_pid_stdin_directory_and_exit_code_stay(launch: Run, run: Run, python: str, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(REPORT)
    arguments = [python, "app.py", "a", "", "-x", "--server", "ü *"]
    plain = run(arguments, stdin="text")
    traced = launch(arguments, stdin="text")
    assert (plain.returncode, plain.stderr) == (traced.returncode, traced.stderr) == (7, "")
    before, after = json.loads(plain.stdout), json.loads(traced.stdout)
    assert after["path"] == [before["path"][0], marks.SITE, *before["path"][1:]]
    for same in ("argv", "cwd", "stdin", "orig"):
        assert after[same] == before[same]


@pytest.mark.case("L1")
def test_the_launcher_becomes_the_program(clean: dict[str, str], refusing: str, python: str) -> None:
    # one process, one pid
    child = subprocess.Popen(
        [LAUNCHER, "--server", refusing, python, "-c", "import os; print(os.getpid())"],
        env=clean,
        stdout=subprocess.PIPE,
    )
    out, _ = child.communicate(timeout=30)
    assert int(out) == child.pid


@pytest.mark.case("L1")
def test_argv0_is_as_typed(launch: Run, python: str, tmp_path: Path) -> None:
    folder = Path(python).parent
    done = launch(
        [Path(python).name, "-c", "import sys; print(sys.orig_argv[0])"], env={"PATH": f"{folder}:{os.environ['PATH']}"}
    )
    assert done.stdout.strip() == Path(python).name


@pytest.mark.case("L3", "L4")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", marks.SITE),  # no empty entry
        ("/a:/b:/a", f"{marks.SITE}:/a:/b:/a"),  # order and duplicates
        (f"/a:{marks.SITE}:/b", f"{marks.SITE}:/a:/b"),  # launcher in launcher
        (marks.SITE, marks.SITE),
        (":/a", f"{marks.SITE}::/a"),  # an empty entry of the user's own is the user's
    ],
)
def test_pythonpath(before: str, after: str) -> None:
    assert launcher.with_site(before) == after


@pytest.mark.case("L4")
def test_nested_launchers_lose_nothing(run: Run, refusing: str, python: str, tmp_path: Path) -> None:
    done = run(
        [
            LAUNCHER,
            "--server",
            refusing,
            LAUNCHER,
            "--app",
            "inner",
            python,
            "-c",
            "import os; print(os.environ['PYTHONPATH'])",
        ],
        env={"PYTHONPATH": f"{tmp_path}:/x:{tmp_path}"},
    )
    assert done.stdout.strip() == f"{marks.SITE}:{tmp_path}:/x:{tmp_path}"
    assert done.stderr == ""


def test_options_become_variables_and_the_secret_is_on_no_command_line(run: Run, python: str) -> None:
    code = (
        "import os, json; names = ['SERVER', 'APP_ID', 'SECRET', 'SCOPE', 'LOG_LEVEL', 'AUTO'];"
        "print(json.dumps([os.environ['STARDUST_' + name] for name in names]));"
        "print(open('/proc/self/cmdline').read().split('\\0')[:2])"
    )
    done = run(
        [
            LAUNCHER,
            "--server=http://h:1",
            "--app",
            "shop",
            "--secret=s3",
            "--scope",
            "dev",
            "--debug",
            "--",
            python,
            "-c",
            code,
        ]
    )
    values, command = done.stdout.splitlines()
    assert json.loads(values) == ["http://h:1", "shop", "s3", "dev", "debug", "1"]
    assert command == str([python, "-c"])


def test_two_dashes_end_the_options(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "--summary"
    odd.write_text("#!/bin/sh\necho odd\n")
    odd.chmod(0o755)
    done = run([LAUNCHER, "--", "--summary"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (done.stdout, done.returncode) == ("odd\n", 0)


@pytest.mark.case("L12")
def test_unknown_command(run: Run) -> None:
    done = run([LAUNCHER, "no-such-command", "x"])
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "stardust-auto: command not found: no-such-command\n"


@pytest.mark.case("L12")
def test_not_executable(run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    for command in (str(plain), str(tmp_path), "./plain.txt"):
        done = run([LAUNCHER, command])
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (126, "", 1)
        assert command in done.stderr
        assert "Traceback" not in done.stderr


def test_not_executable_on_the_path_is_passed_over(run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for folder, mode in ((first, stat.S_IRUSR), (second, stat.S_IRWXU)):
        folder.mkdir()
        (folder / "tool").write_text("#!/bin/sh\necho found\n")
        (folder / "tool").chmod(mode)
    assert run([LAUNCHER, "tool"], env={"PATH": f"{first}:{second}"}).stdout == "found\n"
    assert run([LAUNCHER, "tool"], env={"PATH": str(first)}).returncode == 126


def test_a_script_without_an_interpreter_line_is_run_by_sh(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text('echo "$1" ran\n')
    script.chmod(0o755)
    assert run([LAUNCHER, "./tool", "it"]).stdout == "it ran\n"


def test_an_interpreter_line_that_leads_nowhere(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    done = run([LAUNCHER, "--server", "http://127.0.0.1:9", "./tool"])
    assert (done.returncode, done.stderr.count("\n")) == (126, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "usage: stardust-auto"),
        (["--bogus", "true"], 2, "unknown option --bogus"),
        (["--server"], 2, "--server needs a value"),
        (["--server", "--", "true"], 2, "--server needs a value"),
        (["--local", "--server", "http://h:1", "true"], 2, "exclude each other"),
        ([""], 127, "empty"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], code: int, text: str) -> None:
    done = run([LAUNCHER, *arguments])
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr


def test_help_and_version(run: Run) -> None:
    assert run([LAUNCHER, "--help"]).stdout == launcher.USAGE
    assert run([LAUNCHER, "--version"]).stdout.startswith(
        f"stardust-auto {__version__} (Python {sys.version.split()[0]}"
    )


def test_a_signal_of_the_program_is_its_own(launch: Run, python: str) -> None:
    done = launch([python, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert done.returncode == -signal.SIGKILL


@pytest.mark.case("L14")
def test_a_command_that_is_not_python(launch: Run) -> None:
    done = launch(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


@pytest.mark.case("L24")
def test_closed_standard_streams(run: Run, refusing: str, python: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import sqlite3; open('done', 'w').write(str(sqlite3.connect(':memory:').execute('select 1').fetchone()))"
    )
    done = run(["/bin/sh", "-c", f"exec {LAUNCHER} --server {refusing} {python} app.py >&- 2>&- <&-"])
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").read_text() == "(1,)"


@pytest.mark.case("L24")
def test_no_home_and_a_folder_that_cannot_be_written(run: Run, refusing: str, python: str) -> None:
    code = "import sqlite3; print(sqlite3.connect(':memory:').execute('select 1').fetchone())"
    done = run(
        [LAUNCHER, "--server", refusing, python, "-c", code],
        env={"HOME": None, "XDG_CACHE_HOME": "/proc/nowhere", "STARDUST_CACHE_DIR": "/proc/nowhere"},
        cwd=Path("/"),
    )
    assert (done.stdout, done.stderr, done.returncode) == ("(1,)\n", "", 0)


@pytest.mark.case("L8", "L25")
@pytest.mark.parametrize("form", ["-m pkg", "-m pkg.tool", "-c", "-", "zip", "folder", "script"])
def test_every_way_to_name_a_program(launch: Run, python: str, tmp_path: Path, form: str) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "tool.py"):
        (package / name).write_text(PROBE if name != "__init__.py" else "")
    (tmp_path / "app.py").write_text(PROBE)
    subprocess.run([python, "-m", "zipapp", str(package), "-o", str(tmp_path / "app.pyz")], check=True)
    arguments = {
        "-m pkg": ["-m", "pkg"],
        "-m pkg.tool": ["-m", "pkg.tool"],
        "-c": ["-c", PROBE],
        "-": ["-"],
        "zip": ["app.pyz"],
        "folder": ["pkg"],
        "script": ["app.py"],
    }[form]
    done = launch([python, *arguments], stdin=PROBE)
    assert (done.stdout, done.stderr) == ("active\n", "")


def test_local_without_the_extra_says_how_to_get_it(run: Run, python: str, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['starlette'] = None\n"
        "from stardust_auto.activation.launcher import main\nsys.exit(main(['--local', 'true']))"
    )
    done = run([python, "-c", code])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'stardust-auto[local]'" in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-I", "-c"], "-I and -E hide PYTHONPATH"),
        (["-sE", "-W", "ignore", "-c"], "-I and -E hide PYTHONPATH"),
        (["-S", "-c"], "with -S Python reads no start-up file"),
        (["-W", "S", "-c"], ""),
        (["-X", "dev", "-u", "-c"], ""),
    ],
)
def test_a_python_that_hides_the_agent_is_said(
    launch: Run, run: Run, python: str, options: list[str], reason: str
) -> None:
    command = [python, *options, "print('ran')"]
    plain, traced = run(command), launch(command)
    assert (traced.stdout, traced.returncode) == (plain.stdout, 0)
    assert traced.stderr.removeprefix(plain.stderr).count("\n") == bool(reason)
    assert reason in traced.stderr


def test_no_server_is_one_line_and_switched_off_is_none(run: Run, python: str) -> None:
    command = [LAUNCHER, python, "-c", "print('ran')"]
    line = "stardust-auto: not active: no server is known: give --server URL, set STARDUST_SERVER, or use --local\n"
    done = run(command)
    assert (done.stdout, done.stderr) == ("ran\n", line)
    assert run(command, env={"STARDUST_SERVER": "  "}).stderr == line
    assert run(command, env={"STARDUST_ENABLED": "0"}).stderr == ""
    assert run(command, env={"StarServer": "http://127.0.0.1:9"}).stderr == ""


def test_a_python_of_another_environment_is_said(launch: Run, foreign: str, tmp_path: Path) -> None:
    done = launch([foreign, "-c", "print('ran')"])
    assert done.stdout == "ran\n"
    assert f"not active: {foreign} belongs to another environment" in done.stderr
    script = tmp_path / "tool"
    script.write_text(f"#!{foreign}\nprint('ran')\n")
    script.chmod(0o755)
    assert f"not active: {foreign} belongs to another environment" in launch([str(script)]).stderr


def test_a_program_that_is_no_python_is_run_without_a_word(launch: Run) -> None:
    assert launch(["echo", "-I"]).stderr == ""


def test_as_a_module_it_is_the_same_command(run: Run, python: str) -> None:
    version = f"stardust-auto {__version__} "
    assert run([python, "-m", "stardust_auto", "--version"]).stdout.startswith(version)
    done = run([python, "-m", "stardust_auto", "--server", "http://127.0.0.1:9", python, "-c", PROBE])
    assert (done.stdout, done.stderr) == ("active\n", "")
