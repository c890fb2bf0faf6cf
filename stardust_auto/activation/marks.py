"""What activation leaves in the environment of a process, and whether there is anything to do.

Standard library only, no thread, no socket, no file but those of the platform.
"""

from __future__ import annotations

import os
import sys

#: The only directory that the launcher puts on ``PYTHONPATH``; it holds nothing but ``sitecustomize.py``.
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
#: Variable that names the launcher's interpreter: its ``sitecustomize`` does nothing in any other.
MARK = "STARDUST_AUTO_PYTHON"
#: Variable that holds the pid of the one process that prints ``--summary``.
SUMMARY = "STARDUST_AUTO_SUMMARY"


#: What switches a variable off.
OFF = frozenset(("0", "false", "no", "off", "n", "f"))
_ON = frozenset(("1", "true", "yes", "on", "y", "t"))


def is_switched_on() -> bool:
    """Whether ``STARDUST_AUTO`` is on, the switch of ``.pth`` and ``.start``."""
    return os.environ.get("STARDUST_AUTO", "").strip().lower() in _ON


def is_wanted() -> bool:
    """Whether the agent is not switched off and may have something to do, as cheaply as that can be found out."""
    environ = os.environ
    if environ.get("STARDUST_ENABLED", "").strip().lower() in OFF:
        return False
    if environ.get("STARDUST_SERVER", "").strip() or summary_wanted():
        return True
    if any(key.lower() == "starserver" and environ[key].strip() for key in environ):
        return True
    from stardust_auto.environment import platform_files

    return environ.get("STARDUST_DISCOVER", "").strip() != "" or platform_files.present()


def interpreter_mark() -> str:
    """What tells one Python installation from another: version and prefix."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}:{sys.prefix}"


def is_launchers_interpreter() -> bool:
    """Whether this interpreter is the one that the launcher belongs to."""
    mark = os.environ.get(MARK)
    if mark is None or mark == interpreter_mark():
        return True
    version, _, prefix = mark.partition(":")
    try:
        return interpreter_mark().startswith(version + ":") and os.path.samefile(prefix, sys.prefix)
    except OSError:
        return False


def summary_wanted() -> bool:
    """Whether this very process is to print the table of ``--summary``: its children are not."""
    return os.environ.get(SUMMARY) == str(os.getpid())


def say(line: str) -> None:
    """One line on stderr, for what people should know and a log might not show."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"stardust-auto: {line}\n")
        except (OSError, ValueError):  # the parent process closed it
            return
