"""Applications: who may log in, and the policy each one gets."""

from __future__ import annotations

import re
import secrets
import sqlite3
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.log import get_logger
from stardust_auto.server.errors import CallError
from stardust_auto.wire.proof import md5_hex, proves

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.server.settings import ServerSettings
    from stardust_auto.server.store.database import Database

_log = get_logger(__name__)
_BAD_NAME = re.compile(r"[#/\\\x00-\x1f\x7f\ud800-\udfff]")
_ALPHABET = string.ascii_letters + string.digits
#: Milliseconds for which a secret that no client has used yet is issued again, to the same address.
_IN_VAIN = 600_000
_POLICY = ("ping_period", "period", "max_samples", "max_errors", "timeout", "max_tag_length", "request_tag_length")


@dataclass(frozen=True, slots=True)
class TracePolicy:
    """What instances are told to report: the application's own values, else those of the server.

    ``ping_period`` and ``period`` are seconds, ``timeout`` is milliseconds.
    """

    ping_period: int
    period: int
    max_samples: int
    max_errors: int
    timeout: int
    max_tag_length: int
    request_tag_length: int
    enable_meter: bool
    excludes: tuple[str, ...]
    vip_clients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class App:
    """One application. Times are Unix ms."""

    id: int
    name: str
    display_name: str
    has_secret: bool
    enabled: bool
    version: str
    category: str | None
    policy: TracePolicy
    allow_control: tuple[str, ...]
    dropped: int
    dropped_reason: str
    created: int
    last_login: int


def split_list(text: str) -> tuple[str, ...]:
    """A list as the platform writes it: parted by ``,`` or ``;``."""
    return tuple(part.strip() for part in re.split(r"[,;]", text) if part.strip())


def _random_secret() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(16))


class Apps:
    """Applications by name; names differ only by case are one application (protocol.md §12.1, 14)."""

    def __init__(self, database: Database, settings: ServerSettings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self.enrol_md5: str | None = None
        """MD5 of a secret that every application may use: a local server and its launcher share it."""
        #: Issued, by application, with address and time; until somebody uses it or the token that came along.
        self._unconfirmed: dict[int, tuple[str, str, int]] = {}

    def find(self, name: str) -> App | None:
        """The application, or None."""
        with self._database.read() as db:
            row = db.execute("SELECT * FROM app WHERE name = ?", (name,)).fetchone()
        return self._app(row) if row is not None else None

    def all(self) -> list[App]:
        """Every application by name."""
        with self._database.read() as db:
            rows = db.execute("SELECT * FROM app ORDER BY name COLLATE NOCASE").fetchall()
        return [self._app(row) for row in rows]

    def create(self, name: str, secret: str | None = None, display_name: str = "") -> App:
        """A new application; without a secret the first login is issued one.

        Raises:
            CallError: the name cannot be used.
        """
        name = name.strip()
        if not name:
            raise CallError(500, "名称不能为空！ (Parameter 'Name')")
        if len(name) > 50 or _BAD_NAME.search(name):
            raise CallError(400, "an application name has at most 50 characters and no # / \\")
        md5 = md5_hex(secret) if secret else None
        with self._database.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO app (name, display_name, secret_md5, created) VALUES (?, ?, ?, ?)",
                (name, display_name[:50], md5, self._clock()),
            )
            row = db.execute("SELECT * FROM app WHERE name = ?", (name,)).fetchone()
        return self._app(row)

    def login(self, name: str, secret: str, display_name: str, version: str, address: str) -> tuple[App, str | None]:
        """Check the secret, or issue one to an application that has none: again, where the one that asked first was gone too soon.

        Returns:
            The application and the secret that was issued, None when the one sent is right.

        Raises:
            CallError: 403, disabled, unknown, or a wrong secret (a real StarServer hands out the right one here).
        """
        app = self.find(name)
        if app is None:
            if not self._settings.auto_register and not self._enrolled(secret):
                raise CallError(403, f"{name} is no application of this server, and registration is closed")
            app = self.create(name, display_name=display_name)
        if not app.enabled:
            raise CallError(403, f"应用[{app.name}]已禁用，禁止登录")
        issued = None if self._adopt(app.id, secret) else self._issue(app.id, address)
        if issued is None and not secret:
            issued = self._issued_in_vain(app.id, address)
        if self._enrolled(secret):
            issued = None  # it needs no other; but an application in use must not be open to the first stranger either
        elif issued is None:
            self.check(app, secret)
        try:
            with self._database.write() as db:
                db.execute(
                    "UPDATE app SET last_login = :now, version = CASE WHEN :version <> '' THEN :version ELSE version END, "
                    "display_name = CASE WHEN display_name = '' THEN :display ELSE display_name END WHERE id = :id",
                    {"now": self._clock(), "version": version[:50], "display": display_name[:50], "id": app.id},
                )
        except sqlite3.OperationalError as error:  # a full disk is no reason to lock a program out of its configuration
            _log.warning("the login of %s is not noted: %s", app.name, error)
        return app, issued

    def _adopt(self, app_id: int, secret: str) -> bool:
        """Take the plain secret of a first login as that of the application, so that its other instances know it, too.

        A salted one cannot be taken, since it does not tell the secret.
        """
        if not secret or secret.startswith("$") or self._enrolled(secret):
            return False
        with self._database.write() as db:
            statement = "UPDATE app SET secret_md5 = ? WHERE id = ? AND secret_md5 IS NULL"
            return bool(db.execute(statement, (md5_hex(secret), app_id)).rowcount)

    def keep_secret(self, app: App, secret: str, address: str) -> bool:
        """Replace the secret that was issued to ``address``, and that nobody has used yet, by the one that the client has already."""
        issued = self._issued_in_vain(app.id, address)
        if issued is None or len(secret) < 8 or secret.startswith("$"):
            return False
        with self._database.write() as db:
            statement = "UPDATE app SET secret_md5 = ? WHERE id = ? AND secret_md5 = ?"
            kept = bool(db.execute(statement, (md5_hex(secret), app.id, md5_hex(issued))).rowcount)
        self._unconfirmed.pop(app.id, None)
        return kept

    def check(self, app: App, secret: str) -> None:
        """Raises CallError 403 unless ``secret`` (plain or salted) is the one of ``app``."""
        if self._enrolled(secret):
            return
        with self._database.read() as db:
            stored = db.execute("SELECT secret_md5 FROM app WHERE id = ?", (app.id,)).fetchone()["secret_md5"]
        if not secret or stored is None or not self._matches(secret, stored):
            hint = (
                "wrong secret: set STARDUST_SECRET to the right one, or give it a new one with 'stardustctl apps secret'"
                if secret
                else "this application needs its secret: set STARDUST_SECRET"
            )
            raise CallError(403, f"{app.name}: {hint}")
        self.confirm(app)

    def examine(self, name: str, secret: str) -> tuple[App | None, str]:
        """What a login would find: the application, and right, wrong, missing, new, unknown or disabled. Nothing is written."""
        app = self.find(name)
        if app is None:
            return None, "new" if name and (self._settings.auto_register or self._enrolled(secret)) else "unknown"
        if not app.enabled:
            return app, "disabled"
        if self._enrolled(secret):
            return app, "right"
        if not app.has_secret:
            return app, "new"
        with self._database.read() as db:
            stored = db.execute("SELECT secret_md5 FROM app WHERE id = ?", (app.id,)).fetchone()["secret_md5"]
        return app, "missing" if not secret else "right" if self._matches(secret, stored) else "wrong"

    def confirm(self, app: App) -> None:
        """Somebody has what was issued to ``app``: it is not issued again."""
        self._unconfirmed.pop(app.id, None)

    def _matches(self, secret: str, stored: str) -> bool:
        return proves(secret, stored, self._clock() // 1000, self._settings.salt_seconds)

    def _enrolled(self, secret: str) -> bool:
        return bool(secret) and self.enrol_md5 is not None and self._matches(secret, self.enrol_md5)

    def _issued_in_vain(self, app_id: int, address: str) -> str | None:
        secret, issued_to, when = self._unconfirmed.get(app_id, (None, "", 0))
        return secret if issued_to == address and self._clock() - when < _IN_VAIN else None

    def _issue(self, app_id: int, address: str) -> str | None:
        """A new secret for an application that has none; two first logins at once: one of them gets it."""
        secret = _random_secret()
        with self._database.write() as db:
            statement = "UPDATE app SET secret_md5 = ? WHERE id = ? AND secret_md5 IS NULL"
            changed = db.execute(statement, (md5_hex(secret), app_id)).rowcount
        if not changed:
            return None
        self._unconfirmed[app_id] = (secret, address, self._clock())
        return secret

    def set_secret(self, app: App, secret: str | None = None) -> str:
        """Give an application this secret, or a new random one; returns it. Instances with another one are refused from now on."""
        secret = secret or _random_secret()
        with self._database.write() as db:
            db.execute("UPDATE app SET secret_md5 = ? WHERE id = ?", (md5_hex(secret), app.id))
        self._unconfirmed.pop(app.id, None)
        return secret

    def reset_secret(self, app: App) -> None:
        """Forget the secret: the next login is issued a new one."""
        with self._database.write() as db:
            db.execute("UPDATE app SET secret_md5 = NULL WHERE id = ?", (app.id,))

    def update(self, app: App, changes: dict[str, Any]) -> App:
        """Change policy values; None brings the server's default back. Names as the fields of ``App``."""
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name in _POLICY:
                values[name] = value
            elif name in ("enabled", "enable_meter"):
                values[name] = int(bool(value))
            elif name in ("excludes", "vip_clients", "allow_control"):
                values[name] = ",".join(value or ())
            elif name == "display_name":
                values[name] = str(value or "")[:50]
        if values:
            assignments = ", ".join(f"{name} = ?" for name in values)
            with self._database.write() as db:
                db.execute(f"UPDATE app SET {assignments} WHERE id = ?", (*values.values(), app.id))
        return self.find(app.name) or app

    def _app(self, row: sqlite3.Row) -> App:
        policy = TracePolicy(
            enable_meter=bool(row["enable_meter"]),
            excludes=split_list(row["excludes"]),
            vip_clients=split_list(row["vip_clients"]),
            **{name: int(row[name] if row[name] is not None else getattr(self._settings, name)) for name in _POLICY},
        )
        return App(
            id=row["id"],
            name=row["name"],
            display_name=row["display_name"],
            has_secret=row["secret_md5"] is not None,
            enabled=bool(row["enabled"]),
            version=row["version"],
            category=row["category"],
            policy=policy,
            allow_control=split_list(row["allow_control"]),
            dropped=row["dropped"],
            dropped_reason=row["dropped_reason"],
            created=row["created"],
            last_login=row["last_login"],
        )
