"""What the pages show: values for the templates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from stardust_auto.privacy import is_secret_name, mask_value
from stardust_auto.server.console import admin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stardust_auto.server.services import Services

_COLOURS = 8
_TICKS = 5
#: Share of the axis behind which no label has room.
_LAST_TICK = 0.93
_DEPTH = 20
_GONE = 5  # instances that are off line: the latest ones only
_WIDTH = 1000.0
#: Characters of a value on a page.
_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Page:
    """A template and its values."""

    template: str
    values: dict[str, Any]


def link(*parts: str, **query: str) -> str:
    """An address below ``/console``."""
    path = "/console/" + "/".join(quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(query)}" if query else path


def duration(milliseconds: float) -> str:
    """Milliseconds for people."""
    if milliseconds >= 60_000:
        return f"{milliseconds / 60_000:.1f} min"
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    if milliseconds == int(milliseconds):
        return f"{milliseconds:g} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 1 else f"{milliseconds * 1000:.0f} µs"


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


def masked(key: str, value: str | None) -> str:
    """A value as a page may show it: a key that sounds secret hides all of it, a password inside a value hides itself.

    What is long is cut: a page with twenty versions of a large value would be megabytes.
    """
    shown = mask_value(key, value) or ""
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… (+{len(shown) - _SHOWN})"


def is_veiled(key: str, value: str | None) -> bool:
    """Whether a page does not show all of a value."""
    return is_secret_name(key) or mask_value(key, value) != value


FILTERS: dict[str, Callable[..., str]] = {"duration": duration, "clock": clock, "age": age}
#: What templates may call.
FUNCTIONS: dict[str, Callable[..., object]] = {"masked": masked, "secret": is_veiled}


def applications(services: Services, _path: Mapping[str, str], _query: Mapping[str, str]) -> Page:
    """All applications with their last hour."""
    totals = services.store.traces.totals(60)
    instances = services.store.instances.overview()
    rows = []
    for app in services.store.apps.all():
        count, online, last_seen = instances.get(app.id, (0, 0, 0))
        total, errors, cost = totals.get(app.id, (0, 0, 0))
        rows.append(
            {
                "app": app,
                "instances": count,
                "online": online,
                "total": total,
                "errors": errors,
                "mean": cost / total if total else 0,
                "last_seen": last_seen or app.last_login,
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
    start = min(span["start_us"] for span in spans) / 1000
    total = max(max(span["start_us"] / 1000 + span["cost"] for span in spans) - start, 0.001)
    apps: dict[str, int] = {}
    for span in spans:
        colour = apps.setdefault(span["app"], len(apps) % _COLOURS)
        span["offset"] = round(span["start_us"] / 1000 - start, 3)
        left = span["offset"] / total * _WIDTH
        span["colour"] = colour
        span["left"] = round(min(left, _WIDTH - 3), 1)
        span["width"] = round(max(min(span["cost"] / total * _WIDTH, _WIDTH - left), 3), 1)
        span["indent"] = min(span["depth"], _DEPTH)
    step = _step(total)
    marks = [step * number for number in range(int(total / step) + 1) if step * number < total]
    ticks = [
        {"at": round(_WIDTH * mark / total, 1), "label": duration(mark)} for mark in marks if mark / total < _LAST_TICK
    ]
    values = {"section": "traces", "trace_id": found["trace_id"], "spans": spans, "apps": apps, "ticks": ticks}
    values |= {"start": int(start), "total": total, "count": found["total"], "failed": found["errors"]}
    return Page("trace.html", values)


def _step(total: float) -> float:
    """Milliseconds between two marks: 1, 2 or 5 times a power of ten, at most six marks."""
    power = 10.0 ** math.floor(math.log10(total / _TICKS))
    return next(step for factor in (1, 2, 5, 10) if total / (step := _plain(factor * power)) <= _TICKS)


def _plain(step: float) -> float:
    return int(step) if step >= 1 else round(step, 6)


def config_index(services: Services, _path: Mapping[str, str], _query: Mapping[str, str]) -> Page:
    """Which configurations there are."""
    rows = [{"app": app, "state": services.releases.state(app)} for app in services.store.apps.all()]
    return Page("configs.html", {"section": "config", "rows": rows})


def config(services: Services, path: Mapping[str, str], query: Mapping[str, str]) -> Page:
    """One configuration: values, what is staged, history, sharing."""
    call = admin.AdminCall(services, path, query, {})
    app = call.app()
    found = admin.config(call)
    staged = [item for item in services.releases.items(app) if item["pending"]]
    used: set[str] = set()
    missed: set[str] = set()
    for instance in services.store.instances.of(app.id):
        if not instance["online"]:
            continue
        used.update(part.lower() for part in instance["used_keys"].split(",") if part)
        missed.update(part for part in instance["missed_keys"].split(",") if part)
    return Page(
        "config.html",
        {
            "section": "config",
            "app": app,
            "config": found,
            "staged": staged,
            "history": services.releases.history(app, 20),
            "used": used,
            "missed": sorted(missed),
            "zone": datetime.now().astimezone().tzname(),
            "readers": found["instances"],
        },
    )
