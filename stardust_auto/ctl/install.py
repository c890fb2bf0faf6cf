"""``stardustctl install`` and ``uninstall``: activation of the running environment without a launcher."""

from stardust_auto.activation import install as activation
from stardust_auto.ctl import options
from stardust_auto.ctl.errors import CtlError
from stardust_auto.ctl.output import emit_json, say


def install(json_output: options.Json = False) -> None:
    """Write a .pth file (and .start, where Python reads it) into this environment.

    From then on each of its programs is traced that runs with STARDUST_AUTO=1 and STARDUST_SERVER set.
    """
    try:
        changes = activation.install()
    except OSError as exc:
        raise CtlError(f"cannot write {exc.filename}: {exc.strerror}; use a virtual environment of your own") from exc
    _tell(changes, json_output)
    if not json_output:
        say("active for programs that run with STARDUST_AUTO=1 and STARDUST_SERVER=http://...")


def uninstall(json_output: options.Json = False) -> None:
    """Remove the files of 'install' from this environment."""
    try:
        changes = activation.uninstall()
    except OSError as exc:
        raise CtlError(f"cannot remove {exc.filename}: {exc.strerror}") from exc
    _tell(changes, json_output)


def _tell(changes: list[activation.FileChange], json_output: bool) -> None:
    if json_output:
        emit_json([{"path": change.path, "action": change.action} for change in changes])
        return
    shown = [change for change in changes if change.action != "absent"]
    for change in shown:
        say(f"{change.action}: {change.path}")
    if not shown:
        say("nothing to remove: no .pth file of ours is in this environment")
