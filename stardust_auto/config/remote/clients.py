"""The clients of this process: one for each center, application and scope, shared by every handle and every ``Settings()``."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from stardust_auto.config.remote.provider import usable_at_start
from stardust_auto.config.remote.snapshot import EMPTY
from stardust_auto.log import get_logger, tell
from stardust_auto.process import fork
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.config.remote.client import ConfigClient
    from stardust_auto.config.remote.memory import MemoryClient
    from stardust_auto.config.remote.provider import SnapshotProvider
    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.environment.settings import AgentSettings

logger = get_logger(__name__)

START_TIMEOUT_SECONDS = 3.0


def center_of(options: Mapping[str, object]) -> AgentSettings | None:
    """The center that a settings class reads, or None if none is configured or the center is switched off.

    Deployment decides where the center is and which scope counts: ``STARDUST_SERVER`` and ``STARDUST_SCOPE`` outrank the options of the
    class. The class decides which application's map it reads.

    Args:
        options: the ``model_config`` of the class.
    """
    from stardust_auto.environment.settings import AgentSettings, program_name
    from stardust_auto.environment.variable import parse_servers
    from stardust_auto.errors import EnvironmentVariableError

    def option(name: str) -> str:
        return str(options.get(name) or "")

    try:
        outside = AgentSettings.from_environ()
        servers = outside.servers or (parse_servers(option("stardust_server")) if option("stardust_server") else None)
        if not servers:  # Cost: the usual case of a program without a center, at every ``Settings()``
            return None
        settings = AgentSettings.from_environ(
            servers=servers,
            app_id=option("stardust_app") or outside.app_id or program_name(),
            scope=outside.scope or option("stardust_scope") or None,
        )
    except (EnvironmentVariableError, ValueError) as error:
        CLIENTS.warn(f"{error}; settings work without the center")
        return None
    return settings if settings.configured and settings.config_enabled else None


class Clients:
    """Every shared client, with the number of its users."""

    def __init__(self) -> None:
        #: Tests: the center in memory that stands in for every other one.
        self.in_memory: MemoryClient | None = None
        self._clients: dict[tuple[object, ...], ConfigClient] = {}
        self._users: Counter[SnapshotProvider] = Counter()
        self._deadlines: weakref.WeakKeyDictionary[ConfigClient, float] = weakref.WeakKeyDictionary()
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def reset_after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def client_for(self, settings: AgentSettings) -> ConfigClient:
        """The client for these settings, the same one for every caller. It is not started yet."""
        from stardust_auto.config.remote.client import ConfigClient
        from stardust_auto.environment.settings import program_name

        # The secret is not part of the key: callers that know it share the session with those that do not.
        app_id = settings.app_id or program_name()
        key = (settings.servers, app_id.lower(), settings.scope, settings.cache_dir)
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = ConfigClient.from_settings(settings)
            return client

    def of_class(self, options: Mapping[str, object]) -> SnapshotProvider | None:
        """What brings the values of a settings class with these options. None without a center."""
        return self.in_memory or self._client_of(options)

    def _client_of(self, options: Mapping[str, object]) -> ConfigClient | None:
        settings = center_of(options)
        return self.client_for(settings) if settings is not None else None

    def acquire(self, provider: SnapshotProvider) -> None:
        """Count one more user of ``provider``."""
        with self._lock:
            self._users[provider] += 1

    def release(self, provider: SnapshotProvider) -> None:
        """Count one user less; the last one stops the provider."""
        with self._lock:
            self._users[provider] -= 1
            last = self._users[provider] <= 0
            if last:
                del self._users[provider]
        if last:
            provider.stop()

    def first_snapshot(self, options: Mapping[str, object]) -> RawSnapshot:
        """The state that ``Settings()`` starts from.

        Wait for the center at most ``stardust_start_timeout`` seconds; a dead server costs that once in a process.

        Raises:
            ConfigUnavailableError: the policy of the class does not allow a start without the center.
        """
        if self.in_memory is not None:
            return self.in_memory.snapshot
        client = self._client_of(options)
        if client is None:
            return EMPTY
        client.start()
        timeout = float(options.get("stardust_start_timeout", START_TIMEOUT_SECONDS))  # type: ignore[arg-type]  # our own option
        deadline = self._deadlines.setdefault(client, monotonic() + timeout)
        client.wait_loaded(max(0.0, deadline - monotonic()))
        return usable_at_start(client, str(options.get("stardust_on_unavailable") or "cache-then-defaults"))

    def stop_all(self) -> None:
        """Stop and forget every client: for tests and for the end of the process."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
            self._users.clear()
            self._warned.clear()
        for client in clients:
            client.stop()

    def warn(self, text: str) -> None:
        """Log ``text`` once in a process."""
        if text not in self._warned:
            self._warned.add(text)
            # An activated process has logged it on its own; otherwise the line must be seen without configured logging.
            log = (
                logger.warning
                if "stardust_auto.activation.boot" in sys.modules
                else partial(tell, logger, logging.WARNING)
            )
            log("%s", text)


CLIENTS = Clients()

fork.register(CLIENTS)
