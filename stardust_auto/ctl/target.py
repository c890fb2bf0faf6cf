"""Which server, application and scope a command speaks to, and with which key; and where each of these came from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stardust_auto.ctl.admin import AdminClient, reason
from stardust_auto.ctl.errors import NotPermittedError, UnreachableError, UsageError
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.environment.variable import parse_identity, parse_servers
from stardust_auto.errors import EnvironmentVariableError
from stardust_auto.server.local import LocalServer, find_key, read_local_server

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Folder that ``stardust-auto --local`` makes in the working directory.
LOCAL_FOLDER = ".stardust"
#: The administrator key of a server that runs elsewhere. Not an option: a command line is seen by every user.
KEY_VARIABLE = "STARDUST_ADMIN_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """The addressed server, application and scope.

    ``app`` and ``scope`` may be empty. ``key`` is None where the administration interface is out of reach, as with a
    StarServer; then ``secret`` and the application's own rights are what is left. ``cache_dir`` has the credentials that a
    server issued to the application (None: the user's cache folder).
    """

    servers: tuple[str, ...]
    origin: str
    app: str
    scope: str
    secret: str | None = field(repr=False)
    key: str | None = field(repr=False)
    cache_dir: str | None = None
    #: Why the server of this user does not answer; empty if it does, or if there is none.
    silent: str = ""

    @property
    def server(self) -> str:
        """The first address of the list."""
        return self.servers[0]

    def admin(self) -> AdminClient:
        """The administration interface; :class:`NotPermittedError` when there is no key for the server."""
        if self.silent:
            raise UnreachableError(f"no server answers at {self.server} ({self.silent})")
        if self.key is None:
            raise NotPermittedError(
                f"no administrator key for {self.server}: run this as the user who runs the embedded server, or set "
                f"{KEY_VARIABLE}; a StarServer has no such key, use its own console"
            )
        return AdminClient(self.server, self.key)


def read_environment() -> AgentSettings:
    """The agent's settings of this environment; an unusable variable is :class:`UsageError`."""
    try:
        return AgentSettings.from_environ()
    except EnvironmentVariableError as exc:
        raise UsageError(str(exc)) from None


def find_target(server: str | None = None, app: str | None = None, scope: str | None = None) -> Target:
    """Resolve the options of a command: option, then environment, then the embedded server of this folder.

    Raises:
        UsageError: no server is named or runs here, or a value cannot be used.
    """
    settings = read_environment()
    local = find_local_server()
    if server is not None:
        servers, origin = _checked("--server", server), "--server"
    elif settings.servers:
        servers, origin = settings.servers, settings.sources["servers"]
    elif local is not None:
        servers, origin = (local.url,), f"{LOCAL_FOLDER}/server.json"
    else:
        raise UsageError(
            "no server: give --server, set STARDUST_SERVER, or run this below a folder where 'stardust-auto --local' "
            "has started one ('stardustctl server' starts one by hand)"
        )
    if app is not None:
        _identity("--app", app)
    if scope is not None and scope:
        _identity("--scope", scope)
    ours = local is not None and local.url.rstrip("/") == servers[0].rstrip("/")
    key, silent = _find_key(servers[0], local if ours else None)
    return Target(
        servers=servers,
        origin=origin,
        app=app if app is not None else settings.app_id,
        scope=scope if scope is not None else settings.scope,
        secret=settings.secret or (local.app_secret or None if local is not None and ours else None),
        key=key,
        cache_dir=settings.cache_dir,
        silent=silent,
    )


def find_app_target(server: str | None, app: str | None, scope: str | None) -> Target:
    """Like :func:`find_target`, for commands that are about one application.

    Without a name the only application of an embedded server is taken; several are an error that lists them.
    """
    target = find_target(server, app, scope)
    if target.app:
        return target
    names = [str(entry["name"]) for entry in _applications(target)] if target.key is not None else []
    if len(names) != 1:
        known = f" (known here: {', '.join(names)})" if names else ""
        raise UsageError(f"which application? Give --app or set STARDUST_APP_ID{known}")
    return replace(target, app=names[0])


def find_local_server() -> LocalServer | None:
    """The server that ``.stardust/server.json`` of the working directory, or of the nearest parent with one, names."""
    for folder in _upwards(Path.cwd()):
        if (folder / LOCAL_FOLDER / "server.json").is_file():
            found = read_local_server(str(folder / LOCAL_FOLDER))
            if found is not None:
                return found
    return None


def _applications(target: Target) -> list[dict[str, object]]:
    found = target.admin().get("apps")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _find_key(server: str, local: LocalServer | None) -> tuple[str | None, str]:
    """The key, and why the server that should have one does not answer."""
    given = os.environ.get(KEY_VARIABLE, "").strip()
    if given or local is not None:
        return given or (local.key if local is not None else None), ""
    try:
        return find_key(server), ""
    except OSError as error:
        return None, reason(error)


def _checked(option: str, text: str) -> tuple[str, ...]:
    try:
        return parse_servers(text)
    except ValueError as exc:
        raise UsageError(f"{option} {text!r} cannot be used: {exc}") from None


def _identity(option: str, text: str) -> None:
    try:
        parse_identity(text)
    except ValueError as exc:
        raise UsageError(f"{option} {text!r} cannot be used: {exc}") from None


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents
