"""The SDK: one object for tracing and settings, with the names of the existing Stardust SDK.

Behind each object is a channel (``channel.py``): its own, or in an activated process that of the agent.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import wraps
from typing import TYPE_CHECKING, Any

from stardust_auto.agent.channel import Channel, default_channel
from stardust_auto.environment.settings import AgentSettings, program_name
from stardust_auto.environment.variable import parse_servers
from stardust_auto.process.end import EXIT_BUDGET, at_end, not_at_end, time_left
from stardust_auto.sdk.platform_calls import PlatformCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from stardust_auto.config import ConfigClient
    from stardust_auto.session.session import Session
    from stardust_auto.tracing.span import Span
    from stardust_auto.tracing.tracer import Tracer

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["StardustClient", "StardustTracer"]


def _read_settings(server: str | Sequence[str] | None, **overrides: Any) -> AgentSettings:
    servers = None
    if server is not None:
        servers = parse_servers(server if isinstance(server, str) else ",".join(server))
    settings = AgentSettings.from_environ(servers=servers, **overrides)
    if settings.problems and default_channel() is None:  # else the agent has said it
        import logging

        from stardust_auto.log import get_logger, tell

        for problem in settings.problems:
            tell(get_logger(__name__), logging.WARNING, "%s", problem)
    return settings


class _Sdk:
    """What :class:`StardustClient` and :class:`StardustTracer` have in common: a channel of their own, or the agent's."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        default = default_channel()
        self._shared = default is not None and settings.trace_enabled and _same(default, settings)
        self._channel = default if self._shared and default is not None else Channel(settings)

    @property
    def tracer(self) -> Tracer:
        """The tracer; for what has no short form here."""
        return self._channel.tracer

    @property
    def session(self) -> Session:
        """The session with the server."""
        return self._channel.session

    def start(self) -> None:
        """Log in and begin to report, in the background. Returns at once, whatever the server does.

        Raises:
            ValueError: no server is known, neither here nor from ``STARDUST_SERVER``.
        """
        if not self._channel.settings.servers:
            raise ValueError("no server: pass server='http://host:6600' or set STARDUST_SERVER")
        if not self._shared:
            self._channel.tracer.on_first_record = self._begin  # in a forked child too
        self._begin()

    def _begin(self) -> None:
        if not self._shared and not self._channel.started:
            at_end(self._at_end)
        self._channel.start()

    def _at_end(self) -> None:
        self.stop(time_left())

    def stop(self, timeout: float = EXIT_BUDGET) -> None:
        """Report what is counted and log out, within ``timeout`` seconds. What the agent also uses stays connected."""
        if self._shared:
            self._channel.flush(timeout)
            return
        not_at_end(self._at_end)
        self._channel.tracer.on_first_record = None
        self._channel.stop(timeout)

    def flush(self, timeout: float = EXIT_BUDGET) -> bool:
        """Report now instead of at the end of the period; whether all of it arrived within ``timeout`` seconds."""
        return self._channel.flush(timeout)

    def new_span(self, name: str) -> Span:
        """A span for a ``with`` block; ``tag``, ``value`` and ``set_error`` may be used inside."""
        return self._channel.tracer.new_span(name)

    def trace(self, name: str) -> Callable[[F], F]:
        """Decorator: a span around each call of a function, coroutine function or generator."""
        return self._channel.tracer.trace(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _same(channel: Channel, settings: AgentSettings) -> bool:
    return (channel.settings.servers, channel.app_id) == (settings.servers, settings.app_id or program_name())


class StardustClient(PlatformCalls, _Sdk):
    """Tracing, settings, services and commands of one application, over one login.

    What is not passed comes from the ``STARDUST_*`` variables. Spans and settings may be used before :meth:`start`.

    Args:
        server: ``http://host:port``; several with commas, or a sequence, for failover.
        app_id: name of the application on the platform; default: the name of the program.
        secret: the application's secret; not needed where the server registers new applications by itself.
        scope: scope of the settings, such as ``"prod"``.
        client_id: name of this instance; default ``<ip>@<pid>``.
        enable_trace: whether spans are recorded.
        enable_config: whether settings are read from the server.
        app_name: name of the application for people.
        app_version: its version; its dotted numbers are what the platform can store.

    Raises:
        EnvironmentVariableError: an argument or a ``STARDUST_*`` variable cannot be used.
    """

    def __init__(
        self,
        server: str | Sequence[str] | None = None,
        app_id: str | None = None,
        secret: str | None = None,
        scope: str | None = None,
        *,
        client_id: str | None = None,
        enable_trace: bool | None = None,
        enable_config: bool | None = None,
        app_name: str | None = None,
        app_version: str | None = None,
    ) -> None:
        super().__init__(
            _read_settings(
                server,
                app_id=app_id,
                secret=secret,
                scope=scope,
                client_id=client_id,
                app_name=app_name,
                app_version=app_version,
                trace_enabled=enable_trace,
                config_enabled=enable_config,
            )
        )
        self._config: ConfigClient | None = None
        self._following: Callable[[], None] | None = None

    @property
    def config(self) -> ConfigClient:
        """The configuration client; the one that ``live(Settings)`` also has, where both read the same place.

        Raises:
            RuntimeError: this client was made with ``enable_config=False``.
        """
        if not self._settings.config_enabled:
            raise RuntimeError("this client has enable_config=False")
        if self._config is None:
            from stardust_auto.config.remote.clients import CLIENTS

            self._config = CLIENTS.client_for(self._settings)
        return self._config

    def start(self) -> None:
        """As described in the base class; also begins to follow the settings unless they are disabled."""
        super().start()
        if self._settings.config_enabled and self._following is None:
            from stardust_auto.config.remote.clients import CLIENTS
            from stardust_auto.config.remote.verdicts import trace_publishes

            _ = self.session  # with this object's own names, before the shared client asks for one
            self._following = (lambda: None) if self._shared else trace_publishes(self.tracer, self.config.app_id)
            CLIENTS.acquire(self.config)
            self.config.start()

    def stop(self, timeout: float = EXIT_BUDGET) -> None:
        """As described in the base class; the settings stay readable, as they were last."""
        with ExitStack() as stack:
            stack.callback(super().stop, timeout)
            self._leave()
            if self._following is not None and self._config is not None:
                from stardust_auto.config.remote.clients import CLIENTS

                stack.callback(CLIENTS.release, self._config)
                stack.callback(self._following)
                self._following = None

    def get_config(self, key: str, default: str | None = None) -> str | None:
        """The value of ``key``, or ``default``."""
        return self.config.get(key, default)

    def get_config_int(self, key: str, default: int = 0) -> int:
        """The value of ``key`` as an integer; ``default`` if it is missing or is none."""
        return self.config.get_int(key, default)

    def get_config_bool(self, key: str, default: bool = False) -> bool:
        """The value of ``key`` as a truth value; ``default`` if it is missing or is none."""
        return self.config.get_bool(key, default)

    def get_all_configs(self) -> dict[str, str]:
        """All keys and values of this application and scope."""
        return dict(self.config.get_all())

    def on_config_change(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Call ``callback`` after each change of the settings; usable as a decorator."""

        @wraps(callback)
        def told(values: dict[str, str]) -> Any:
            return callback(values) if self._following is not None else None  # the shared client may live on

        self.config.on_change(told)
        return callback

    @property
    def config_version(self) -> int:
        """Version of the settings that are in use; 0 before the first reply."""
        return self.config.version


class StardustTracer(_Sdk):
    """Tracing alone, for programs that do not use the platform's settings. Arguments as :class:`StardustClient`'s."""

    def __init__(
        self,
        server: str | Sequence[str] | None = None,
        app_id: str | None = None,
        secret: str | None = None,
        *,
        client_id: str | None = None,
    ) -> None:
        super().__init__(_read_settings(server, app_id=app_id, secret=secret, client_id=client_id))

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
