"""What a :class:`~stardust_auto.sdk.client.StardustClient` does beside tracing and settings: services, commands, asyncio.

Nothing here keeps an event loop waiting if it is called as documented: what may wait for the server, or for our own
imports, has a twin that is awaited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from typing_extensions import Self

    from stardust_auto.session.session import Session
    from stardust_auto.wire.messages import Command, ServiceInstance

    Listener = Callable[[tuple[ServiceInstance, ...]], object]

_RESOLVE_TIMEOUT = 5.0


class PlatformCalls:
    """Mixed into the client. Services that it offers are withdrawn, and those that it watches let go, when it stops."""

    _offered: tuple[str, ...] = ()
    _watching: tuple[tuple[str, Listener], ...] = ()

    if TYPE_CHECKING:

        @property
        def session(self) -> Session: ...

        def start(self) -> None: ...

        def stop(self, timeout: float = 1.0) -> None: ...

        def flush(self, timeout: float = 1.0) -> bool: ...

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

        Sent in the background, repeated with the heartbeat, since the server forgets an instance after five minutes of silence.

        Args:
            name: name of the service, at most 50 characters.
            address: a URL, or several with commas; for hosts like ``*`` and ``0.0.0.0`` the server puts this machine's.
            tags: what consumers may ask for.
            version: version of the service; default: the application's.
            health: address that the server may check.
            external_address: what consumers get in place of ``address``.
        """
        self.start()
        self.session.registry.register(
            name, address, tags, version=version, health=health, external_address=external_address
        )
        self._offered = (*(other for other in self._offered if other != name), name)

    def unregister_service(self, name: str) -> None:
        """Withdraw the service ``name``, in the background."""
        if name in self._offered:
            self._offered = tuple(other for other in self._offered if other != name)
            self.session.registry.leave((name,))

    def resolve(
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        min_version: str | None = None,
        timeout: float = _RESOLVE_TIMEOUT,
    ) -> list[ServiceInstance]:
        """Who offers the service ``name`` now, with all of ``tags``. A watched service is answered from memory.

        Waits for the server at most ``timeout`` seconds; in a coroutine use :meth:`aresolve`.

        Raises:
            StardustError: no answer from the server.
        """
        return self.session.registry.resolve(name, tags, min_version=min_version, timeout=timeout)

    def watch_service(self, name: str, listener: Listener, tags: Iterable[str] = ()) -> None:
        """Call ``listener`` with the instances of ``name``: as soon as they are known, then at each change, which the server pushes.

        It is called on the background thread, at once in the caller's when they are known already, and must be short. Starts the client.
        """
        self.start()
        self.session.registry.watch(name, listener, tags)
        self._watching = (*self._watching, (name, listener))

    def register_command(self, name: str, handler: Callable[[Command], object]) -> None:
        """Run ``handler(command)`` once for each command ``name`` of the platform; what it returns is the answer.

        A plain function runs on the background thread and must be short. What a coroutine function returns is awaited on the event
        loop that is running now, else on one of its own. Holds until the client stops. A name that is registered already, also
        one of the agent's own, is replaced.
        """
        self.session.register_command(name, handler)

    def _leave(self) -> None:
        """Withdraw and let go, in the background; the session does the rest when it ends."""
        offered, self._offered = self._offered, ()
        watching, self._watching = self._watching, ()
        if offered or watching:
            registry = self.session.registry
            registry.leave(offered)
            for name, listener in watching:
                registry.unwatch(name, listener)

    # -- asyncio ----------------------------------------------------------------------------------------------------

    async def astart(self) -> None:
        """:meth:`start` for coroutines: also our own imports, 0.1 s of them, do not keep the loop waiting."""
        import asyncio

        await asyncio.to_thread(self._start_all)

    async def astop(self, timeout: float = 1.0) -> None:
        """:meth:`stop` for coroutines."""
        import asyncio

        await asyncio.to_thread(self.stop, timeout)

    async def aflush(self, timeout: float = 1.0) -> bool:
        """:meth:`flush` for coroutines."""
        import asyncio

        return await asyncio.to_thread(self.flush, timeout)

    async def aresolve(
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        min_version: str | None = None,
        timeout: float = _RESOLVE_TIMEOUT,
    ) -> list[ServiceInstance]:
        """:meth:`resolve` for coroutines."""
        import asyncio

        return await asyncio.to_thread(self.resolve, name, tags, min_version=min_version, timeout=timeout)

    async def __aenter__(self) -> Self:
        await self.astart()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    def _start_all(self) -> None:
        self.start()
        _ = self.session.registry
