"""The agent of an activated process: its default channel, from the first target library to the last flush.

:func:`install` is called when the first library that we can trace is about to be imported, :func:`prepare` at
activation where a log or a summary is asked for. Neither starts anything: the first recorded call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.activation import boot
from stardust_auto.agent.channel import ORIGINALS, Channel, default_channel, set_default_channel, take_originals
from stardust_auto.agent.life import ProcessLife
from stardust_auto.process.clock import monotonic
from stardust_auto.process.end import EXIT_BUDGET

if TYPE_CHECKING:
    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.tracing.tracer import Tracer

#: Seconds from the first recorded call to our first import and connection.
_DELAY = 1.0

_agent: Agent | None = None


class Agent:
    """The channel of this process and the hooks that start and end it."""

    def __init__(self, settings: AgentSettings) -> None:
        self.summary = boot.summary_wanted()
        self.channel = Channel(settings, keep_totals=self.summary)
        self.channel.tracer.on_first_record = self._begin
        if settings.config_enabled:
            from stardust_auto.config.remote.verdicts import trace_publishes

            trace_publishes(self.channel.tracer)
        self.life = ProcessLife(self._end, self.channel.flush, EXIT_BUDGET)

    def _begin(self) -> None:
        self.channel.start(delay=_DELAY)
        self.life.begin()

    def _end(self, budget: float) -> None:
        deadline = monotonic() + budget
        if self.summary and boot.summary_wanted():
            from stardust_auto.agent import summary

            summary.write(self.channel, deadline)
        self.channel.end(max(deadline - monotonic(), 0.05))


def agent(settings: AgentSettings) -> Agent:
    """The agent of this process, made on first use."""
    global _agent
    if _agent is None:
        _agent = Agent(settings)
        set_default_channel(_agent.channel)
    return _agent


def get_tracer() -> Tracer:
    """The tracer of this activated process.

    Raises:
        RuntimeError: the agent is not active here.
    """
    channel = default_channel()
    if channel is None:
        raise RuntimeError("stardust_auto is not active in this process")
    return channel.tracer


def install(settings: AgentSettings) -> None:
    """Hook the libraries that we can trace."""
    agent(settings)
    from wrapt import register_post_import_hook

    from stardust_auto.instrumentation import registry

    registry.install(get_tracer, settings)
    for library in ORIGINALS:
        register_post_import_hook(lambda module: take_originals(module.__name__), library)


def prepare(settings: AgentSettings) -> None:
    """Write our log to stderr, if ``STARDUST_LOG_LEVEL`` asks for it, and be ready for the summary."""
    if settings.log_level:
        from stardust_auto.log import log_to_stderr

        log_to_stderr(settings.log_level)
    if boot.summary_wanted():
        agent(settings).life.begin()
