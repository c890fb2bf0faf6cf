"""The JSON interface of the console: ``/console/api/...``; errors are HTTP 4xx with ``{"error": "..."}``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stardust_auto.server.api.traces import trace_object
from stardust_auto.server.errors import CallError
from stardust_auto.server.store.trees import SPAN_LIMIT
from stardust_auto.wire.reading import read_int, read_time
from stardust_auto.wire.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.server.releases import Published, Releases
    from stardust_auto.server.services import Services
    from stardust_auto.server.store.apps import App


@dataclass(frozen=True, slots=True)
class AdminCall:
    """Path parameters, query and the JSON object of the body."""

    services: Services
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]

    def app(self) -> App:
        """The application in the path; CallError 404."""
        name = self.path["app"]
        app = self.services.store.apps.find(name)
        if app is None:
            raise CallError(404, f"no application {clean_text(name, 60)!r}")
        return app

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number in the query; CallError 400."""
        text = self.query.get(name, "")
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise CallError(400, f"{name} must be a number from {low:g} to {high:g}")
        return value


def apps(call: AdminCall) -> list[dict[str, Any]]:
    """GET apps"""
    return [app_object(call.services, app) for app in call.services.store.apps.all()]


def app_object(services: Services, app: App) -> dict[str, Any]:
    """One application with its instances, as ``apps`` lists it."""
    connected = set(services.hub.connected(app.id))
    instances = [
        {
            **{name: value for name, value in row.items() if name not in ("app_id", "used_keys", "missed_keys")},
            "connected": row["client_id"] in connected,
        }
        for row in services.store.instances.of(app.id)
    ]
    return {
        "name": app.name,
        "display_name": app.display_name,
        "enabled": app.enabled,
        "version": app.version,
        "has_secret": app.has_secret,
        **{name: getattr(app.policy, name) for name in _SHOWN},
        "excludes": list(app.policy.excludes),
        "vip_clients": list(app.policy.vip_clients),
        "created": app.created,
        "last_login": app.last_login,
        "dropped": app.dropped,
        "dropped_reason": app.dropped_reason,
        "instances": instances,
    }


_SHOWN = ("ping_period", "period", "max_samples", "max_errors", "timeout")
_NUMBERS = {
    "ping_period": (1, 3600),
    "period": (1, 3600),
    "max_samples": (0, 10_000),
    "max_errors": (0, 10_000),
    "timeout": (0, 3_600_000),
    "max_tag_length": (0, 100_000),
    "request_tag_length": (-1, 100_000),
}
_LISTS = ("excludes", "vip_clients", "allow_control")


def update_app(call: AdminCall) -> dict[str, Any]:
    """POST apps/{app}: change the policy; null brings a default back; ``create: true`` makes a new application,
    ``reset_secret: true`` lets the next login be issued a new secret."""
    store = call.services.store
    if call.body.get("create") is True and store.apps.find(call.path["app"]) is None:
        store.apps.create(call.path["app"])
    app = call.app()
    changes: dict[str, Any] = {}
    for name, value in call.body.items():
        if name in _NUMBERS:
            low, high = _NUMBERS[name]
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high
            ):
                raise CallError(400, f"{name} must be a whole number from {low} to {high}, or null for the default")
            changes[name] = value
        elif name in ("enabled", "enable_meter"):
            if not isinstance(value, bool):
                raise CallError(400, f"{name} must be true or false")
            changes[name] = value
        elif name in _LISTS:
            changes[name] = text_list(name, value)
        elif name == "display_name":
            changes[name] = clean_text(value, 50)
        elif name == "reset_secret":
            if value is True:
                store.apps.reset_secret(app)
        elif name != "create":
            raise CallError(400, f"unknown setting {clean_text(name, 40)!r}")
    changed = store.apps.update(app, changes)
    if not changed.enabled:
        call.services.hub.disconnect(app.id)
    return app_object(call.services, changed)


def delete_app(call: AdminCall) -> dict[str, Any]:
    """DELETE apps/{app}: with its traces, its counts, and every version of its configuration."""
    app = call.app()
    call.services.delete_app(app)
    return {"deleted": app.name}


def set_secret(call: AdminCall) -> dict[str, Any]:
    """POST apps/{app}/secret ``{secret?}``: give the application this secret, else a new one; an unknown application is made.

    The secret is in this one answer; the server keeps its hash only.
    """
    given = call.body.get("secret")
    if given is not None and not (isinstance(given, str) and 8 <= len(given) <= 100 and not given.startswith("$")):
        raise CallError(400, "secret must be a text of 8 to 100 characters that does not begin with $")
    apps = call.services.store.apps
    app = apps.find(call.path["app"]) or apps.create(call.path["app"])
    return {"name": app.name, "secret": apps.set_secret(app, given)}


def text_list(name: str, value: object) -> list[str]:
    """A list of texts, or null; CallError 400."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CallError(400, f"{name} must be a list of texts, or null")
    return [clean_text(item, 200).strip() for item in value if item.strip()]


def operations(call: AdminCall) -> list[dict[str, Any]]:
    """GET apps/{app}/operations?minutes=60"""
    return call.services.store.traces.operations(call.app().id, call.number("minutes", 60, 0.01, 100_000))


def traces(call: AdminCall) -> list[dict[str, Any]]:
    """GET traces?app=&sort=slow|recent&limit=20"""
    sort = call.query.get("sort", "") or "recent"
    if sort not in ("slow", "recent"):
        raise CallError(400, "sort must be 'slow' or 'recent'")
    limit = int(call.number("limit", 20, 1, 1000))
    return call.services.store.trees.recent(app=call.query.get("app", ""), sort=sort, limit=limit)


def trace(call: AdminCall) -> dict[str, Any]:
    """GET traces/{id}?limit=5000; a whole traceparent will do. ``total`` and ``errors`` count all spans, also those over the limit."""
    wanted = call.path["id"]
    trees = call.services.store.trees
    spans = trees.trace(wanted, int(call.number("limit", SPAN_LIMIT, 1, 100_000)))
    if not spans:
        days = call.services.settings.retention_days
        raise CallError(404, f"no trace {clean_text(wanted, 60)}: none was sampled, or it is older than {days:g} days")
    total, errors = trees.size(wanted)
    return {**trace_object(wanted, spans), "total": total, "errors": errors}


def config(call: AdminCall) -> dict[str, Any]:
    """GET config/{app}?scope=&version=: values and drafts. ``effective`` is what an instance in that scope gets, or would get after a
    roll-back to ``version``; ``staged_effective`` what it would get after a publish. Null, with a ``problem``, where a reference fails."""
    app = call.app()
    scope = call.query.get("scope", "")
    releases = call.services.releases
    state = releases.state(app)
    wanted = call.query.get("version", "")
    old = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 10 else None
    effective, problem = _effective(releases, app, scope, staged=False, version=old)
    staged_effective, staged_problem = _effective(releases, app, scope, staged=True)
    return {
        "app": app.name,
        "scope": scope,
        "version": state.version,
        "next_version": state.next_version,
        "next_publish": state.next_publish,
        "updated": state.updated,
        "is_global": state.is_global,
        "quotable": state.quotable,
        "quotes": list(state.quotes),
        "readonly": state.readonly,
        "enable_worker_id": state.enable_worker_id,
        "scopes": releases.scopes(app),
        "items": releases.items(app, scope),
        "effective": effective,
        "problem": problem,
        "staged_effective": staged_effective,
        "staged_problem": staged_problem,
        "instances": [asdict(item) for item in call.services.feedback.of(app, state.version)],
    }


def _effective(
    releases: Releases, app: App, scope: str, *, staged: bool, version: int | None = None
) -> tuple[dict[str, str] | None, str | None]:
    try:
        return releases.effective(app, scope, staged=staged, version=version), None
    except CallError as error:
        return None, error.message


def stage_config(call: AdminCall) -> dict[str, Any]:
    """PUT config/{app}: ``{scope, items: {key: value | null}, comments?: {key: text}}``; an unknown application is made."""
    raw = call.body.get("items")
    if not isinstance(raw, dict):
        raise CallError(400, "items must be an object of keys and values (null deletes)")
    items = {key.strip(): config_value(key, value) for key, value in raw.items()}
    comments = call.body.get("comments") or {}
    if not isinstance(comments, dict):
        raise CallError(400, "comments must be an object")
    store = call.services.store
    app = store.apps.find(call.path["app"]) or store.apps.create(call.path["app"])
    scope = clean_text(call.body.get("scope"), 60).strip()
    releases = call.services.releases
    staged = releases.stage(app, scope, items, {key.strip(): clean_text(text, 5000) for key, text in comments.items()})
    state = releases.state(app)
    return {"staged": staged, "version": state.version, "next_version": state.next_version}


def config_value(key: str, value: object) -> str | None:
    """A value as text; CallError 400 for lists and objects (write ``list:0``, ``group:name``)."""
    if value is None or isinstance(value, str):
        return clean_text(value, 1_000_001) if value is not None else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise CallError(400, f"the value of {clean_text(key, 60)!r} must be a text, a number, true, false or null")


def publish(call: AdminCall) -> dict[str, Any]:
    """POST config/{app}/publish: ``{}`` now, ``{"at": Unix ms or ISO date}`` later; pushed to every instance at once."""
    app = call.app()
    store, releases = call.services.store, call.services.releases
    at = call.body.get("at")
    if at is not None:
        moment = read_time(at)
        if not store.clock() < moment < store.clock() + 366 * 86_400_000:
            raise CallError(400, "at must be a time of the coming year: Unix milliseconds or an ISO date")
        published = releases.plan(app, moment)
        return {"version": published.version, "pushed": 0, "next_publish": moment, "changes": []}
    return _announced(call.services, releases.publish(app, expected=_version(call.body.get("version"))))


def _version(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise CallError(400, "version must be a whole number")


def _announced(services: Services, published: Published) -> dict[str, Any]:
    return {
        "version": published.version,
        "pushed": services.announce(published),
        "changes": list(published.changes),
    }


def unplan(call: AdminCall) -> dict[str, Any]:
    """POST config/{app}/unplan: cancel the planned publish; the drafts stay."""
    app = call.app()
    call.services.releases.cancel_plan(app)
    return {"version": call.services.releases.state(app).version}


def discard(call: AdminCall) -> dict[str, Any]:
    """POST config/{app}/discard: drop what is staged."""
    app = call.app()
    call.services.releases.discard(app)
    return {"version": call.services.releases.state(app).version}


def history(call: AdminCall) -> list[dict[str, Any]]:
    """GET config/{app}/history, the newest first."""
    return call.services.releases.history(call.app())


def rollback(call: AdminCall) -> dict[str, Any]:
    """POST config/{app}/rollback ``{version}``: the old values again, as a new version."""
    version = call.body.get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise CallError(400, "version must be a whole number")
    app = call.app()
    return _announced(call.services, call.services.releases.rollback(app, version))


def configure(call: AdminCall) -> dict[str, Any]:
    """POST config/{app}/settings: ``is_global``, ``quotable``, ``quotes``, ``readonly``, ``enable_worker_id``, ``enabled``."""
    store = call.services.store
    app = store.apps.find(call.path["app"]) or store.apps.create(call.path["app"])
    changes: dict[str, Any] = {}
    for name, value in call.body.items():
        if name == "quotes":
            changes[name] = text_list(name, value)
        elif name in ("is_global", "quotable", "readonly", "enable_worker_id", "enabled") and isinstance(value, bool):
            changes[name] = value
        else:
            raise CallError(400, f"unknown setting or wrong value: {clean_text(name, 40)!r}")
    return _announced(call.services, call.services.releases.configure(app, changes))


def events(call: AdminCall) -> list[dict[str, Any]]:
    """GET apps/{app}/events?limit=50"""
    return call.services.store.instances.events(call.app().id, read_int(call.number("limit", 50, 1, 1000)))
