"""Activation without a launcher: .pth, .start, and the template for images."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from _kit.activation_kit import PROBE, Run

from stardust_auto.activation import install

SERVER = {"STARDUST_SERVER": "http://127.0.0.1:9"}
ON = {**SERVER, "STARDUST_AUTO": "1"}


@pytest.fixture
def environment(tmp_path: Path) -> tuple[str, Path]:
    """A virtual environment of its own that sees this project, and its site-packages."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    python = str(folder / "bin" / "python")
    packages = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    project = Path(install.__file__).resolve().parents[2]
    here = sysconfig.get_path("purelib")
    (packages / "_project.pth").write_text(f"{project}\n{here}\n")
    return python, packages


def test_install_reports_what_it_did_and_uninstall_takes_it_back(tmp_path: Path) -> None:
    folder = str(tmp_path)
    first = install.install(folder)
    assert [(Path(one.path).name, one.action) for one in first] == [
        (name, "written") for name in install.wanted_files()
    ]
    assert install.installed(folder) == [one.path for one in first]
    assert {one.action for one in install.install(folder)} == {"unchanged"}
    (tmp_path / install.PTH).write_text("old")
    assert install.installed(folder) == [one.path for one in first if not one.path.endswith(install.PTH)]
    assert install.install(folder)[0].action == "written"
    assert next(one.action for one in install.uninstall(folder)) == "removed"
    assert {one.action for one in install.uninstall(folder)} == {"absent"}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        install.install(str(tmp_path / "nowhere"))


def test_files_by_version_of_python() -> None:
    assert list(install.wanted_files((3, 14))) == [install.PTH]
    assert install.wanted_files((3, 15))[install.START] == "stardust_auto.activation:activate_if_asked\n"


@pytest.mark.case("L9", "L10")
@pytest.mark.parametrize("flags", [[], ["-I"], ["-E"], ["-s"]])
def test_pth_activates_where_pythonpath_is_ignored(run: Run, environment: tuple[str, Path], flags: list[str]) -> None:
    python, packages = environment
    install.install(str(packages))
    assert run([python, *flags, "-c", PROBE], env=ON).stdout == "active\n"


@pytest.mark.case("L9")
def test_a_console_script_of_an_isolated_python(run: Run, environment: tuple[str, Path], tmp_path: Path) -> None:
    python, packages = environment
    install.install(str(packages))
    script = tmp_path / "tool"
    script.write_text(f"#!{python} -I\n{PROBE}")
    script.chmod(0o755)
    done = run([str(script)], env=ON)
    assert (done.stdout, done.stderr) == ("active\n", "")


@pytest.mark.parametrize(
    "env", [{}, SERVER, {**ON, "STARDUST_AUTO": "off"}, {**ON, "STARDUST_ENABLED": "0"}, {"STARDUST_AUTO": "1"}]
)
def test_pth_needs_to_be_asked(run: Run, environment: tuple[str, Path], env: dict[str, str]) -> None:
    python, packages = environment
    install.install(str(packages))
    done = run([python, "-c", PROBE], env=env)
    assert (done.stdout, done.stderr) == ("absent\n", "")


def test_pth_that_outlives_the_package_is_silent(run: Run, environment: tuple[str, Path]) -> None:
    python, packages = environment
    install.install(str(packages))
    (packages / "_project.pth").unlink()
    done = run([python, "-c", PROBE], env=ON)
    assert (done.stdout, done.stderr) == ("absent\n", "")


def test_pth_and_sitecustomize_together_are_one_activation(run: Run, environment: tuple[str, Path]) -> None:
    python, packages = environment
    install.install(str(packages))
    shutil.copy(Path(install.__file__).resolve().parents[2] / "sitecustomize_template" / "sitecustomize.py", packages)
    code = "import sys; print(sum(type(f).__name__ == 'TargetFinder' for f in sys.meta_path))" + PROBE
    done = run([python, "-c", code], env=ON)
    assert (done.stdout.split(), done.stderr) == (["1", "active"], "")


def test_the_template_activates_when_a_server_is_set(run: Run, environment: tuple[str, Path]) -> None:
    python, packages = environment
    shutil.copy(Path(install.__file__).resolve().parents[2] / "sitecustomize_template" / "sitecustomize.py", packages)
    assert run([python, "-c", PROBE], env=SERVER).stdout == "active\n"
    assert run([python, "-c", PROBE]).stdout == "absent\n"
    (packages / "_project.pth").unlink()
    done = run([python, "-c", PROBE], env=SERVER)
    assert (done.stdout, done.stderr) == ("absent\n", "")
