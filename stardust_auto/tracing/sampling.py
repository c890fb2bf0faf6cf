"""Making the sample of a call that is kept: the only place where ids, times and tags become text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.tracing.builder import NS_PER_MS, Sample
from stardust_auto.tracing.ids import IdGenerator, span_hex, trace_hex
from stardust_auto.tracing.redaction import error_text

if TYPE_CHECKING:
    from stardust_auto.tracing.span import Finished


def make_sample(call: Finished, ended: int, ids: IdGenerator, limit: int, note: str) -> Sample:
    """The sample of ``call``.

    Args:
        ended: when the call ended, in Unix nanoseconds.
        ids: makes ids for a call without a span of its own.
        limit: characters of the tag.
        note: last line of the tag of a request that the program answers.
    """
    _, name, duration, parent, describe, args, error, value, span = call
    if span is not None:
        trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_id
        tag = "\r\n".join(text for text in (span.describe(), str(span.tag)) if text)
        note = f"\r\n{note}"[:limit] if note and span.is_request else ""
    else:
        span_id = span_hex(ids.span_id())
        if parent is None:
            trace_id, parent_id = trace_hex(ids.trace_id()), ""
        else:
            trace_id, parent_id = parent.trace_id, parent.span_id
        tag = str(describe(*args)) if describe is not None else ""
        note = ""
    start = ended - duration
    start_ms = start // NS_PER_MS
    return Sample(
        name=name,
        id=span_id,
        parent_id=parent_id,
        trace_id=trace_id,
        start_time=start_ms,
        end_time=start_ms + (duration + NS_PER_MS // 2) // NS_PER_MS,
        value=value,
        tag=tag[: limit - len(note)] + note,
        flag=1,
        error="" if error is None else error_text(error),
        duration_ns=duration,
        start_ns=start,
    )


def message_of(error: BaseException) -> str:
    """The tag of an ``ex:`` span: type and message."""
    return error_text(error, stack=False)
