"""An application's configuration in the center, by whichever door is open.

With an administrator key (embedded server): the administration interface, which sees staged values and can publish.
Without one (a StarServer): the application's own credentials, which read what is published and add missing keys
(protocol.md §6.1, §6.7); publishing is then done in the server's own console.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stardust_auto.ctl.admin import AdminClient, segment
from stardust_auto.ctl.errors import CtlError, NotPermittedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from stardust_auto.ctl.target import Target
    from stardust_auto.session.session import Session


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the center: what is live, and what is staged if ``pending`` (``new_value`` None = deletion)."""

    key: str
    scope: str
    value: str | None
    new_value: str | None
    pending: bool
    version: int
    comment: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """The rows of one application, and what the server makes of them.

    ``live`` is the map a program of this scope gets now, values of shared applications and resolved references included;
    ``staged`` the one that it gets once everything staged is published: ``None`` where unpublished values cannot be seen, or where
    ``staged_problem`` says why nothing can be published.
    """

    app: str
    scope: str
    version: int
    next_version: int
    items: tuple[Item, ...]
    live: Mapping[str, str]
    staged: Mapping[str, str] | None = None
    staged_problem: str = ""

    @property
    def staged_known(self) -> bool:
        """Whether unpublished values can be seen at all."""
        return self.staged is not None or bool(self.staged_problem)

    def values(self, *, staged: bool = False) -> dict[str, str]:
        """The map a program of this scope gets; with ``staged`` once everything staged is published, if that can be seen.

        Raises:
            CtlError: what is staged cannot be published.
        """
        if staged and self.staged_problem:
            raise CtlError(f"what is staged cannot be published: {self.staged_problem}")
        return dict(self.live if not staged or self.staged is None else self.staged)


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication: ``pushed`` instances were told of ``changes`` changed keys. Without changes ``version`` is the old one."""

    app: str
    version: int
    pushed: int
    changes: int

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.app}: nothing is staged, version {self.version} stays"
        told = "1 running instance" if self.pushed == 1 else f"{self.pushed} running instances"
        return f"{self.app}: version {self.version} is published; {told} told"


class AdminCenter:
    """The embedded server, as administrator."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._admin: AdminClient = target.admin()
        self._path = f"config/{segment(target.app)}"

    def read(self, scope: str | None = None, *, version: int | None = None) -> Configuration:
        """The configuration for the target's scope, or another one; with ``version`` live is what a roll-back to it would make live."""
        scope = self._target.scope if scope is None else scope
        data = as_object(self._admin.get(self._path, scope=scope or None, version=version))
        rows = data.get("items")
        live, staged = data.get("effective"), data.get("staged_effective")
        if not isinstance(live, dict):
            raise CtlError(f"no program can read the configuration of {self._target.app}: {data.get('problem')}")
        return Configuration(
            app=self._target.app,
            scope=scope,
            version=as_int(data.get("version")),
            next_version=as_int(data.get("next_version")),
            items=tuple(_item(row) for row in rows if isinstance(row, dict)) if isinstance(rows, list) else (),
            live={str(key): str(value) for key, value in live.items()},
            staged={str(key): str(value) for key, value in staged.items()} if isinstance(staged, dict) else None,
            staged_problem=as_text(data.get("staged_problem")) or "",
        )

    def stage(self, values: Mapping[str, str | None]) -> int:
        """Put values in the center, unpublished; None deletes. Returns how many of them differ from what is live."""
        data = as_object(self._admin.put(self._path, {"scope": self._target.scope, "items": dict(values)}))
        return as_int(data.get("staged"))

    def publish(self) -> Publication:
        """Publish what is staged."""
        data = as_object(self._admin.post(f"{self._path}/publish", {}))
        changes = data.get("changes")
        return Publication(
            self._target.app,
            as_int(data.get("version")),
            as_int(data.get("pushed")),
            len(changes) if isinstance(changes, list) else 0,
        )

    def instances(self) -> list[dict[str, object]]:
        """What each instance on line does with the live version."""
        found = as_object(self._admin.get(self._path)).get("instances")
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def held(self) -> AbstractContextManager[object]:
        """Keep what is needed to ask again and again: nothing, here."""
        return nullcontext()

    def history(self) -> list[dict[str, object]]:
        """Published versions, newest first, each with its changes."""
        found = self._admin.get(f"{self._path}/history")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        return sorted(rows, key=lambda row: as_int(row.get("version")), reverse=True)

    def rollback(self, version: int) -> int:
        """Publish the values of an older version again; returns the new version."""
        return as_int(as_object(self._admin.post(f"{self._path}/rollback", {"version": version})).get("version"))


class ApplicationCenter:
    """Any server that speaks the protocol, with the application's own credentials."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def read(self, scope: str | None = None) -> Configuration:
        """What is published for the target's scope, or another one."""
        scope = self._target.scope if scope is None else scope
        # Version 0 asks for everything, also for keys of shared applications (protocol.md §12.1 no. 6).
        data = as_object(self._call("/Config/GetAll", {"Scope": scope, "Version": 0}))
        lowered = {str(name).lower(): value for name, value in data.items()}
        values = lowered.get("configs")
        version = as_int(lowered.get("version"))
        used = str(lowered.get("scope") or scope)
        items = tuple(
            Item(str(key), used, str(value), None, pending=False, version=version, comment="")
            for key, value in (values.items() if isinstance(values, dict) else ())
            if value is not None
        )
        return Configuration(
            self._target.app,
            used,
            version,
            as_int(lowered.get("nextversion")),
            items,
            {item.key: item.value for item in items if item.value is not None},
        )

    def stage(self, values: Mapping[str, str | None]) -> int:
        """Send keys that the center may not have yet (protocol.md §6.7). Returns how many were sent."""
        if any(value is None for value in values.values()):
            raise CtlError("a StarServer lets nobody but its console delete keys")
        return as_int(self._call("/Config/SetAll", {"Configs": dict(values)}))

    @contextmanager
    def held(self) -> Iterator[object]:
        """Keep the login while asking again and again."""
        session = self._session()
        try:
            yield session
        finally:
            session.release()

    def _session(self) -> Session:
        """The process's session, counted: while one user holds it, the next one needs no login."""
        from stardust_auto.environment.identity import Identity
        from stardust_auto.session.session import Session

        target = self._target
        return Session.acquire(
            Identity(target.servers, target.app, target.secret, push=False, cache_dir=target.cache_dir)
        )

    def _call(self, path: str, body: Mapping[str, object]) -> object:
        from stardust_auto.errors import ApiError, StardustError, UnavailableError

        target = self._target
        session = self._session()
        try:
            return session.call(path, {"AppId": target.app, **body})
        except ApiError as exc:
            if exc.code in (401, 403):
                raise NotPermittedError(f"{target.server} refuses the application {target.app!r}: {exc}") from exc
            raise CtlError(f"{target.server} refuses: {exc}") from exc
        except UnavailableError as exc:
            raise UnreachableError(f"no server answers at {target.server} ({exc})") from exc
        except StardustError as exc:
            raise CtlError(f"{target.server} does not speak the protocol: {exc}") from exc
        finally:
            session.release()


def open_center(target: Target) -> AdminCenter | ApplicationCenter:
    """The widest door that the target's key opens."""
    return AdminCenter(target) if target.key is not None else ApplicationCenter(target)


def open_admin_center(target: Target, doing: str) -> AdminCenter:
    """The administration interface; without a key the user is told where else ``doing`` is done."""
    if target.key is None:
        raise NotPermittedError(
            f"{doing} needs the administrator key of an embedded server (STARDUST_ADMIN_KEY); on a StarServer it is "
            "done in its own console"
        )
    return AdminCenter(target)


def _item(row: Mapping[str, object]) -> Item:
    return Item(
        key=str(row.get("key") or ""),
        scope=str(row.get("scope") or ""),
        value=as_text(row.get("value")) if as_int(row.get("version")) > 0 else None,
        new_value=as_text(row.get("new_value")),
        pending=bool(row.get("pending")),
        version=as_int(row.get("version")),
        comment=str(row.get("comment") or ""),
    )


def as_object(value: object) -> dict[str, object]:
    """A JSON object, or an empty one where the server sent something else."""
    return value if isinstance(value, dict) else {}


def as_int(value: object) -> int:
    """A whole number, or 0 where the server sent something else."""
    return value if isinstance(value, int) else 0


def as_text(value: object) -> str | None:
    """Text, or None for JSON null."""
    return None if value is None else str(value)
