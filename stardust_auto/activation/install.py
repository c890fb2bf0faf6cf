"""``.pth`` and ``.start`` files: activation without a launcher and without PYTHONPATH.

Python runs them at each start, also under ``-I`` and ``-E``; what they hold does nothing unless ``STARDUST_AUTO`` is on.
Python 3.15 to 3.17 prefer the ``.start`` file (PEP 829), later ones ignore import lines in ``.pth`` files: both are written there.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass

PTH = "stardust_auto.pth"
START = "stardust_auto.start"

_PTH_TEXT = (
    "import os; exec('try:\\n from stardust_auto.activation import activate_if_asked\\n"
    "except ImportError:\\n pass\\nelse:\\n activate_if_asked()')"
    " if os.environ.get('STARDUST_AUTO', '0').strip().lower() not in ('', '0', 'false', 'no', 'off') else None\n"
)
_START_TEXT = "stardust_auto.activation:activate_if_asked\n"


@dataclass(frozen=True, slots=True)
class FileChange:
    """What was done to one file: ``action`` is ``written``, ``unchanged``, ``removed`` or ``absent``."""

    path: str
    action: str


def wanted_files(version: tuple[int, int] = sys.version_info[:2]) -> dict[str, str]:
    """Names and texts of the files that a Python of this ``version`` needs."""
    files = {PTH: _PTH_TEXT}
    if version >= (3, 15):
        files[START] = _START_TEXT
    return files


def site_folder() -> str:
    """The folder of pure Python packages of the running environment; files there are read at each start."""
    return sysconfig.get_path("purelib")


def install(folder: str | None = None) -> list[FileChange]:
    """Write the files into ``folder`` (default: the running environment). Each file is replaced as a whole, or not at all.

    Raises:
        OSError: the folder cannot be written; nothing is left half-written.
    """
    folder = folder or site_folder()
    return [_write(os.path.join(folder, name), text) for name, text in wanted_files().items()]


def uninstall(folder: str | None = None) -> list[FileChange]:
    """Remove what :func:`install` of this or another version wrote.

    Raises:
        OSError: a file cannot be removed.
    """
    folder = folder or site_folder()
    changes = []
    for name in (PTH, START):
        path = os.path.join(folder, name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            changes.append(FileChange(path, "absent"))
        else:
            changes.append(FileChange(path, "removed"))
    return changes


def installed(folder: str | None = None) -> list[str]:
    """Paths of the files that are there, as they should be."""
    folder = folder or site_folder()
    paths = [(os.path.join(folder, name), text) for name, text in wanted_files().items()]
    return [path for path, text in paths if _read(path) == text]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _write(path: str, text: str) -> FileChange:
    if _read(path) == text:
        return FileChange(path, "unchanged")
    draft = f"{path}.{os.getpid()}.new"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except OSError:
        if os.path.exists(draft):
            os.unlink(draft)
        raise
    return FileChange(path, "written")
