"""``/Trace``: reports in, the sampling policy out (protocol.md §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import CallError
from stardust_auto.server.reports import read_report
from stardust_auto.wire.messages import TraceReply
from stardust_auto.wire.text import ID_LIMIT, clean_text
from stardust_auto.wire.wildcards import matches

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call, Caller
    from stardust_auto.server.store.apps import App
    from stardust_auto.wire.messages import TraceReport

_VIP_PERIOD_SECONDS = 10
_VIP_SAMPLES = 100
#: Bytes of JSON of a report without a token: nobody has proved a secret for it.
_TOKENLESS_BYTES = 1 << 20


def report(call: Call) -> TraceReply | None:
    """POST /Trace/Report: JSON. A body that cannot be read is ``data: null``, as with a StarServer."""
    caller = reporter(call)
    call.require_json(empty=True)
    try:
        parsed = _parse(call, caller)
    except ValueError:
        return None
    return _store(call, caller, parsed)


def report_raw(call: Call) -> TraceReply | None:
    """POST /Trace/ReportRaw: gzip or JSON, whatever the content type says."""
    caller = reporter(call)
    if not call.body:
        return None
    try:
        parsed = _parse(call, caller)
    except ValueError as error:
        raise CallError(500, f"Non standard Json string: {error}") from error
    return _store(call, caller, parsed)


def reporter(call: Call) -> Caller | None:
    """The caller by its token; ``None`` for a report without one from an address where an instance is logged in.

    The official Python, PHP and JavaScript SDKs never send a token (protocol.md §12.6). The address is checked before
    the body, so that a stranger cannot make the server parse.
    """
    if not call.token() and call.services.store.instances.known_at(call.address):
        return None
    return call.caller(traced=False)


def _parse(call: Call, caller: Caller | None) -> TraceReport:
    limit = call.services.settings.max_decompressed
    if caller is None:
        limit = min(limit, _TOKENLESS_BYTES)
        if len(call.body) > limit:
            raise ValueError(f"a report without a token has at most {limit} bytes")
    return read_report(call.body, limit)


def _reporter(call: Call, parsed: TraceReport) -> tuple[App, str]:
    """The application and instance that a report without a token names.

    Raises:
        CallError: 401, that instance has not logged in from this address, or is gone.
    """
    app = call.services.store.apps.find((parsed.app_id or "").strip())
    client_id = clean_text(parsed.client_id, ID_LIMIT).strip()
    known = app is not None and call.services.store.instances.known_at(call.address, app.id, client_id)
    if app is None or not app.enabled or not known:
        raise CallError(401, "认证失败")
    return app, client_id


def _store(call: Call, caller: Caller | None, parsed: TraceReport) -> TraceReply:
    app, client_id = (caller.app, caller.client_id) if caller is not None else _reporter(call, parsed)
    name = (parsed.app_id or "").strip()
    if name and name.lower() != app.name.lower():
        raise CallError(403, f"the token is for {app.name}, not for {name}")
    store = call.services.store
    if parsed.info is not None and app.policy.enable_meter:
        store.instances.ping(app.id, client_id, call.address, parsed.info)
    else:
        store.instances.seen(app.id, client_id, call.address)
    store.traces.store(app, client_id, parsed)
    policy = app.policy
    vip = matches(policy.vip_clients, client_id)
    return TraceReply(
        period=_VIP_PERIOD_SECONDS if vip else policy.period,
        max_samples=_VIP_SAMPLES if vip else policy.max_samples,
        max_errors=policy.max_errors,
        timeout=policy.timeout,
        max_tag_length=policy.max_tag_length,
        request_tag_length=policy.request_tag_length,
        enable_meter=policy.enable_meter,
        excludes=policy.excludes if policy.excludes and parsed.version else None,
        batch_id=parsed.batch_id or None,  # tells the client that it may send the batch again
    )


def tree(call: Call) -> dict[str, Any]:
    """GET /Trace/Tree?id=...: a trace in which the caller's application has a span. An extra of this server."""
    caller = call.caller(traced=False)
    wanted = call.query.get("id", "")
    spans = call.services.store.trees.trace(wanted)
    if not any(span["app"].lower() == caller.app.name.lower() for span in spans):
        raise CallError(404, f"no trace {clean_text(wanted, 60)}")
    return trace_object(wanted, spans)


def trace_object(wanted: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    """A trace as the Admin API and ``/Trace/Tree`` give it."""
    parts = wanted.strip().split("-")
    return {"trace_id": parts[1] if len(parts) >= 4 else parts[0], "spans": spans}


def set_hot_app(call: Call) -> None:
    """POST /Trace/SetHotApp: accepted, without effect; no envelope."""
    call.caller(traced=False)
