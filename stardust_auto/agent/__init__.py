"""The agent of this process: the only process-wide state of the package.

Activation leaves the options here; the agent is made from them when the first library that it can trace is imported. ``capture()`` of the
test kit swaps the agent for another one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stardust_auto.agent.agent import Agent
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.tracing.tracer import Tracer

__all__ = ["activate", "active_options", "current", "get_tracer", "swap"]

#: What activation found, inherited by forked children; ``None`` where the agent is not active.
_options: AgentSettings | None = None
_current: Agent | None = None


def activate(options: AgentSettings) -> None:
    """The agent is active in this process from now on."""
    global _options
    _options = options


def active_options() -> AgentSettings | None:
    """The options that activation found, or ``None`` where the agent is not active."""
    return _options


def current() -> Agent | None:
    """The agent of this process; ``None`` where it is not active, or has nothing to trace yet."""
    return _current


def swap(agent: Agent | None) -> Agent | None:
    """Make ``agent`` the process's own; returns the one before."""
    global _current
    before, _current = _current, agent
    return before


def get_tracer() -> Tracer:
    """The tracer of this process.

    Raises:
        RuntimeError: the agent is not active here.
    """
    if _current is None:
        raise RuntimeError("stardust_auto is not active in this process")
    return _current.tracer
