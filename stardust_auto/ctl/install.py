"""``stardustctl install`` and ``uninstall``: activation of the running environment without a launcher. Needs the core package only."""

from __future__ import annotations

import os

from stardust_auto.activation import install as activation
from stardust_auto.ctl.errors import CtlError
from stardust_auto.ctl.output import emit_json, say

_NAME = "sitecustomize.py"
#: The first line tells whose file it is: another one is never replaced or removed.
_MARK = '"""Written by stardustctl install --sitecustomize'
_TEXT = f'''{_MARK}: every Python of this environment is ready to trace.

Nothing is active until a process starts with STARDUST_SERVER set. Lines of your own may follow.
"""

try:
    from stardust_auto import activate
except ImportError:  # stardust_auto has been uninstalled
    pass
else:
    activate()  # never raises, never writes to stdout
'''


def install(*, sitecustomize: bool = False, json_output: bool = False) -> None:
    """Write a ``.pth`` file (and ``.start``, where Python reads it) or a ``sitecustomize.py`` into this environment.

    Raises:
        CtlError: a file cannot be written, or a ``sitecustomize.py`` of somebody else is there.
    """
    try:
        changes = [_write_sitecustomize()] if sitecustomize else activation.install()
    except OSError as error:
        raise CtlError(
            f"cannot write {error.filename}: {error.strerror}; use a virtual environment of your own"
        ) from error
    _tell(changes, json_output)
    if not json_output:
        switch = "" if sitecustomize else "STARDUST_AUTO=1 and "
        say(f"active for programs that run with {switch}STARDUST_SERVER=http://...")


def uninstall(*, json_output: bool = False) -> None:
    """Remove the files of ``install`` from this environment.

    Raises:
        CtlError: a file cannot be removed.
    """
    try:
        changes = [*activation.uninstall(), *_remove_sitecustomize()]
    except OSError as error:
        raise CtlError(f"cannot remove {error.filename}: {error.strerror}") from error
    _tell(changes, json_output)


def _path() -> str:
    return os.path.join(activation.site_folder(), _NAME)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _write_sitecustomize() -> activation.FileChange:
    path = _path()
    found = _read(path)
    if found is not None and not found.startswith(_MARK):
        raise CtlError(
            f"{path} is there already and not ours: add these lines to it: "
            "'from stardust_auto import activate' and 'activate()'"
        )
    if found is not None:
        return activation.FileChange(path, "unchanged")
    with open(path, "x", encoding="utf-8") as stream:
        stream.write(_TEXT)
    return activation.FileChange(path, "written")


def _remove_sitecustomize() -> list[activation.FileChange]:
    path = _path()
    found = _read(path)
    if found is None or not found.startswith(_MARK):
        return []
    os.unlink(path)
    return [activation.FileChange(path, "removed")]


def _tell(changes: list[activation.FileChange], json_output: bool) -> None:
    if json_output:
        emit_json([{"path": change.path, "action": change.action} for change in changes])
        return
    shown = [change for change in changes if change.action != "absent"]
    for change in shown:
        say(f"{change.action}: {change.path}")
    if not shown:
        say("nothing to remove: no start-up file of ours is in this environment")
