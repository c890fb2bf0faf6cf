"""`/Trace`: reports in, the sampling policy out (protocol.md §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.server.api.apps import INFO
from stardust_auto.server.errors import CallError
from stardust_auto.server.reading import clean, decompress, loose_int, loose_time, parse_json
from stardust_auto.server.reports import matches, read_report

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.reports import Report
    from stardust_auto.server.store.apps import App

_GZIP = b"\x1f\x8b"


def report(call: Call) -> dict[str, Any] | None:
    """POST /Trace/Report: JSON. What cannot be read at all is `data: null`, as with a real StarServer."""
    caller_first = call.caller(traced=False)  # before the body: nobody without a token makes us parse
    call.require_json(empty=True)
    try:
        value = parse_json(_plain(call))
    except ValueError:
        return None
    parsed = read_report(value)
    return None if parsed is None else _store(call, caller_first.app, caller_first.client_id, parsed)


def report_raw(call: Call) -> dict[str, Any] | None:
    """POST /Trace/ReportRaw: gzip, recognised by its first bytes, or JSON whatever its content type."""
    caller = call.caller(traced=False)
    if not call.body:
        return None
    try:
        parsed = read_report(parse_json(_plain(call)))
    except ValueError as exc:
        raise CallError(500, f"Non standard Json string: {exc}") from exc
    if parsed is None:
        raise CallError(500, "Non standard Json string: not an object")
    return _store(call, caller.app, caller.client_id, parsed)


def _plain(call: Call) -> bytes:
    if not call.body.startswith(_GZIP):
        return call.body
    return decompress(call.body, call.services.settings.max_decompressed)


def _store(call: Call, app: App, token_client: str, parsed: Report) -> dict[str, Any]:
    if parsed.app_id and parsed.app_id.lower() != app.name.lower():
        raise CallError(403, f"[{app.name}]越权访问应用[{parsed.app_id}] (the token is for another application)")
    store = call.services.store
    client_id = token_client
    if parsed.info and app.enable_meter:
        store.instances.ping(app.id, client_id, call.address, _info(parsed.info))
    else:
        store.instances.seen(app.id, client_id, call.address)
    store.traces.store(app, client_id, parsed)
    policy: dict[str, Any] = {
        "period": app.period,
        "maxSamples": app.max_samples,
        "maxErrors": app.max_errors,
        "timeout": app.timeout,
        "maxTagLength": app.max_tag_length,
        "requestTagLength": app.request_tag_length,
        "enableMeter": app.enable_meter,
        "excludes": list(app.excludes) if app.excludes and parsed.version else None,
    }
    if any(matches(pattern, client_id) for pattern in app.vip_clients):
        policy |= {"period": 10, "maxSamples": 100}
    if parsed.batch_id:
        policy["batchId"] = parsed.batch_id  # says that a batch is kept once: the client may send it again
    return policy


def _info(info: dict[str, Any]) -> dict[str, Any]:
    """AppInfo inside a report, read loosely: a bad metric must not cost the traces."""
    values: dict[str, Any] = {}
    for name, kind in INFO.items():
        value = info.get(name.lower())
        if value is None:
            continue
        if kind == "text":
            values[name.lower()] = clean(value, 2000)
        elif kind == "date":
            values[name.lower()] = loose_time(value)
        elif kind == "double":
            values[name.lower()] = float(value) if isinstance(value, (int, float)) and abs(value) < 1e12 else 0.0
        else:
            values[name.lower()] = loose_int(value)
    return values


def tree(call: Call) -> dict[str, Any]:
    """GET /Trace/Tree?id=...: a trace in which the caller's application has a span. An extra of this server."""
    caller = call.caller(traced=False)
    wanted = call.query.get("id", "")
    spans = call.services.store.trees.trace(wanted)
    if not any(span["app"].lower() == caller.app.name.lower() for span in spans):
        raise CallError(404, f"no trace {clean(wanted, 60)}")
    return trace_object(wanted, spans)


def trace_object(wanted: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    """A trace as the Admin API and `/Trace/Tree` give it."""
    parts = wanted.strip().split("-")
    return {"trace_id": parts[1] if len(parts) >= 4 else parts[0], "spans": spans}


def set_hot_app(call: Call) -> None:
    """POST /Trace/SetHotApp: accepted, without effect; no envelope."""
    call.caller(traced=False)
