"""A trace report as it is stored: what a strict reader loses in silence is kept or repaired (protocol.md §12.2)."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from stardust_auto.wire.envelope import parse_json
from stardust_auto.wire.messages import Builder, Sample, TraceReport

if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY_MS = 86_400_000
#: Clients discard a longer span (protocol.md §5.4).
_LONGEST_SPAN_MS = 3_600_000
_GZIP = b"\x1f\x8b"
#: Commas, braces and brackets of a report: each may cost 70 bytes of memory. Our own client stays below 800,000.
_MOST_ELEMENTS = 1_500_000
#: A body may be this many times larger than its compressed form, once it is larger than a megabyte.
_MOST_RATIO = 200


def read_report(body: bytes, limit: int) -> TraceReport:
    """The report in ``body``, JSON or gzip, which its first bytes tell. At most ``limit`` bytes are decompressed.

    Raises:
        ValueError: a truncated gzip, more than ``limit`` bytes, malformed JSON, or JSON that is not an object.
    """
    plain = _decompress(body, limit) if body.startswith(_GZIP) else body
    if sum(plain.count(mark) for mark in (b",", b"{", b"[")) > _MOST_ELEMENTS:
        raise ValueError(f"a report may have at most {_MOST_ELEMENTS} elements")
    value = parse_json(plain)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return TraceReport.from_wire(value)


def _decompress(body: bytes, limit: int) -> bytes:
    limit = min(limit, max(len(body) * _MOST_RATIO, 1_000_000))
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a whole gzip body: {error}") from error
    if len(data) > limit:
        raise ValueError(f"a body may decompress to at most {limit} bytes")
    return data


def spans_of(builder: Builder) -> Iterator[tuple[Sample, bool]]:
    """Every sample of a builder, and whether its call failed."""
    for sample in builder.samples or ():
        yield sample, bool(sample.error)
    for sample in builder.error_samples or ():
        yield sample, True


def within(builder: Builder, now: int, retention_days: float) -> bool:
    """Whether the times of a builder can be stored: not older than the retention, at most a day ahead."""
    return now - retention_days * _DAY_MS <= builder.start_time <= now + _DAY_MS


def plausible(builder: Builder, now: int) -> Builder:
    """``builder`` with its name on one line and its times repaired.

    A builder without a time starts with its first span, else now. A span with an absurd time starts with its builder;
    it would otherwise lead every list of the latest or the slowest traces.
    """
    samples, errors = builder.samples or (), builder.error_samples or ()
    start = builder.start_time or min((sample.start_time for sample in (*samples, *errors)), default=0) or now
    low, high = start - _DAY_MS, now + _DAY_MS

    def repaired(sample: Sample) -> Sample:
        begin = sample.start_time if low <= sample.start_time <= high else start
        cost = sample.end_time - sample.start_time
        if begin != sample.start_time:  # its clock is wrong, so its length is limited to what the builder counted
            cost = min(cost, builder.max_cost)
        end = begin + (cost if 0 <= cost <= _LONGEST_SPAN_MS else 0)
        # Microseconds are believed where they say the same as the milliseconds.
        same = abs(sample.start_us // 1000 - begin) <= 2 and abs(sample.end_us // 1000 - end) <= 2
        start_us, end_us = (sample.start_us, max(sample.end_us, sample.start_us)) if same else (0, 0)
        return replace(sample, start_time=begin, end_time=end, start_us=start_us, end_us=end_us)

    return replace(
        builder,
        name=" ".join(builder.name.split()),
        start_time=start,
        end_time=builder.end_time if builder.end_time <= high else start,
        samples=tuple(map(repaired, samples)),
        error_samples=tuple(map(repaired, errors)),
    )
