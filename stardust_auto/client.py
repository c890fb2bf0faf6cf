"""The SDK: one object for tracing and settings, with the names of the existing Stardust SDK.

A :class:`Channel` is what an application has on a platform in this process: a tracer that counts, a session that talks,
a reporter between them. The agent owns the one of an activated process (:func:`default_channel`), and SDK objects that
name the same application on the same servers share it instead of logging in a second time.
"""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from stardust_auto.environment import AgentSettings, parse_servers, program_name
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.tracing.forksafe import after_fork_in_child
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from stardust_auto.config import ConfigClient
    from stardust_auto.protocol.reporting import Reporter
    from stardust_auto.protocol.session import Session
    from stardust_auto.tracing.span import Span

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Channel", "StardustClient", "StardustTracer", "default_channel", "set_default_channel"]

#: Wall-clock seconds that ending may take, whatever the server does.
EXIT_BUDGET = 1.0


class Channel:
    """Tracer, session and reporter of one application. Nothing but the tracer exists until :meth:`start`."""

    def __init__(self, settings: AgentSettings, *, keep_totals: bool = False) -> None:
        self.settings = settings
        self.tracer = Tracer(
            TracePolicy(
                period=settings.period,
                max_samples=settings.max_samples,
                max_errors=settings.max_errors,
                timeout=settings.timeout,
                excludes=settings.excludes,
            ),
            keep_totals=keep_totals,
        )
        self.tracer.enabled = settings.trace_enabled
        self._start_over()
        after_fork_in_child(self._start_over)

    def _start_over(self) -> None:
        # In a forked child: the parent's thread, socket and queue are the parent's. The first use makes new ones.
        self._lock = allocate_lock()
        self._session: Session | None = None
        self._reporter: Reporter | None = None
        self._started = False

    @property
    def app_id(self) -> str:
        """The application's name: what the operator set, else the name of the program."""
        return self.settings.app_id or program_name()

    @property
    def session(self) -> Session:
        """The session of this process; made on first use, without thread or socket."""
        session = self._session
        if session is None:
            from stardust_auto.protocol.session import Session

            settings = self.settings
            session = self._session = Session.acquire(
                settings.servers,
                self.app_id,
                settings.secret,
                client_id=settings.client_id,
                push=settings.push_enabled,
                cache_dir=settings.cache_dir,
            )
        return session

    @property
    def started(self) -> bool:
        """Whether :meth:`start` was called in this process."""
        return self._started

    def start(self) -> None:
        """Start this process's background thread. Idempotent; never waits for the server."""
        if self._started or not self.settings.servers or not self._lock.acquire(False):
            return
        try:
            session = self.session
            if self._reporter is None and self.settings.trace_enabled:
                from stardust_auto.protocol.reporting import Reporter

                tracer = self.tracer
                self._reporter = Reporter(session, tracer.take, tracer.apply, lambda: float(tracer.period))
                session.add_task(self._reporter)
            session.start()
            self._started = True
        finally:
            self._lock.release()

    def flush(self, timeout: float = EXIT_BUDGET) -> bool:
        """Report what is counted so far, within ``timeout`` seconds; whether all of it arrived."""
        reporter = self._reporter
        return reporter is None or bool(reporter.flush(timeout))

    def stop(self, timeout: float = EXIT_BUDGET) -> bool:
        """Report, log out and end the thread, within ``timeout`` seconds. Never raises."""
        if not self._started:
            return True
        self._started = False
        session, self._session, self._reporter = self._session, None, None
        if session is None:
            return True
        try:
            return bool(session.stop(timeout))
        finally:
            session.release()


_default: Channel | None = None


def default_channel() -> Channel | None:
    """The channel of this activated process; ``None`` where the agent is not active."""
    return _default


def set_default_channel(channel: Channel | None) -> Channel | None:
    """Make ``channel`` the process's own; returns the one before. For the agent and the test kit."""
    global _default
    before, _default = _default, channel
    return before


def _read_settings(server: str | Sequence[str] | None, **overrides: Any) -> AgentSettings:
    servers = None
    if server is not None:
        servers = parse_servers(server if isinstance(server, str) else ",".join(server))
    return AgentSettings.from_environ(servers=servers, **overrides)


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
        if not self._shared and not self._channel.started:
            import atexit

            atexit.register(self.stop)
        self._channel.start()

    def stop(self, timeout: float = EXIT_BUDGET) -> None:
        """Report what is counted and log out, within ``timeout`` seconds. What the agent also uses stays connected."""
        if self._shared:
            self._channel.flush(timeout)
            return
        import atexit

        atexit.unregister(self.stop)
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


class StardustClient(_Sdk):
    """Tracing and settings of one application, over one login.

    What is not passed comes from the ``STARDUST_*`` variables. Spans and settings may be used before :meth:`start`.

    Args:
        server: ``http://host:port``; several with commas, or a sequence, for failover.
        app_id: name of the application on the platform; default: the name of the program.
        secret: the application's secret; not needed where the server registers new applications by itself.
        scope: scope of the settings, such as ``"prod"``.
        client_id: name of this instance; default ``<ip>@<pid>``.
        enable_trace: whether spans are recorded.
        enable_config: whether settings are read from the server.

    Raises:
        SettingError: an argument or a ``STARDUST_*`` variable cannot be used.
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
    ) -> None:
        super().__init__(
            _read_settings(
                server,
                app_id=app_id,
                secret=secret,
                scope=scope,
                client_id=client_id,
                trace_enabled=enable_trace,
                config_enabled=enable_config,
            )
        )
        self._config: ConfigClient | None = None

    @property
    def config(self) -> ConfigClient:
        """The configuration client, made on first use.

        Raises:
            RuntimeError: this client was made with ``enable_config=False``.
        """
        if not self._settings.config_enabled:
            raise RuntimeError("this client has enable_config=False")
        if self._config is None:
            from stardust_auto.config import ConfigClient

            self._config = ConfigClient(scope=self._settings.scope or None, session=self.session)
        return self._config

    def start(self) -> None:
        """As described in the base class; also begins to follow the settings unless they are disabled."""
        super().start()
        if self._settings.config_enabled:
            self.config.start()

    def stop(self, timeout: float = EXIT_BUDGET) -> None:
        """As described in the base class; the settings stay readable, as they were last."""
        with ExitStack() as stack:
            stack.callback(super().stop, timeout)
            if self._config is not None:
                self._config.stop()

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
        self.config.on_change(callback)
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
