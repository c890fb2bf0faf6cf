"""``StardustTracer``: own spans, without the platform's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.process.end import EXIT_BUDGET_SECONDS
from stardust_auto.process.loops import in_thread
from stardust_auto.sdk.link import Link, read_settings
from stardust_auto.tracing.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from stardust_auto.session.session import Session
    from stardust_auto.tracing.tracer import Tracer

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["StardustTracer"]


class StardustTracer:
    """Tracing of one application, over one login. Arguments as those of :class:`~stardust_auto.StardustClient`.

    Spans may be made before :meth:`start`. In a process that the agent has activated for the same application on the
    same servers, its tracer and its login are used.

    Raises:
        EnvironmentVariableError: an argument or a ``STARDUST_*`` variable cannot be used.
        ValueError: ``server`` cannot be used.
    """

    def __init__(
        self,
        server: str | Sequence[str] | None = None,
        app_id: str | None = None,
        secret: str | None = None,
        client_id: str | None = None,
    ) -> None:
        self._link = Link(read_settings(server, app_id=app_id, secret=secret, client_id=client_id))

    @classmethod
    def over(cls, link: Link) -> StardustTracer:
        """The tracer of a client, which has the link already."""
        made = cls.__new__(cls)
        made._link = link
        return made

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Log in and report, in the background. Return at once, whatever the server does.

        Raises:
            ValueError: no server is known, neither here nor from ``STARDUST_SERVER``.
        """
        self._link.start()

    def stop(self, timeout: float = EXIT_BUDGET_SECONDS) -> None:
        """Report what is counted, and log out unless the agent stays logged in, within ``timeout`` seconds."""
        self._link.stop(timeout)

    def flush(self, timeout: float = EXIT_BUDGET_SECONDS) -> bool:
        """Report now instead of at the end of the period; whether all of it arrived within ``timeout`` seconds."""
        return self._link.flush(timeout)

    async def astart(self) -> None:
        """:meth:`start` for coroutines: the first imports take 0.1 s, so they run in a thread."""
        await in_thread(self.start)

    async def astop(self, timeout: float = EXIT_BUDGET_SECONDS) -> None:
        """:meth:`stop` for coroutines."""
        await in_thread(self.stop, timeout)

    async def aflush(self, timeout: float = EXIT_BUDGET_SECONDS) -> bool:
        """:meth:`flush` for coroutines."""
        return await in_thread(self.flush, timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.astart()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    # -- spans ------------------------------------------------------------------------------------------------------

    def new_span(self, name: str, parent_id: str = "") -> Span:
        """A span for a ``with`` block. Inside the block ``tag``, ``value`` and ``set_error`` may be used.

        Args:
            name: name of the operation, such as ``"job:import"``.
            parent_id: id of the span above; default: the current span.
        """
        return Span(name, self.tracer, parent_id) if parent_id else self.tracer.new_span(name)

    def trace(self, name: str) -> Callable[[F], F]:
        """Decorator: a span around each call of a function, coroutine function or generator."""
        return self.tracer.trace(name)

    @property
    def tracer(self) -> Tracer:
        """The tracer itself, with what has no short form here."""
        return self._link.tracer

    @property
    def session(self) -> Session:
        """The session with the server."""
        return self._link.session

    # -- what the official SDK shows ----------------------------------------------------------------------------------

    @property
    def server(self) -> str:
        """Address of the platform; several are joined by commas."""
        return ",".join(self._link.settings.servers)

    @property
    def app_id(self) -> str:
        """Name of the application on the platform."""
        return self._link.agent.app_id

    @property
    def app_name(self) -> str:
        """Name of the application for people."""
        return self._link.settings.app_name or self.app_id

    @property
    def secret(self) -> str:
        """The application's secret as it was configured, else ``""``."""
        return self._link.settings.secret or ""

    @property
    def client_id(self) -> str:
        """Name of this instance, ``<ip>@<pid>`` by default."""
        return self.session.account.client_id

    @property
    def period(self) -> int:
        """Seconds between two reports. The server may change it, unless the operator has set it."""
        return self.tracer.period

    @period.setter
    def period(self, seconds: int) -> None:
        self.tracer.period = seconds

    @property
    def max_samples(self) -> int:
        """Samples kept for each operation and period."""
        return self.tracer.max_samples

    @max_samples.setter
    def max_samples(self, samples: int) -> None:
        self.tracer.max_samples = samples

    @property
    def max_errors(self) -> int:
        """Error samples kept for each operation and period."""
        return self.tracer.max_errors

    @max_errors.setter
    def max_errors(self, samples: int) -> None:
        self.tracer.max_errors = samples

    @property
    def timeout(self) -> int:
        """Milliseconds from which a call is slow and therefore kept as a sample."""
        return self.tracer.timeout

    @property
    def max_tag_length(self) -> int:
        """Characters of a tag that are kept."""
        return self.tracer.max_tag_length

    @property
    def excludes(self) -> tuple[str, ...]:
        """Patterns of operations that are not reported."""
        return self.tracer.excludes

    def __repr__(self) -> str:
        return f"StardustTracer(server={self.server!r}, app_id={self.app_id!r})"
