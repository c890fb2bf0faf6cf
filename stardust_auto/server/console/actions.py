"""What the forms of the console do; each returns the address of the page to show next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.server.console import admin
from stardust_auto.server.console.views import link
from stardust_auto.server.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.server.services import Services


def _call(services: Services, path: Mapping[str, str], body: dict[str, Any]) -> admin.AdminCall:
    return admin.AdminCall(services, path, {}, body)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace(",", "\n").splitlines() if line.strip()]


def save_policy(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """The sampling policy of an application."""
    body: dict[str, Any] = {
        "enabled": fields.get("enabled") == "on",
        "excludes": _lines(fields.get("excludes", "")),
        "vip_clients": _lines(fields.get("vip_clients", "")),
    }
    for name in ("period", "ping_period", "max_samples", "max_errors", "timeout"):
        text = fields.get(name, "").strip()
        if text:
            body[name] = int(text) if text.isascii() and text.isdecimal() else text
        else:
            body[name] = None
    admin.update_app(_call(services, path, body))
    return link("apps", path["app"], done="saved")


def reset_secret(services: Services, path: Mapping[str, str], _fields: Mapping[str, str]) -> str:
    """The next login is issued a new secret."""
    admin.update_app(_call(services, path, {"reset_secret": True}))
    return link("apps", path["app"], done="reset")


def delete(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Delete an application, once its name has been typed."""
    if fields.get("name", "").strip().lower() != path["app"].lower():
        raise CallError(400, "Type the name of the application to delete it.")
    admin.delete_app(_call(services, path, {}))
    return link("", done="deleted")


def open_config(services: Services, _path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Go to the configuration of an application, which is made when there is none."""
    name = fields.get("app", "").strip()
    admin.configure(_call(services, {"app": name}, {}))
    return link("config", name)


def _back(path: Mapping[str, str], fields: Mapping[str, str], done: str) -> str:
    view = fields.get("view", "")
    return link("config", path["app"], done=done, **({"scope": view} if view else {}))


def stage(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Stage one value, or its end."""
    key = fields.get("key", "").strip()
    value = None if fields.get("action") == "delete" else fields.get("value", "").replace("\r\n", "\n")
    if value == "" and fields.get("veiled"):  # the value was not shown, so nobody can mean to empty it
        body: dict[str, Any] = {"scope": fields.get("scope", ""), "items": {}}
    else:
        body = {"scope": fields.get("scope", ""), "items": {key: value}}
    if "comment" in fields:
        body["comments"] = {key: fields["comment"]}
    admin.stage_config(_call(services, path, body))
    return _back(path, fields, "staged")


def publish(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Publish now, or plan it (``at`` is the local time of the server)."""
    at = fields.get("at", "").strip()
    if not at:
        admin.publish(_call(services, path, {}))
        return _back(path, fields, "published")
    from datetime import datetime

    try:
        moment = int(datetime.fromisoformat(at).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise CallError(400, f"not a time: {at[:40]!r}") from error
    admin.publish(_call(services, path, {"at": moment}))
    return _back(path, fields, "planned")


def unplan(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Cancel a planned publish; the drafts stay."""
    admin.unplan(_call(services, path, {}))
    return _back(path, fields, "unplanned")


def discard(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Drop what is staged."""
    admin.discard(_call(services, path, {}))
    return _back(path, fields, "discarded")


def rollback(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """An old version again."""
    text = fields.get("version", "")
    version = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    admin.rollback(_call(services, path, {"version": version}))
    return _back(path, fields, "published")


def share(services: Services, path: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Who else gets the values."""
    body: dict[str, Any] = {name: fields.get(name) == "on" for name in ("is_global", "quotable", "enable_worker_id")}
    body["quotes"] = _lines(fields.get("quotes", ""))
    admin.configure(_call(services, path, body))
    return _back(path, fields, "saved")
