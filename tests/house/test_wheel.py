"""The wheel is complete: installed alone, every module of it can be imported."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: ``uwsgi`` exists only inside uWSGI; ``sitecustomize`` and ``__main__`` act when they are imported.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import stardust_auto
assert stardust_auto.__file__.startswith(sys.argv[1]), stardust_auto.__file__
names = [module.name for module in pkgutil.walk_packages(stardust_auto.__path__, "stardust_auto.")]
for name in names:
    if not name.endswith((".sitecustomize", ".__main__")):
        importlib.import_module(name)
print(*names)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (built,) = folder.glob("stardust_auto-*.whl")
    return built


def test_every_module_of_the_installed_wheel_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-I", "-W", "ignore", "-c", IMPORT_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sources = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "stardust_auto").rglob("*.py")}
    modules = {source.removesuffix("/__init__").replace("/", ".") for source in sources} - {"stardust_auto"}
    # The folder ``site`` is a start-up folder, not a package: no module of it is walked.
    assert set(done.stdout.split()) >= {name for name in modules if ".site." not in name}


def test_the_wheel_holds_what_is_not_python(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "stardust_auto/py.typed" in names
    assert any(name.startswith("stardust_auto/server/console/") and name.endswith(".html") for name in names)
    assert "stardust_auto/activation/site/sitecustomize.py" in names
