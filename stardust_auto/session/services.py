"""The service registry: offer addresses, find those of others, hear of changes (protocol.md §7)."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stardust_auto.errors import ApiError, StardustError, UnavailableError
from stardust_auto.log import get_logger
from stardust_auto.session.commands import describe
from stardust_auto.transport.http import json_request
from stardust_auto.wire.messages import ServiceInstance, ServiceQuery, ServiceRegistration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stardust_auto.process.background import Task, Worker
    from stardust_auto.session.commands import Commands
    from stardust_auto.session.connection import Connection
    from stardust_auto.wire.messages import Command

    Instances = tuple[ServiceInstance, ...]
    Listener = Callable[[Instances], object]

logger = get_logger(__name__)

#: A registration that is not repeated for five minutes is switched off by the server, in seconds.
_MAX_PERIOD_SECONDS: Final = 120.0
_CALL_SECONDS: Final = 5.0


class Services:
    """A task of the worker, from its first use on. Registrations are repeated each period and withdrawn when the session stops.

    A forked child offers nothing of its parent's: it is another instance.

    Args:
        begin: makes a task one of the session's, and starts the session. Never blocks.
    """

    name = "services"

    def __init__(
        self, connection: Connection, commands: Commands, worker: Worker, begin: Callable[[Task], None]
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._begin = begin
        commands.listen("registry/register", self._changed)
        commands.listen("registry/unregister", self._changed)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._offered: dict[str, ServiceRegistration] = {}
        self._withdrawn: deque[ServiceRegistration] = deque()
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
            version=version or self._connection.account.version,
            address=address,
            external_address=external_address,
            health=health,
            tag=",".join(tags) or None,
        )
        self._begin(self)

    def withdraw(self, names: Iterable[str]) -> None:
        """Withdraw ``names`` in the background, at the latest when the session stops. Never blocks, never raises."""
        self._withdrawn.extend(self._offered.pop(name) for name in names if name in self._offered)
        self._worker.schedule(self, sooner=True)

    def resolve(
        self, name: str, tags: Iterable[str] = (), *, min_version: str | None = None, timeout: float = _CALL_SECONDS
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
        self._begin(self)

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
        if not self._offered and not self._watched and not self._withdrawn:
            return None
        try:
            self._repeat()
        except UnavailableError as error:
            logger.debug("services: %s", error)  # the session wakes this task when the server is back
        return min(_MAX_PERIOD_SECONDS, float(self._connection.period))

    def _repeat(self) -> None:
        self._send_withdrawals()
        for name, registration in tuple(self._offered.items()):
            with self._complaining(name):
                self._call("App/RegisterService", self._signed(registration), _CALL_SECONDS)
        for name, (query, _) in tuple(self._watched.items()):
            with self._complaining(name):
                instances = self._ask(query, _CALL_SECONDS)
                _, listeners = self._watched.get(name, (query, []))
                if listeners and instances != self._known.get(name):  # nobody who has let go meanwhile is told
                    self._known[name] = instances
                    for listener in listeners:
                        self._tell(listener, instances)

    def _send_withdrawals(self) -> None:
        while self._withdrawn:
            with self._complaining(self._withdrawn[0].service_name or ""):
                self._withdraw(self._withdrawn[0], _CALL_SECONDS)
            self._withdrawn.popleft()

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
        self._withdrawn.extend(self._offered.values())
        self._offered.clear()
        try:
            self._send_withdrawals()
        except UnavailableError as error:
            logger.debug("services: %s", error)
            self._withdrawn.clear()

    def _changed(self, _command: Command) -> None:
        self._worker.schedule(self, sooner=True)

    def _call(self, path: str, body: dict[str, Any], timeout: float) -> Any:
        return self._connection.call(json_request(path, body), timeout)

    def _ask(self, query: ServiceQuery, timeout: float) -> Instances:
        body = query.to_wire() | {"ClientId": self._connection.account.client_id}
        return ServiceInstance.list_from_wire(self._call("App/ResolveService", body, timeout))

    def _signed(self, registration: ServiceRegistration) -> dict[str, Any]:
        return registration.to_wire() | {"ClientId": self._connection.account.client_id}

    def _withdraw(self, registration: ServiceRegistration, timeout: float) -> None:
        try:
            self._call("App/UnregisterService", self._signed(registration), timeout)
        except ApiError as error:
            if error.code != 500:  # what a StarServer answers to a withdrawal that worked (recorded, wire 264)
                raise

    @staticmethod
    def _tell(listener: Listener, instances: Instances) -> None:
        try:
            listener(instances)
        except BaseException as error:
            # The program's code: sys.exit() or a CancelledError in it must not end our thread.
            logger.warning("a listener of services failed: %s", describe(error))
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
