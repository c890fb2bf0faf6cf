"""Make the agent of an activated process, and hook the libraries that it can trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stardust_auto.agent import current, get_tracer, swap
from stardust_auto.agent.agent import Agent
from stardust_auto.process.originals import ORIGINALS, take_originals

if TYPE_CHECKING:
    from stardust_auto.environment.settings import AgentSettings

#: Seconds from the first recorded call of an activated process to the first import and connection. A fork within them, as of a server that
#: loads the application and then starts its workers, finds nothing begun.
START_DELAY_SECONDS: Final = 1.0


def install(options: AgentSettings, *, summary: bool = False) -> Agent:
    """Make the agent of this activated process; it starts with the first recorded call."""
    made = current()
    if made is None:
        made = Agent(options, summary=summary, owns_process=True)
        swap(made)
        made.arm(START_DELAY_SECONDS)
        if options.config_enabled:
            from stardust_auto.config.remote.verdicts import trace_publishes

            trace_publishes(made.tracer)
    return made


def instrument(options: AgentSettings) -> None:
    """Hook the libraries that the agent can trace, and keep what it uses of others."""
    from wrapt import register_post_import_hook

    from stardust_auto.instrumentation import registry

    made = install(options)
    registry.install(get_tracer, options)
    for library in ORIGINALS:
        register_post_import_hook(lambda module: take_originals(module.__name__), library)
    sigterm = made.sigterm
    if sigterm is not None:
        # trio warns if the wake-up descriptor is set when it starts.
        register_post_import_hook(lambda _module: sigterm.stop_watching(), "trio")
