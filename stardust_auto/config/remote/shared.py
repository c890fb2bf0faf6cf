"""The clients of this process, one per center, application and scope, shared by every handle and every ``Settings()``."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

from stardust_auto.config.remote.snapshot import EMPTY, RawSnapshot
from stardust_auto.errors import ConfigUnavailableError
from stardust_auto.log import get_logger, tell
from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from stardust_auto.config.remote.client import ConfigClient
    from stardust_auto.config.remote.feed import Feed
    from stardust_auto.config.remote.memory import MemoryClient
    from stardust_auto.environment.settings import AgentSettings

logger = get_logger(__name__)

START_TIMEOUT = 3.0

_clients: dict[tuple[object, ...], ConfigClient] = {}
_users: dict[int, int] = {}
_deadlines: weakref.WeakKeyDictionary[ConfigClient, float] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_warned: set[str] = set()
#: In tests: the center in memory that stands for every other (``offline.py``).
offline: MemoryClient | None = None


def _reset_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)


def agent_settings(settings_cls: type[BaseSettings]) -> AgentSettings | None:
    """The center that a class reads. ``None``: nothing is configured, or it is switched off.

    Where it is and which scope counts is a matter of the deployment, so ``STARDUST_SERVER`` and ``STARDUST_SCOPE`` outrank the class's
    own options; which application's map it reads is the class's to say.
    """
    from stardust_auto.environment.settings import AgentSettings, program_name
    from stardust_auto.environment.variable import parse_servers
    from stardust_auto.errors import EnvironmentVariableError

    config = settings_cls.model_config
    try:
        outside = AgentSettings.from_environ()
        given = str(config.get("stardust_server") or "")
        settings = AgentSettings.from_environ(
            servers=outside.servers or (parse_servers(given) if given else None),
            app_id=config.get("stardust_app") or outside.app_id or program_name(),
            scope=outside.scope or config.get("stardust_scope"),
        )
    except (EnvironmentVariableError, ValueError) as error:
        text = str(error)
        if text not in _warned:
            _warned.add(text)
            # An activated process has said it before: one line is enough.
            say = (
                logger.warning
                if "stardust_auto.activation.boot" in sys.modules
                else partial(tell, logger, logging.WARNING)
            )
            say("%s; settings work without the center", text)
        return None
    return settings if settings.configured and settings.config_enabled else None


def shared_client(settings_cls: type[BaseSettings]) -> ConfigClient | None:
    """The process's client for this class; not started yet. ``None`` without a configured server."""
    settings = agent_settings(settings_cls)
    return client_for(settings) if settings is not None else None


def client_for(settings: AgentSettings) -> ConfigClient:
    """The process's client for these settings, the same one for every caller; not started yet."""
    from stardust_auto.config.remote.client import ConfigClient
    from stardust_auto.environment.settings import program_name

    # As sessions are: who knows the application's secret and who does not speak with the same session.
    app_id = settings.app_id or program_name()
    key = (settings.servers, app_id.lower(), settings.scope, settings.cache_dir)
    with _lock:
        client = _clients.get(key)
        if client is None:
            client = _clients[key] = ConfigClient.from_settings(settings)
        return client


def take_client(settings_cls: type[BaseSettings]) -> Feed | None:
    """:func:`shared_client` for a handle, which gives it back with :func:`release_client`."""
    if offline is not None:
        return offline
    client = shared_client(settings_cls)
    return use_client(client) if client is not None else None


def use_client(client: ConfigClient) -> ConfigClient:
    """Count one more user of a shared client, who gives it back with :func:`release_client`."""
    with _lock:
        _users[id(client)] = _users.get(id(client), 0) + 1
    return client


def release_client(client: Feed) -> None:
    """A handle or an SDK client is closed; with the last one the shared client stops."""
    with _lock:
        left = _users.get(id(client), 1) - 1
        _users[id(client)] = left
    if left <= 0:
        client.stop()


def first_snapshot(settings_cls: type[BaseSettings]) -> RawSnapshot:
    """What the class starts from: the center within ``stardust_start_timeout``, else what its policy allows.

    Raises:
        ConfigUnavailableError: policy ``fail`` without an answer, ``cache`` without an answer and without a disk copy.
    """
    if offline is not None:
        return offline.snapshot
    client = shared_client(settings_cls)
    if client is None:
        return EMPTY
    config = settings_cls.model_config
    client.start()
    timeout = float(config.get("stardust_start_timeout", START_TIMEOUT))  # type: ignore[arg-type]  # our own option
    deadline = _deadlines.setdefault(client, monotonic() + timeout)  # a dead server costs this once, not each time
    client.wait_loaded(max(0.0, deadline - monotonic()))
    return allowed(client, str(config.get("stardust_on_unavailable", "cache-then-defaults")))


def allowed(feed: Feed, policy: str) -> RawSnapshot:
    """The feed's snapshot, if ``policy`` lets a start use it."""
    raw = feed.snapshot
    if raw.origin not in ("none", "disk"):
        return raw
    if policy == "fail" or (policy == "cache" and raw.origin == "none"):
        copy = "" if policy == "fail" else ", and there is no copy on disk"
        raise ConfigUnavailableError(
            f"no configuration from Stardust for {raw.label}: {feed.last_error or 'no answer in time'}{copy}"
        )
    return raw


def stop_all() -> None:
    """Stop and forget every shared client: for tests and for the end of the process."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
        _users.clear()
    for client in clients:
        client.stop()
