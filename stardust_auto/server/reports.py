"""A trace report, read as tolerantly as possible: what a strict reader loses in silence is kept (protocol.md §12.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from stardust_auto.server.reading import INT32, clean, loose_int, loose_time, members

NAME_LIMIT = 200
ID_LIMIT = 50
TEXT_LIMIT = 2000
DAY_MS = 86_400_000
_LONGEST_SPAN = 3_600_000  # ms: clients discard a longer one (protocol.md §5.4)
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One sampled span; Unix ms."""

    span_id: str
    parent_id: str
    trace_id: str
    start_time: int
    end_time: int
    value: int
    tag: str
    error: str
    failed: bool


@dataclass(frozen=True, slots=True)
class BuilderRow:
    """The spans of one name in one period; costs in ms, `min_cost` -1 = none."""

    name: str
    kind: str
    start_time: int
    end_time: int
    total: int
    errors: int
    cost: int
    max_cost: int
    min_cost: int
    value: int
    spans: tuple[SpanRow, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One report of one instance."""

    app_id: str
    app_name: str
    client_id: str
    version: str
    batch_id: str
    info: dict[str, Any]
    builders: tuple[BuilderRow, ...]
    nameless: int


def read_report(value: object) -> Report | None:
    """The report in parsed JSON, None when it is no object at all."""
    if not isinstance(value, dict):
        return None
    report = members(value)
    raw = report.get("builders")
    builders = [_builder(members(item)) for item in raw] if isinstance(raw, list) else []
    kept = tuple(builder for builder in builders if builder is not None)
    return Report(
        app_id=clean(report.get("appid"), 50).strip(),
        app_name=clean(report.get("appname"), 50),
        client_id=clean(report.get("clientid"), 50),
        version=clean(report.get("version"), 50),
        batch_id=clean(report.get("batchid"), 100),
        info=members(report.get("info")),
        builders=kept,
        nameless=len(builders) - len(kept),
    )


def _builder(raw: dict[str, Any]) -> BuilderRow | None:
    name = _SPACES.sub(" ", clean(raw.get("name"), NAME_LIMIT * 2)).strip()[:NAME_LIMIT]
    if not name:
        return None
    spans = _spans(raw.get("samples"), failed=False) + _spans(raw.get("errorsamples"), failed=True)
    return BuilderRow(
        name=name,
        kind=kind_of(name),
        start_time=loose_time(raw.get("starttime")) or min((span.start_time for span in spans), default=0),
        end_time=loose_time(raw.get("endtime")),
        total=loose_int(raw.get("total"), INT32),
        errors=loose_int(raw.get("errors"), INT32),
        cost=loose_int(raw.get("cost")),
        max_cost=loose_int(raw.get("maxcost"), INT32),
        min_cost=loose_int(raw.get("mincost"), INT32),
        value=loose_int(raw.get("value")),
        spans=spans,
    )


def _spans(raw: object, *, failed: bool) -> tuple[SpanRow, ...]:
    if not isinstance(raw, list):
        return ()
    spans = []
    for item in raw:
        span = members(item)
        if not span:
            continue
        start = loose_time(span.get("starttime"))
        error = clean(span.get("error"), TEXT_LIMIT)
        spans.append(
            SpanRow(
                span_id=clean(span.get("id"), ID_LIMIT),
                parent_id=clean(span.get("parentid"), ID_LIMIT),
                trace_id=clean(span.get("traceid"), ID_LIMIT),
                start_time=start,
                end_time=max(loose_time(span.get("endtime")), start),
                value=loose_int(span.get("value")),
                tag=clean(span.get("tag"), TEXT_LIMIT),
                error=error,
                failed=failed or bool(error),
            )
        )
    return tuple(spans)


def within(builder: BuilderRow, now: int, retention_days: float) -> bool:
    """Whether the times of a builder can be stored: not older than the retention, not over a day ahead."""
    return now - retention_days * DAY_MS <= builder.start_time <= now + DAY_MS


def plausible(builder: BuilderRow, now: int) -> BuilderRow:
    """A builder without any readable time counts as of now; spans whose times are nonsense start with the builder.

    One absurd time would otherwise lead every list of the latest or the slowest traces.
    """
    start = builder.start_time or now
    low, high = start - DAY_MS, now + DAY_MS

    def repaired(span: SpanRow) -> SpanRow:
        begin = span.start_time if low <= span.start_time <= high else start
        cost = span.end_time - span.start_time
        return replace(span, start_time=begin, end_time=begin + (cost if 0 <= cost <= _LONGEST_SPAN else 0))

    spans = tuple(repaired(span) for span in builder.spans)
    end = builder.end_time if builder.end_time <= high else start
    return replace(builder, start_time=start, end_time=end, spans=spans)


def kind_of(name: str) -> str:
    """What the platform's console groups by (protocol.md §3.3)."""
    if name.startswith("/"):
        return "api"
    if name[:8].lower().startswith(("http://", "https://")):
        return "http"
    if name.startswith("redismq:"):
        return "mq"
    head, colon, _ = name.partition(":")
    return head if colon and head else "other"


@lru_cache(maxsize=512)
def _pattern(wildcard: str) -> re.Pattern[str]:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in re.sub(r"\*+", "*", wildcard))
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def matches(wildcard: str, text: str) -> bool:
    """`*` any run, `?` one character, the whole string, case ignored (protocol.md §5.7)."""
    return _pattern(wildcard).fullmatch(text) is not None
