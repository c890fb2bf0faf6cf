"""What stands behind an SDK object: the agent of this process if it is for the same application, else one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.agent import current
from stardust_auto.agent.agent import Agent
from stardust_auto.environment.settings import AgentSettings, program_name
from stardust_auto.environment.variable import parse_servers
from stardust_auto.log import get_logger
from stardust_auto.process.end import EXIT_BUDGET_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stardust_auto.session.session import Session
    from stardust_auto.tracing.tracer import Tracer

logger = get_logger(__name__)


def read_settings(server: str | Sequence[str] | None, **overrides: Any) -> AgentSettings:
    """The settings of an SDK object: its arguments, then the ``STARDUST_*`` variables and the platform's files.

    Raises:
        EnvironmentVariableError: an argument or a variable cannot be used.
        ValueError: ``server`` cannot be used.
    """
    servers = None
    if server is not None:
        servers = parse_servers(server if isinstance(server, str) else ",".join(server))
    settings = AgentSettings.from_environ(servers=servers, **overrides)
    if current() is None:  # the agent has logged them otherwise
        for problem in settings.problems:
            logger.warning("%s", problem)
    return settings


class Link:
    """One application on one platform, as far as an SDK object needs it. ``shared`` means that the agent owns it."""

    def __init__(self, settings: AgentSettings) -> None:
        agent = current()
        self.settings = settings
        self.shared = agent is not None and settings.trace_enabled and _same_application(agent, settings)
        self.agent = agent if self.shared and agent is not None else Agent(settings)

    @property
    def tracer(self) -> Tracer:
        """The tracer that counts for this application."""
        return self.agent.tracer

    @property
    def session(self) -> Session:
        """The session of this process; made on first use."""
        return self.agent.session

    def start(self) -> None:
        """Log in and report, in the background and in each forked child anew. Idempotent.

        Raises:
            ValueError: no server is known.
        """
        if not self.agent.settings.servers:
            raise ValueError("no server: pass server='http://host:6600' or set STARDUST_SERVER")
        if not self.shared:
            self.agent.arm()
        self.agent.start()

    def stop(self, timeout: float = EXIT_BUDGET_SECONDS) -> None:
        """Report, and log out unless the agent uses the session too, within ``timeout`` seconds."""
        if self.shared:
            self.agent.flush(timeout)
        else:
            self.agent.stop(timeout)

    def flush(self, timeout: float = EXIT_BUDGET_SECONDS) -> bool:
        """Report now; whether all of it arrived within ``timeout`` seconds."""
        return self.agent.flush(timeout)


def _same_application(agent: Agent, settings: AgentSettings) -> bool:
    return (agent.settings.servers, agent.app_id) == (settings.servers, settings.app_id or program_name())
