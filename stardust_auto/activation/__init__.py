"""How a process becomes instrumented. This module is what every start of Python pays: it decides whether there is anything to do.

Standard library only, no thread, no socket, no file but those of the platform; ``boot.py`` is imported where the agent is to be active.
"""

from __future__ import annotations

from stardust_auto.activation.marks import is_launchers_interpreter, is_switched_on, is_wanted

__all__ = ["activate", "activate_for_launcher", "activate_if_asked"]


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
    return is_switched_on() and activate()


def activate_for_launcher() -> bool:
    """:func:`activate` if this interpreter is the launcher's. For the folder that the launcher puts on ``PYTHONPATH``."""
    return is_launchers_interpreter() and activate()
