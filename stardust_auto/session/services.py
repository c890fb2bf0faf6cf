"""The service registry: offer addresses, find those of others, hear of changes (protocol.md §7)."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.errors import ApiError, StardustError, UnavailableError
from stardust_auto.log import get_logger
from stardust_auto.process.fork import after_fork_in_child
from stardust_auto.wire.messages import ServiceInstance, ServiceQuery, ServiceRegistration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stardust_auto.session.session import Session
    from stardust_auto.wire.messages import Command

    Instances = tuple[ServiceInstance, ...]
    Listener = Callable[[Instances], object]

logger = get_logger(__name__)

#: A registration that is not repeated for five minutes is switched off by the server, in seconds.
_LONGEST_PERIOD: Final = 120.0
_CALL_TIMEOUT: Final = 5.0


class ServiceRegistry:
    """A task of the session. Registrations are repeated each period and withdrawn when the session stops.

    A forked child offers nothing of its parent's: it is another instance.
    """

    name = "registry"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._fresh()
        session.register_command("registry/register", self._changed)
        session.register_command("registry/unregister", self._changed)
        after_fork_in_child(self._fresh)

    def _fresh(self) -> None:
        self._offered: dict[str, ServiceRegistration] = {}
        self._leaving: deque[ServiceRegistration] = deque()
        self._watched: dict[str, tuple[ServiceQuery, list[Listener]]] = {}
        self._known: dict[str, Instances] = {}
        self._complaints: dict[str, str] = {}

    def register(
        self,
        name: str,
        address: str,
        tags: Iterable[str] = (),
        *,
        version: str | None = None,
        health: str | None = None,
        external_address: str | None = None,
    ) -> None:
        """Offer ``name`` at ``address`` (a comma list of URLs; hosts like ``*`` become this machine's on the server).

        Never blocks: it is sent in the background, and again each period.
        """
        self._offered[name] = ServiceRegistration(
            service_name=name,
            client_id=None,
            version=version or self._session.version,
            address=address,
            external_address=external_address,
            health=health,
            tag=",".join(tags) or None,
        )
        self._begin()

    def unregister(self, name: str) -> None:
        """Withdraw ``name``.

        Raises:
            StardustError: the server could not be told; it forgets the registration after five minutes by itself.
        """
        offered = self._offered.pop(name, None)
        if offered is not None:
            self._withdraw(offered, _CALL_TIMEOUT)

    def leave(self, names: Iterable[str]) -> None:
        """Withdraw ``names`` in the background, at the latest when the session stops. Never blocks, never raises."""
        self._leaving.extend(self._offered.pop(name) for name in names if name in self._offered)
        self._session.wake(self)

    def resolve(
        self, name: str, tags: Iterable[str] = (), *, min_version: str | None = None, timeout: float = _CALL_TIMEOUT
    ) -> list[ServiceInstance]:
        """Who offers ``name`` now, with all of ``tags``. A watched service is answered from memory.

        Raises:
            StardustError: no answer from the server.
        """
        tag = ",".join(tags) or None
        if tag is None and min_version is None and name in self._known:
            return list(self._known[name])
        return list(self._ask(ServiceQuery(name, None, min_version, tag), timeout))

    def watch(self, name: str, listener: Listener, tags: Iterable[str] = ()) -> None:
        """Call ``listener`` on the background thread with the instances of ``name``: once known, then at each change."""
        query, listeners = self._watched.get(name, (ServiceQuery(name, None, None, ",".join(tags) or None), []))
        self._watched[name] = (query, [*listeners, listener])
        if name in self._known:
            self._tell(listener, self._known[name])
        self._begin()

    def unwatch(self, name: str, listener: Listener) -> None:
        """Call ``listener`` no more."""
        query, listeners = self._watched.get(name, (None, []))
        if query is not None:
            left = [other for other in listeners if other != listener]
            if left:
                self._watched[name] = (query, left)
            else:
                del self._watched[name]
                self._known.pop(name, None)

    def run(self) -> float | None:
        """Repeat what is offered, look again at what is watched."""
        if not self._offered and not self._watched and not self._leaving:
            return None
        try:
            self._repeat()
        except UnavailableError as error:
            logger.debug("registry: %s", error)  # the session wakes this task when the server is back
        return min(_LONGEST_PERIOD, float(self._session.period))

    def _repeat(self) -> None:
        self._send_withdrawals()
        for name, registration in tuple(self._offered.items()):
            with self._complaining(name):
                self._session.call("App/RegisterService", self._signed(registration), timeout=_CALL_TIMEOUT)
        for name, (query, _) in tuple(self._watched.items()):
            with self._complaining(name):
                instances = self._ask(query, _CALL_TIMEOUT)
                _, listeners = self._watched.get(name, (query, []))
                if listeners and instances != self._known.get(name):  # nobody who has let go meanwhile is told
                    self._known[name] = instances
                    for listener in listeners:
                        self._tell(listener, instances)

    def _send_withdrawals(self) -> None:
        while self._leaving:
            with self._complaining(self._leaving[0].service_name or ""):
                self._withdraw(self._leaving[0], _CALL_TIMEOUT)
            self._leaving.popleft()

    @contextmanager
    def _complaining(self, name: str) -> Iterator[None]:
        """One service that is refused is said once, and does not stop the others. What is unavailable is so for all."""
        try:
            yield
        except UnavailableError:
            raise
        except StardustError as error:
            if self._complaints.get(name) != str(error):
                self._complaints[name] = str(error)
                logger.warning("the registry refuses service %s: %s", name, error)
        else:
            self._complaints.pop(name, None)

    def finish(self, deadline: float) -> None:  # noqa: ARG002 - calls are bounded by the stopping session
        """Withdraw what was offered. What does not get through now, the server forgets after five minutes."""
        self._leaving.extend(self._offered.values())
        self._offered.clear()
        try:
            self._send_withdrawals()
        except UnavailableError as error:
            logger.debug("registry: %s", error)
            self._leaving.clear()

    def _begin(self) -> None:
        self._session.add_task(self)
        self._session.start()
        self._session.wake(self)

    def _changed(self, _command: Command) -> str:
        self._session.wake(self)
        return "ok"

    def _ask(self, query: ServiceQuery, timeout: float) -> Instances:
        body = query.to_wire() | {"ClientId": self._session.client_id}
        return ServiceInstance.list_from_wire(self._session.call("App/ResolveService", body, timeout=timeout))

    def _signed(self, registration: ServiceRegistration) -> dict[str, Any]:
        return registration.to_wire() | {"ClientId": self._session.client_id}

    def _withdraw(self, registration: ServiceRegistration, timeout: float) -> None:
        try:
            self._session.call("App/UnregisterService", self._signed(registration), timeout=timeout)
        except ApiError as error:
            if error.code != 500:  # what a StarServer answers to a withdrawal that worked (recorded, wire 264)
                raise

    @staticmethod
    def _tell(listener: Listener, instances: Instances) -> None:
        try:
            listener(instances)
        except Exception as error:  # noqa: BLE001 - a listener of the application may raise anything
            logger.warning("a listener of services failed: %s: %s", type(error).__name__, error)
