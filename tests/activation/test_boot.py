"""Activation of an interpreter: quick, silent where there is nothing to do, and the user's sitecustomize intact."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _kit.activation_kit import LAUNCHER, PROBE, Run

from stardust_auto.activation import boot, marks

#: What the launcher says of a program in which the agent cannot be active.
INACTIVE = "stardust-auto: not active: "
CUSTOM = "import sys; sys.custom = getattr(sys, 'custom', 0) + 1; name = __name__; place = __file__"


@pytest.mark.case("L5")
def test_the_users_sitecustomize_runs_once_and_is_the_module(
    launch: Run, run: Run, python: str, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text(CUSTOM)
    code = (
        "import sys, sitecustomize as s; print(sys.custom, s.name, s.place, s is sys.modules['sitecustomize'])" + PROBE
    )
    env = {"PYTHONPATH": str(tmp_path / "own")}
    plain = run([python, "-c", code], env=env)
    traced = launch([python, "-c", code], env=env)
    assert traced.stdout.splitlines()[:-1] == plain.stdout.splitlines()[:-1]
    assert traced.stdout.splitlines()[-1] == "active"
    assert traced.stderr == ""


@pytest.mark.case("L5", "L23")
def test_the_next_sitecustomize_of_a_chain_runs_as_without_us(launch: Run, python: str, tmp_path: Path) -> None:
    # only the first one on the path is run, as always
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(f"print({name!r})")
    done = launch([python, "-c", "pass"], env={"PYTHONPATH": f"{tmp_path / 'one'}:{tmp_path / 'two'}"})
    assert (done.stdout, done.stderr) == ("one\n", "")


@pytest.mark.case("L6")
@pytest.mark.parametrize("text", ["raise ValueError('broken')", "import no_such_module", "1 +", "raise SystemExit(9)"])
def test_a_broken_sitecustomize_is_as_broken_as_without_us(
    launch: Run, run: Run, python: str, tmp_path: Path, text: str
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text(text)
    plain = run([python, "-c", PROBE], env={"PYTHONPATH": str(tmp_path / "own")})
    # The launcher is a Python program too: to its own start the folder must not be known.
    traced = launch(["/bin/sh", "-c", f'PYTHONPATH="$PYTHONPATH:{tmp_path}/own" exec "$0" -c "$1"', python, PROBE])
    if "SystemExit" in text:  # ends the interpreter in the middle of its start; the traceback shows our frames too
        assert traced.returncode == plain.returncode
        return
    assert (traced.stderr, traced.returncode) == (plain.stderr, plain.returncode)
    assert traced.stdout == "active\n"


@pytest.mark.case("L5")
def test_no_sitecustomize_is_no_sitecustomize(launch: Run, run: Run, python: str) -> None:
    code = (
        "import sys; print('sitecustomize' in sys.modules)\n"
        "try: import sitecustomize\nexcept ImportError as error: print(type(error), error, error.name)"
    )
    plain = run([python, "-c", code])
    traced = launch([python, "-c", code])
    assert (traced.stdout, traced.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.case("L7")
def test_usercustomize_is_untouched(run: Run, refusing: str, tmp_path: Path) -> None:
    # a virtual environment has no user folder, so the interpreter below it is asked
    base = os.path.realpath(sys.executable)
    home = tmp_path / "user"
    folder = subprocess.run(
        [base, "-m", "site", "--user-site"],
        env={**os.environ, "PYTHONUSERBASE": str(home)},
        capture_output=True,
        text=True,
    ).stdout.strip()
    Path(folder).mkdir(parents=True)
    Path(folder, "usercustomize.py").write_text("import sys; print('user', 'usercustomize' in sys.modules)")
    env = {"PYTHONUSERBASE": str(home)}
    plain = run([base, "-c", "pass"], env=env)
    traced = run([LAUNCHER, "--server", refusing, base, "-c", "pass"], env=env)
    assert (traced.stdout, plain.stderr) == (plain.stdout, "")
    assert plain.stdout == "user True\n"
    assert traced.stderr.startswith(INACTIVE)


@pytest.mark.case("L10", "L11")
@pytest.mark.parametrize("flags", [["-S"], ["-I"], ["-E"]])
def test_flags_that_ignore_pythonpath_are_said_by_the_launcher_alone(
    launch: Run, run: Run, python: str, flags: list[str]
) -> None:
    plain = run([python, *flags, "-c", PROBE])
    traced = launch([python, *flags, "-c", PROBE])
    assert (traced.stdout, traced.returncode) == (plain.stdout, 0)
    assert (plain.stderr, traced.stdout, traced.stderr.count("\n")) == ("", "absent\n", 1)
    assert traced.stderr.startswith(INACTIVE)


@pytest.mark.case("L19", "L26")
@pytest.mark.parametrize(
    "flags",
    [
        ["-s"],
        ["-O"],
        ["-OO"],
        ["-bb"],
        ["-W", "error"],
        ["-X", "dev", "-W", "error"],
        ["-P"] if sys.version_info >= (3, 11) else ["-u"],
    ],
)
def test_flags_that_leave_us_active_raise_no_warning(launch: Run, python: str, flags: list[str]) -> None:
    done = launch([python, *flags, "-c", "import sqlite3; sqlite3.connect(':memory:').close()" + PROBE])
    assert (done.stdout, done.stderr) == ("active\n", "")


def _other_pythons() -> list[str]:
    found = {sys.version_info[:2]: sys.executable}
    for folder in os.environ.get("PATH", "").split(":"):
        for path in sorted(glob.glob(f"{folder}/python3.[0-9]*")):
            minor = path.rpartition(".")[2]
            if minor.isdigit():
                found.setdefault((3, int(minor)), path)
    return [path for version, path in sorted(found.items()) if version != sys.version_info[:2]]


@pytest.mark.case("L13", "L16")
def test_a_child_of_another_environment_is_left_alone(launch: Run, run: Run, foreign: str) -> None:
    plain = run([foreign, "-c", PROBE])
    traced = launch([foreign, "-c", PROBE])
    assert (traced.stdout, traced.returncode) == (plain.stdout, 0) == ("absent\n", 0)
    assert (plain.stderr, traced.stderr.count("\n")) == ("", 1)
    assert traced.stderr.startswith(INACTIVE)


@pytest.mark.case("L5", "L13")
def test_a_child_of_another_environment_keeps_its_sitecustomize(launch: Run, foreign: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own')")
    done = launch([foreign, "-c", PROBE], env={"PYTHONPATH": str(tmp_path / "own")})
    assert done.stdout == "own\nabsent\n"
    assert done.stderr.startswith(INACTIVE)
    assert done.stderr.count("\n") == 1


@pytest.mark.case("L13")
def test_every_other_python_of_this_machine_is_left_alone(launch: Run, run: Run) -> None:
    for other in _other_pythons():
        plain = run([other, "-c", PROBE])
        traced = launch([other, "-c", PROBE])
        assert (traced.stdout, traced.stderr, traced.returncode) == (plain.stdout, plain.stderr, plain.returncode), (
            other
        )


@pytest.mark.case("L13", "L16")
def test_a_foreign_child_of_a_traced_parent(launch: Run, python: str, foreign: str) -> None:
    code = f"import subprocess, sys; sys.exit(subprocess.run([{foreign!r}, '-c', {PROBE!r}]).returncode)"
    done = launch([python, "-c", code])
    assert (done.stdout, done.stderr, done.returncode) == ("absent\n", "", 0)


def test_an_interpreter_of_the_same_prefix_by_another_path(launch: Run, python: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sys.prefix)
    done = launch([str(link / "bin" / Path(python).name), "-c", PROBE])
    assert (done.stdout, done.stderr) == ("active\n", "")


def test_children_are_active_too(launch: Run, python: str) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PROBE!r}])"
    assert launch([python, "-c", code]).stdout == "active\n"


@pytest.mark.case("L18")
def test_a_child_with_an_empty_environment(launch: Run, run: Run, python: str) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PROBE!r}], env={{}})"
    done = launch([python, "-c", code])
    assert (done.stdout, done.stderr) == ("absent\n", "")


@pytest.mark.case("L15")
@pytest.mark.parametrize(
    "env",
    [
        {"STARDUST_ENABLED": "0", "STARDUST_SERVER": "http://127.0.0.1:9"},
        {"STARDUST_ENABLED": "Off", "STARDUST_SERVER": "http://127.0.0.1:9"},
        {"STARDUST_ENABLED": "0", "STARDUST_SERVER": "http://127.0.0.1:9", "STARDUST_PERIOD": "abc"},
        {},
        {"STARDUST_SERVER": "  "},
    ],
)
def test_switched_off_or_not_configured(run: Run, python: str, env: dict[str, str]) -> None:
    # at most 5 modules more than plain Python
    code = "import sys; print(*sorted(sys.modules))"
    plain = run([python, "-c", code])
    idle = run([LAUNCHER, python, "-c", code], env=env)
    assert idle.stderr.count("\n") == ("STARDUST_ENABLED" not in env)  # without a server the launcher says so
    assert len(set(idle.stdout.split()) - set(plain.stdout.split())) <= 6


def test_configured_is_a_handful_of_modules(launch: Run, run: Run, python: str) -> None:
    code = "import sys; print(*sorted(sys.modules))"
    more = set(launch([python, "-c", code]).stdout.split()) - set(run([python, "-c", code]).stdout.split())
    assert all(name == "__future__" or name.startswith("stardust_auto") for name in more), more
    assert len(more) <= 13


@pytest.mark.parametrize(
    ("env", "shown", "hidden"),
    [
        ({"STARDUST_PERIOD": "soon"}, ["STARDUST_PERIOD", "'soon'", "86400"], []),
        ({"STARDUST_SERVER": "127.0.0.1:6600"}, ["STARDUST_SERVER", "127.0.0.1:6600", "scheme"], []),
        ({"STARDUST_SERVER": "ftp://user:pw@h"}, ["STARDUST_SERVER", "scheme"], ["pw"]),
        ({"STARDUST_TRACE_ENABLED": "maybe"}, ["STARDUST_TRACE_ENABLED", "'maybe'", "true"], []),
        ({"STARDUST_ENABLED": "maybe"}, ["STARDUST_ENABLED", "'maybe'", "true"], []),
        ({"StarServer": "nonsense"}, ["StarServer", "nonsense"], []),
    ],
)
def test_an_unusable_variable_is_one_line_and_the_program_runs(
    run: Run, python: str, env: dict[str, str], shown: list[str], hidden: list[str]
) -> None:
    done = run(
        [LAUNCHER, python, "-c", PROBE],
        env={"STARDUST_SERVER": "http://127.0.0.1:9", **env} if "StarServer" not in env else env,
    )
    assert (done.stdout, done.returncode) == ("absent\n", 0)
    assert done.stderr.startswith("stardust-auto: ")
    assert done.stderr.count("\n") == 1
    assert all(text in done.stderr for text in shown), done.stderr
    assert not any(text in done.stderr for text in hidden), done.stderr


def test_the_platforms_own_names_configure_too(run: Run, python: str) -> None:
    assert run([LAUNCHER, python, "-c", PROBE], env={"starserver": "http://127.0.0.1:9"}).stdout == "active\n"


def test_no_target_no_cost(launch: Run, python: str) -> None:
    """A program that imports nothing we trace gets no thread, no socket, no wrapt and no agent."""
    code = (
        "import sys, os, threading, json\n"
        "names = {'wrapt', 'socket', 'logging', 'stardust_auto.sdk.client'}\n"
        "print(json.dumps([threading.active_count(), sorted(names & set(sys.modules))]))"
    )
    assert json.loads(launch([python, "-c", code]).stdout) == [1, []]


def test_activate_twice_is_once(launch: Run, python: str) -> None:
    # sitecustomize executed several times
    code = (
        "import sys, importlib\nfrom stardust_auto import activate\nbefore = list(sys.meta_path)\n"
        "print(activate(), sys.meta_path == before)\n"
        "try: import sitecustomize\nexcept ImportError: pass\n"
        "print(sys.meta_path == before)"
    )
    assert launch([python, "-c", code]).stdout.split() == ["True", "True", "True"]


def test_the_site_folder_holds_one_module() -> None:
    assert [name for name in os.listdir(marks.SITE) if name != "__pycache__"] == ["sitecustomize.py"]


def test_an_integration_of_another_distribution_needs_none_of_our_own_targets(
    launch: Run, python: str, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    info = site / "smtp_tracing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smtp-tracing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[console_scripts]\nx = y:z\n\n[stardust_auto.instrumentation]\n# mail\nsmtplib = smtp_tracing:INTEGRATION\n\n[other]\na = b:c\n"
    )
    (site / "smtp_tracing.py").write_text(
        "from stardust_auto.instrumentation.registry import Integration\n"
        "def patch(module, patches): module.patched = True\n"
        "INTEGRATION = Integration('smtp', {'smtplib': patch}, {})\n"
    )
    assert boot.foreign_targets([str(site), str(tmp_path / "nowhere"), str(info / "METADATA")]) == ["smtplib"]
    code = "import smtplib, sys; print(smtplib.patched, type(smtplib.__loader__).__name__, 'sqlite3' in sys.modules)"
    done = launch([python, "-c", code], env={"PYTHONPATH": str(site)})
    assert (done.stdout, done.stderr) == ("True SourceFileLoader False\n", "")
