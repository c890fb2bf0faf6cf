"""Messages of the trace API (protocol.md §3.1, §12.2), and the exact writing of builders.

``write_builder`` is written by hand: it runs for every operation of every period, on the interpreter lock of the
application, and must not let anything pass that StarServer drops in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.wire import fields
from stardust_auto.wire.fields import Message
from stardust_auto.wire.text import NAME_LIMIT, TAG_LIMIT, amount, clean_id, clean_text, count, int64, integer

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class SampleRecord(Message):
    """One span on the wire: no name, no cost (§3.1). Times in Unix milliseconds."""

    id: str | None = fields.ident("Id")
    parent_id: str | None = fields.ident("ParentId")
    trace_id: str | None = fields.ident("TraceId")
    start_time: int = fields.int64("StartTime")
    end_time: int = fields.int64("EndTime")
    value: int = fields.int64("Value")
    tag: str | None = fields.text("Tag", TAG_LIMIT)
    trace_flag: int = fields.int32("TraceFlag")
    error: str | None = fields.text("Error", TAG_LIMIT)


@dataclass(frozen=True, slots=True)
class BuilderRecord(Message):
    """The aggregate of one operation in one period. ``cost`` is the sum in ms; ``min_cost`` -1 = none."""

    name: str | None = fields.text("Name", NAME_LIMIT)
    start_time: int = fields.int64("StartTime")
    end_time: int = fields.int64("EndTime")
    total: int = fields.int32("Total")
    errors: int = fields.int32("Errors")
    cost: int = fields.int64("Cost")
    max_cost: int = fields.int32("MaxCost")
    min_cost: int = fields.int32("MinCost")
    value: int = fields.int64("Value")
    samples: tuple[SampleRecord, ...] | None = fields.objects("Samples", SampleRecord)
    error_samples: tuple[SampleRecord, ...] | None = fields.objects("ErrorSamples", SampleRecord)


@dataclass(frozen=True, slots=True)
class TraceReport(Message):
    """Body of /Trace/Report and, as gzip, of /Trace/ReportRaw.

    ``batch_id`` is an extra member that StarServer ignores and the embedded server uses to recognise a repeated batch.
    """

    app_id: str | None = fields.ident("AppId")
    app_name: str | None = fields.text("AppName", 50)
    client_id: str | None = fields.ident("ClientId")
    version: str | None = fields.version("Version")
    batch_id: str | None = fields.ident("BatchId")
    builders: tuple[BuilderRecord, ...] | None = fields.objects("Builders", BuilderRecord)


@dataclass(frozen=True, slots=True)
class TraceReply(Message):
    """``data`` of a report. ``period`` in seconds, ``timeout`` in ms; ``excludes`` replaces the list, also when null.

    ``batch_id`` echoes the batch: only a server that keeps each batch once writes it (docs/reliability.md).
    """

    _nulls: ClassVar[bool] = True
    _camel: ClassVar[bool] = True

    period: int = fields.int32("Period")
    max_samples: int = fields.int32("MaxSamples")
    max_errors: int = fields.int32("MaxErrors")
    timeout: int = fields.int32("Timeout")
    max_tag_length: int = fields.int32("MaxTagLength")
    request_tag_length: int = fields.int32("RequestTagLength")
    enable_meter: bool | None = fields.maybe_bool("EnableMeter")
    excludes: tuple[str, ...] | None = fields.texts("Excludes")
    batch_id: str | None = fields.ident("BatchId")

    def to_policy(self) -> TracePolicy:
        """What the tracer applies: zero means "not said"; no server can make us keep samples without bound."""
        return TracePolicy(
            period=_within(self.period, 1, 3600),
            max_samples=_within(self.max_samples, 1, 1000),
            max_errors=_within(self.max_errors, 1, 1000),
            timeout=_within(self.timeout, 1, 3_600_000),
            max_tag_length=_within(self.max_tag_length, 1, TAG_LIMIT),
            request_tag_length=min(self.request_tag_length, TAG_LIMIT) if self.request_tag_length else None,
            enable_meter=self.enable_meter,
            excludes=self.excludes or (),
        )


def _within(value: int, low: int, high: int) -> int | None:
    return max(low, min(value, high)) if value > 0 else None


class SampleLike(Protocol):
    """What is written of a sample: ``tracing.builder.Sample`` has it."""

    @property
    def id(self) -> str: ...
    @property
    def parent_id(self) -> str: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def start_time(self) -> int: ...
    @property
    def end_time(self) -> int: ...
    @property
    def value(self) -> int: ...
    @property
    def tag(self) -> str: ...
    @property
    def flag(self) -> int: ...
    @property
    def error(self) -> str: ...


class BuilderLike(Protocol):
    """What is written of a builder: ``tracing.builder.SpanBuilder`` has it."""

    @property
    def name(self) -> str: ...
    @property
    def start_time(self) -> int: ...
    @property
    def end_time(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def cost(self) -> int: ...
    @property
    def max_cost(self) -> int: ...
    @property
    def min_cost(self) -> int: ...
    @property
    def value(self) -> int: ...
    @property
    def samples(self) -> Sequence[SampleLike]: ...
    @property
    def error_samples(self) -> Sequence[SampleLike]: ...


def write_builder(builder: BuilderLike, shift: int = 0) -> dict[str, Any]:
    """A builder as a JSON object that a strict reader takes, without samples. Its ``Name`` may be empty: do not send it.

    ``shift`` ms are added to all times: the difference between the server's clock and ours.
    """
    start = _time(builder.start_time, shift)
    return {
        "Name": clean_text(builder.name, NAME_LIMIT).strip(),
        "StartTime": start,
        "EndTime": max(start, _time(builder.end_time, shift)),
        "Total": count(builder.total),
        "Errors": count(builder.errors),
        "Cost": amount(builder.cost),
        "MaxCost": count(builder.max_cost),
        "MinCost": integer(builder.min_cost, -1, 2**31 - 1),
        "Value": int64(builder.value),
    }


def write_sample(sample: SampleLike, shift: int = 0) -> dict[str, Any]:
    """A sample as a JSON object. A span is never its own parent: such a trace has no root (§3.4)."""
    span_id = clean_id(sample.id)
    parent_id = clean_id(sample.parent_id)
    start = _time(sample.start_time, shift)
    written = {
        "Id": span_id,
        "ParentId": parent_id if parent_id and parent_id != span_id else None,
        "TraceId": clean_id(sample.trace_id),
        "StartTime": start,
        "EndTime": min(max(start, _time(sample.end_time, shift)), start + 2**31 - 1),
        "Value": int64(sample.value),
        "Tag": clean_text(sample.tag, TAG_LIMIT) or None,
        "TraceFlag": integer(sample.flag, 0, 255),
        "Error": clean_text(sample.error, TAG_LIMIT) or None,
    }
    return {name: value for name, value in written.items() if value is not None}


def _time(value: object, shift: int) -> int:
    return min(amount(amount(value) + shift), 253_402_300_799_999)  # the last moment that a .NET DateTime can hold
