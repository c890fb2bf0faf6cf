"""Making the sample of a call that is kept: the only place where ids, times and tags become text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.tracing.builder import Sample
from stardust_auto.tracing.ids import span_hex, trace_hex
from stardust_auto.tracing.redaction import error_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.tracing.span import Span
    from stardust_auto.tracing.tracer import Tracer

_NS = 1_000_000


def make_sample(
    tracer: Tracer,
    end: int,
    name: str,
    duration: int,
    parent: Any,
    describe: Callable[..., str] | None,
    args: tuple[Any, ...],
    error: BaseException | str | None,
    value: int,
    span: Span | None,
) -> Sample:
    """The sample of a call that ended at ``end`` (Unix nanoseconds)."""
    if span is not None:
        trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_id
        tag = span.tag or span.describe()
    else:
        span_id = span_hex(tracer.ids.span_id())
        if parent is None:
            trace_id, parent_id = trace_hex(tracer.ids.trace_id()), ""
        else:
            trace_id, parent_id = parent.trace_id, parent.span_id
        tag = describe(*args) if describe is not None else ""
    room = tracer.max_tag_length
    note = ""
    if tracer.request_note and span is not None and span.is_request:
        note = f"\r\n{tracer.request_note}"[:room]
    start = end - duration
    start_ms = start // _NS
    return Sample(
        name=name,
        id=span_id,
        parent_id=parent_id,
        trace_id=trace_id,
        start_time=start_ms,
        end_time=start_ms + (duration + _NS // 2) // _NS,
        value=value,
        tag=str(tag)[: room - len(note)] + note,
        flag=1,
        error="" if error is None else error_text(error),
        duration_ns=duration,
        start_ns=start,
    )


def message_of(error: BaseException) -> str:
    """The tag of an ``ex:`` span: type and message."""
    return error_text(error, stack=False)
