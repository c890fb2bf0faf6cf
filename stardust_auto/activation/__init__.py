"""How a process becomes instrumented. This module is what every start of Python pays: it decides whether there is anything to do.

Standard library only, no thread, no socket, no file but those of the platform; ``boot.py`` is imported where the agent is to be active.
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

__all__ = [
    "MARK",
    "OFF",
    "SITE",
    "SUMMARY",
    "activate_for_launcher",
    "activate_if_asked",
    "interpreter_mark",
    "is_wanted",
    "say",
    "summary_wanted",
]

#: What switches a variable off.
OFF = frozenset(("0", "false", "no", "off", "n", "f"))
_ON = frozenset(("1", "true", "yes", "on", "y", "t"))


def activate(
    *, server: str | None = None, app_id: str | None = None, secret: str | None = None, scope: str | None = None
) -> bool:
    """Make this process ready to trace, and to report from its first traced call on.

    Libraries that are imported already are traced too. Silent and quick where there is nothing to do: switched off, or no server
    configured. An unusable value is one line on stderr, and the program runs without the agent. Never raises, never writes to stdout.

    Args:
        server: ``http://host:port``; several with commas for failover. This and the others default to the ``STARDUST_*`` variables.
        app_id: name of the application on the platform; without any, the name of the program.
        secret: the application's secret.
        scope: scope of the settings, such as ``"prod"``.

    Returns:
        Whether the agent is active (now, or already).
    """
    if not server and not is_wanted():
        return False
    from stardust_auto.activation import boot

    return boot.activate(server=server, app_id=app_id, secret=secret, scope=scope)


def activate_if_asked() -> bool:
    """:func:`activate` if ``STARDUST_AUTO`` is on. For ``.pth`` and ``.start``, which every start of Python runs."""
    return os.environ.get("STARDUST_AUTO", "").strip().lower() in _ON and activate()


def activate_for_launcher() -> bool:
    """:func:`activate` if this interpreter is the launcher's. For the folder that the launcher puts on ``PYTHONPATH``."""
    return _is_launchers_interpreter() and activate()


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


def _is_launchers_interpreter() -> bool:
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
