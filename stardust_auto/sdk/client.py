"""``StardustClient``: tracing, settings, services and commands of one application, with the names of the official SDK."""

from __future__ import annotations

from contextlib import ExitStack
from functools import wraps
from typing import TYPE_CHECKING, Any, overload

from stardust_auto.process.end import EXIT_BUDGET_SECONDS
from stardust_auto.process.loops import in_thread
from stardust_auto.sdk.link import Link, read_settings
from stardust_auto.sdk.tracer import StardustTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from stardust_auto.config import ConfigClient
    from stardust_auto.session.session import Session
    from stardust_auto.tracing.span import Span
    from stardust_auto.wire.messages import Command, ServiceInstance

    F = TypeVar("F", bound=Callable[..., Any])
    D = TypeVar("D")
    Listener = Callable[[tuple[ServiceInstance, ...]], object]

__all__ = ["StardustClient", "StardustTracer"]

_RESOLVE_SECONDS = 5.0


class StardustClient:
    """Tracing, settings, services and commands of one application, over one login.

    Arguments that are not passed come from the ``STARDUST_*`` variables. Spans and settings may be used before
    :meth:`start`. Services that this client offers are withdrawn when it stops.

    A part that is switched off here is absent: its object is ``None``, its methods raise ``RuntimeError``. A part that
    the operator switches off by a variable does nothing, and the program runs as it is.

    Args:
        server: ``http://host:port``; several with commas, or a sequence, for failover.
        app_id: name of the application on the platform; default: the name of the program.
        secret: the application's secret; not needed where the server registers new applications by itself.
        scope: scope of the settings, such as ``"prod"``.
        client_id: name of this instance; default ``<ip>@<pid>``.
        enable_trace: whether spans are recorded.
        enable_config: whether settings are read from the server.
        app_name: name of the application for people.
        app_version: its version; the platform stores its dotted numbers.

    Raises:
        EnvironmentVariableError: an argument or a ``STARDUST_*`` variable cannot be used.
        ValueError: ``server`` cannot be used.
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
        settings = read_settings(
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
        self._link = Link(settings)
        self._tracer = None if enable_trace is False else StardustTracer.over(self._link)
        self._config_wanted = enable_config is not False
        self._config_client: ConfigClient | None = None
        self._stop_following: Callable[[], None] | None = None
        #: Registered before start(): the shared client may have loaded long before.
        self._early_callbacks: list[Callable[[dict[str, str]], Any]] = []
        self._offered: tuple[str, ...] = ()
        self._watching: tuple[tuple[str, Listener], ...] = ()

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Log in, report and follow the settings, in the background. Return at once, whatever the server does.

        The first read of a setting then waits for the center, once and at most 3 s. In a coroutine use :meth:`astart`.

        Raises:
            ValueError: no server is known, neither here nor from ``STARDUST_SERVER``.
        """
        self._link.start()
        if self._follows and self._stop_following is None:
            from stardust_auto.config.remote.clients import CLIENTS
            from stardust_auto.config.remote.verdicts import trace_publishes

            _ = self.session  # with the names given here, before the shared client asks for one
            config = self._configuration()
            CLIENTS.acquire(config)
            # The agent traces publishes already where it is shared.
            self._stop_following = _nothing if self._link.shared else trace_publishes(self._link.tracer, config.app_id)
            for callback in self._early_callbacks:
                config.on_change(callback, tell_current=True)
            self._early_callbacks.clear()
            config.start()

    def stop(self, timeout: float = EXIT_BUDGET_SECONDS) -> None:
        """Report what is counted and log out, within ``timeout`` seconds. The settings stay readable."""
        with ExitStack() as stack:
            stack.callback(self._link.stop, timeout)
            self._leave_services()
            if self._stop_following is not None and self._config_client is not None:
                from stardust_auto.config.remote.clients import CLIENTS

                stack.callback(CLIENTS.release, self._config_client)
                stack.callback(self._stop_following)
                self._stop_following = None

    def flush(self, timeout: float = EXIT_BUDGET_SECONDS) -> bool:
        """Report now instead of at the end of the period; whether all of it arrived within ``timeout`` seconds."""
        return self._link.flush(timeout)

    async def astart(self) -> None:
        """:meth:`start` for coroutines. When it returns the settings are loaded, unless the server took over 3 s."""
        await in_thread(self._start_and_load)

    def _start_and_load(self) -> None:
        self.start()
        _ = self.session  # its import, too, belongs here and not on the loop
        if self._follows:
            self._configuration().wait_first()

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

    @property
    def session(self) -> Session:
        """The session with the server."""
        return self._link.session

    # -- tracing ----------------------------------------------------------------------------------------------------

    @property
    def tracer(self) -> StardustTracer | None:
        """The tracer; ``None`` with ``enable_trace=False``."""
        return self._tracer

    def _tracing(self) -> StardustTracer:
        if self._tracer is None:
            raise RuntimeError("this client has enable_trace=False")
        return self._tracer

    def new_span(self, name: str, parent_id: str = "") -> Span:
        """A span for a ``with`` block. Inside the block ``tag``, ``value`` and ``set_error`` may be used.

        Raises:
            RuntimeError: this client was made with ``enable_trace=False``.
        """
        return self._tracing().new_span(name, parent_id)

    def trace(self, name: str) -> Callable[[F], F]:
        """Decorator: a span around each call of a function, coroutine function or generator.

        Raises:
            RuntimeError: this client was made with ``enable_trace=False``.
        """
        return self._tracing().trace(name)

    # -- settings ---------------------------------------------------------------------------------------------------

    @property
    def _follows(self) -> bool:
        return self._config_wanted and self._link.settings.config_enabled

    @property
    def config(self) -> ConfigClient | None:
        """The configuration client; ``None`` with ``enable_config=False``. ``live(Settings)`` of the same place has it too."""
        return self._configuration() if self._config_wanted else None

    def _configuration(self) -> ConfigClient:
        if not self._config_wanted:
            raise RuntimeError("this client has enable_config=False")
        if self._config_client is None:
            from stardust_auto.config.remote.clients import CLIENTS

            self._config_client = CLIENTS.client_for(self._link.settings)
        return self._config_client

    @overload
    def get_config(self, key: str) -> str: ...

    @overload
    def get_config(self, key: str, default: D) -> str | D: ...

    def get_config(self, key: str, default: Any = "") -> Any:
        """The value of ``key``, else ``default``.

        This and the next four raise ``RuntimeError`` if this client was made with ``enable_config=False``.
        """
        return self._configuration().get(key, default)

    def get_config_int(self, key: str, default: int = 0) -> int:
        """The value of ``key`` as an integer; ``default`` if the key is missing or is not an integer."""
        return self._configuration().get_int(key, default)

    def get_config_bool(self, key: str, default: bool = False) -> bool:
        """The value of ``key`` as a truth value; ``default`` if the key is missing or is not a truth value."""
        return self._configuration().get_bool(key, default)

    def get_all_configs(self) -> dict[str, str]:
        """All keys and values of this application and scope."""
        return self._configuration().get_all()

    def on_config_change(self, callback: F) -> F:
        """Call ``callback`` with all values after each change; usable as a decorator.

        A callback that is registered before the first load is called once with it. It runs on a thread of its own, and
        not any more after :meth:`stop`.
        """

        @wraps(callback)
        def notified(values: dict[str, str]) -> Any:
            # The shared client may live on after this one has stopped.
            return callback(values) if self._stop_following is not None else None

        if self._stop_following is None:
            self._configuration()
            self._early_callbacks.append(notified)
        else:
            self._configuration().on_change(notified)
        return callback

    @property
    def config_version(self) -> int:
        """Version of the settings in use; 0 before the first reply, and with ``enable_config=False``."""
        return self._configuration().version if self._config_wanted else 0

    # -- services and commands ----------------------------------------------------------------------------------------

    def register_service(
        self,
        name: str,
        address: str,
        tags: Iterable[str] = (),
        *,
        version: str | None = None,
        health: str | None = None,
        external_address: str | None = None,
    ) -> None:
        """Offer the service ``name`` at ``address`` until this client stops; starts the client.

        It is sent in the background and repeated with the heartbeat: the server forgets an instance after five silent minutes.

        Args:
            name: name of the service, at most 50 characters.
            address: a URL, or several with commas; for hosts like ``*`` and ``0.0.0.0`` the server puts this machine's.
            tags: labels that consumers may ask for.
            version: version of the service; default: the application's.
            health: address that the server may check.
            external_address: address that consumers get in place of ``address``.
        """
        self.start()
        self.session.services.register(
            name, address, tags, version=version, health=health, external_address=external_address
        )
        self._offered = (*(other for other in self._offered if other != name), name)

    def unregister_service(self, name: str) -> None:
        """Withdraw the service ``name``, in the background."""
        if name in self._offered:
            self._offered = tuple(other for other in self._offered if other != name)
            self.session.services.withdraw((name,))

    def resolve(
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        min_version: str | None = None,
        timeout: float = _RESOLVE_SECONDS,
    ) -> list[ServiceInstance]:
        """The instances of the service ``name`` that have all of ``tags``. A watched service is answered from memory.

        Waits for the server at most ``timeout`` seconds; in a coroutine use :meth:`aresolve`.

        Raises:
            StardustError: no answer from the server.
        """
        return self.session.services.resolve(name, tags, min_version=min_version, timeout=timeout)

    async def aresolve(
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        min_version: str | None = None,
        timeout: float = _RESOLVE_SECONDS,
    ) -> list[ServiceInstance]:
        """:meth:`resolve` for coroutines."""
        return await in_thread(self.resolve, name, tags, min_version=min_version, timeout=timeout)

    def watch_service(self, name: str, listener: Listener, tags: Iterable[str] = ()) -> None:
        """Call ``listener`` with the instances of ``name`` once they are known, then at each change, which the server pushes.

        It runs on the background thread and must be short. Instances that are known already are passed at once, in the
        caller's thread. Starts the client.
        """
        self.start()
        self.session.services.watch(name, listener, tags)
        self._watching = (*self._watching, (name, listener))

    def register_command(self, name: str, handler: Callable[[Command], object]) -> None:
        """Run ``handler(command)`` once for each command ``name`` of the platform; its result is the answer.

        A plain function runs on the background thread and must be short. The result of a coroutine function is awaited
        on the event loop that is running now, else on a loop of its own. A later registration of ``name`` replaces it.
        """
        self.session.commands.register(name, handler)

    def _leave_services(self) -> None:
        """Withdraw and let go, in the background; the session does the rest when it ends."""
        offered, self._offered = self._offered, ()
        watching, self._watching = self._watching, ()
        if offered or watching:
            services = self.session.services
            services.withdraw(offered)
            for name, listener in watching:
                services.unwatch(name, listener)

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
    def secret(self) -> str:
        """The application's secret as it was configured, else ``""``."""
        return self._link.settings.secret or ""

    @property
    def client_id(self) -> str:
        """Name of this instance, ``<ip>@<pid>`` by default."""
        return self.session.account.client_id

    @property
    def scope(self) -> str:
        """The scope that was asked for."""
        return self._link.settings.scope

    def __repr__(self) -> str:
        return f"StardustClient(server={self.server!r}, app_id={self.app_id!r}, scope={self.scope!r})"


def _nothing() -> None:
    """Nothing to undo."""
