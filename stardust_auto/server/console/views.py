"""What the pages show: values for the templates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from stardust_auto.server.console import admin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stardust_auto.server.services import Services

_COLOURS = 8
_TICKS = 5
_DEPTH = 20
_GONE = 5  # instances that are off line: the latest ones only
_WIDTH = 1000.0


@dataclass(frozen=True, slots=True)
class Page:
    """A template and its values."""

    template: str
    values: dict[str, Any]


def link(*parts: str, **query: str) -> str:
    """An address below `/console`."""
    path = "/console/" + "/".join(quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(query)}" if query else path


def duration(milliseconds: float) -> str:
    """Milliseconds for people."""
    if milliseconds >= 60_000:
        return f"{milliseconds / 60_000:.1f} min"
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:g} ms" if milliseconds == int(milliseconds) else f"{milliseconds:.1f} ms"


def clock(moment: int) -> str:
    """Unix ms as a local date and time; empty when unset."""
    if not 0 < moment < 253_402_300_799_000:
        return ""
    return datetime.fromtimestamp(moment / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(milliseconds: float) -> str:
    """How long something is ago."""
    seconds = max(int(milliseconds // 1000), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


FILTERS: dict[str, Callable[..., str]] = {"duration": duration, "clock": clock, "age": age}


def applications(services: Services, _path: Mapping[str, str], _query: Mapping[str, str]) -> Page:
    """All applications with their last hour."""
    totals = services.store.traces.totals(60)
    rows = []
    for app in services.store.apps.all():
        instances = services.store.instances.of(app.id)
        total, errors, cost = totals.get(app.id, (0, 0, 0))
        rows.append(
            {
                "app": app,
                "instances": len(instances),
                "online": sum(1 for item in instances if item["online"]),
                "total": total,
                "errors": errors,
                "mean": cost / total if total else 0,
                "last_seen": max((item["last_seen"] for item in instances), default=app.last_login),
            }
        )
    port = services.port
    return Page("apps.html", {"section": "apps", "rows": rows, "now": services.store.clock(), "port": port})


def application(services: Services, path: Mapping[str, str], query: Mapping[str, str]) -> Page:
    """One application: instances, operations, traces, policy, events."""
    call = admin.AdminCall(services, path, query, {})
    app = call.app()
    minutes = call.number("minutes", 60, 1, 10_080)
    operations = services.store.traces.operations(app.id, minutes)
    most = max((row["cost"] for row in operations), default=0)
    for row in operations:
        row["share"] = round(_WIDTH * row["cost"] / most) if most else 0
    instances: list[dict[str, Any]] = admin.app_object(services, app)["instances"]
    gone = [item for item in instances if not item["online"]]
    shown = [item for item in instances if item["online"] or item in gone[:_GONE]]
    return Page(
        "app.html",
        {
            "section": "apps",
            "app": app,
            "instances": shown,
            "hidden": len(instances) - len(shown),
            "operations": operations,
            "minutes": int(minutes),
            "traces": services.store.trees.recent(app=app.name, limit=10),
            "events": services.store.instances.events(app.id, 30),
            "now": services.store.clock(),
        },
    )


def traces(services: Services, _path: Mapping[str, str], query: Mapping[str, str]) -> Page:
    """The list of traces."""
    rows = admin.traces(admin.AdminCall(services, {}, {"limit": "100", **query}, {}))
    most = max((row["cost"] for row in rows), default=0)
    for row in rows:
        row["share"] = round(_WIDTH * row["cost"] / most) if most else 0
    apps = [app.name for app in services.store.apps.all()]
    values = {"section": "traces", "rows": rows, "apps": apps, "app": query.get("app", "")}
    return Page("traces.html", {**values, "sort": query.get("sort", "") or "recent", "now": services.store.clock()})


def trace(services: Services, path: Mapping[str, str], query: Mapping[str, str]) -> Page:
    """One trace as a waterfall: a bar is placed on a scale of 1000 units."""
    found = admin.trace(admin.AdminCall(services, path, query, {}))
    spans: list[dict[str, Any]] = found["spans"]
    start = min(span["start_time"] for span in spans)
    total = max(max(span["end_time"] for span in spans) - start, 1)
    apps: dict[str, int] = {}
    for span in spans:
        colour = apps.setdefault(span["app"], len(apps) % _COLOURS)
        left = (span["start_time"] - start) / total * _WIDTH
        span["colour"] = colour
        span["left"] = round(min(left, _WIDTH - 3), 1)
        span["width"] = round(max(min(span["cost"] / total * _WIDTH, _WIDTH - left), 3), 1)
        span["offset"] = span["start_time"] - start
        span["indent"] = min(span["depth"], _DEPTH)
    step = _step(total)
    ticks = [{"at": round(_WIDTH * mark / total, 1), "label": duration(mark)} for mark in range(0, total, step)]
    values = {"section": "traces", "trace_id": found["trace_id"], "spans": spans, "apps": apps, "ticks": ticks}
    failed = sum(1 for span in spans if span["failed"])
    return Page("trace.html", {**values, "start": start, "total": total, "failed": failed})


def _step(total: int) -> int:
    """Milliseconds between two marks: 1, 2 or 5 times a power of ten, at most six marks."""
    step = 1
    while total / step > _TICKS:
        step = step * 2 if str(step)[0] in "15" else step * 5 // 2
    return step


def config_index(services: Services, _path: Mapping[str, str], _query: Mapping[str, str]) -> Page:
    """Which configurations there are."""
    rows = [{"app": app, "state": services.store.configs.state(app)} for app in services.store.apps.all()]
    return Page("configs.html", {"section": "config", "rows": rows})


def config(services: Services, path: Mapping[str, str], query: Mapping[str, str]) -> Page:
    """One configuration: values, what is staged, history, sharing."""
    call = admin.AdminCall(services, path, query, {})
    app = call.app()
    found = admin.config(call)
    staged = [item for item in services.store.configs.items(app) if item["pending"]]
    used: set[str] = set()
    missed: set[str] = set()
    readers = [item for item in services.store.instances.of(app.id) if item["online"] and item["config_version"]]
    for instance in readers:
        used.update(part.lower() for part in instance["used_keys"].split(",") if part)
        missed.update(part for part in instance["missed_keys"].split(",") if part)
    return Page(
        "config.html",
        {
            "section": "config",
            "app": app,
            "config": found,
            "staged": staged,
            "history": services.store.releases.history(app, 50),
            "used": used,
            "missed": sorted(missed),
            "readers": len(readers),
            "current": sum(1 for item in readers if item["config_version"] >= found["version"]),
        },
    )
