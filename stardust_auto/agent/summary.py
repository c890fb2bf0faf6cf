"""What ``--summary`` shows when the program ends: its operations, and its slowest trace as a waterfall.

Plain text on stderr, in the width of the terminal. Spans of other processes come from the server, where it tells
applications about their traces (our embedded server does; a StarServer answers 404 and the own spans are shown).
"""

from __future__ import annotations

import os
import sys
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stardust_auto.process.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stardust_auto.environment.settings import AgentSettings
    from stardust_auto.session.session import Session
    from stardust_auto.tracing.builder import OperationTotal, Sample
    from stardust_auto.tracing.tracer import Tracer

    class Summarized(Protocol):
        """What the summary reads of the agent."""

        settings: AgentSettings
        tracer: Tracer

        @property
        def app_id(self) -> str: ...
        @property
        def started(self) -> bool: ...
        @property
        def session(self) -> Session: ...
        def flush(self, timeout: float) -> bool: ...


_ROWS = 40
_WIDTHS = (60, 160)
_EXCEPTION = "ex:"
#: Seconds left for logging out when everything else has used up the budget.
_LEAVE = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """One span of the waterfall. Times in nanoseconds since the epoch; ``exact`` if known below the millisecond."""

    span_id: str
    parent_id: str
    app: str
    name: str
    start: int
    duration: int
    error: str
    exact: bool


def write(agent: Summarized, deadline: float) -> None:
    """Report what is left, then write the summary to stderr, by ``deadline`` (monotonic seconds). Never raises."""
    try:
        arrived = agent.flush(max(deadline - monotonic() - _LEAVE, 0.0)) if agent.started else False
        history = agent.tracer.history()
        samples = slowest(history)
        rows = [_own(sample, agent.app_id) for sample in samples]
        if rows and arrived:
            rows = merged(rows, fetch(agent, samples[0].trace_id, deadline - monotonic()))
        totals = agent.tracer.totals()
        lines = [*table(totals, _width()), *waterfall(rows, _width(), _bar(), remark(samples, totals))]
        if agent.settings.servers and not arrived and agent.started:
            lines.append(
                "The server did not take the last report in time; the figures above are those of this process."
            )
        if lines and sys.stderr is not None:
            sys.stderr.write("\n".join(["", *lines, ""]))
            sys.stderr.flush()
    except Exception as error:  # noqa: BLE001 - the program has ended well; its exit code is not ours to change
        if sys.stderr is not None:
            sys.stderr.write(f"stardust-auto: no summary, {type(error).__name__}: {error}\n")


def table(totals: Iterable[OperationTotal], width: int) -> list[str]:
    """The operations, the most expensive first, and under them how often each exception was raised."""
    totals = list(totals)
    rows = [one for one in totals if not one.name.startswith(_EXCEPTION)]
    if not rows:
        return ["stardust-auto: no operation was recorded."]
    figures = [
        ("operation", "count", "errors", "mean", "max"),
        *((one.name, str(one.total), str(one.errors), ms(one.mean_ns), ms(one.max_ns)) for one in rows[:_ROWS]),
    ]
    sizes = [max(len(line[column]) for line in figures) for column in range(1, 5)]
    room = max(width - sum(sizes) - 2 * len(sizes), 20)
    longest = min(max(_cells(line[0]) for line in figures), room)
    lines = [
        _fit(line[0], longest) + "".join("  " + text.rjust(size) for text, size in zip(line[1:], sizes, strict=True))
        for line in figures
    ]
    lines.insert(1, "-" * len(lines[0]))
    if len(rows) > _ROWS:
        lines.append(f"... and {len(rows) - _ROWS} more operations")
    raised = [f"{one.name[len(_EXCEPTION) :]} {one.total}" for one in totals if one.name.startswith(_EXCEPTION)]
    if raised:
        lines.append(_fit(f"exceptions: {', '.join(raised)}", width).rstrip())
    return lines


def slowest(history: Sequence[Sample]) -> list[Sample]:
    """The spans of the slowest trace that was kept, of those that have their beginning."""
    traces: dict[str, list[Sample]] = {}
    for sample in history:
        if not sample.name.startswith(_EXCEPTION):
            traces.setdefault(sample.trace_id, []).append(sample)
    lengths = {trace: _longest(spans) for trace, spans in traces.items()}
    # A call that nothing called and that called nothing is not much of a waterfall.
    several = [trace for trace, spans in traces.items() if len(spans) > 1] or list(traces)
    # Nor is one without its beginning, where the request itself was no sample but something within it was.
    several = [trace for trace in several if any(not one.parent_id for one in traces[trace])] or several
    return traces[max(several, key=lengths.__getitem__)] if several else []


def remark(samples: Sequence[Sample], totals: Iterable[OperationTotal]) -> str:
    """What to say where the table has a larger maximum than the trace that is shown: not every call is kept (protocol.md §5.4)."""
    most = max((one.max_ns for one in totals if not one.name.startswith(_EXCEPTION)), default=0)
    return f" (the longest call took {ms(most)}: no whole trace of it was kept)" if most > _longest(samples) else ""


def _longest(samples: Iterable[Sample]) -> int:
    return max((one.duration_ns for one in samples if not one.name.startswith(_EXCEPTION)), default=0)


def fetch(agent: Summarized, trace_id: str, timeout: float) -> list[Row]:
    """The same trace as the server knows it, so with the spans of other processes; empty if it does not tell."""
    from stardust_auto.errors import StardustError

    if timeout <= 0:
        return []
    try:
        tree: Any = agent.session.call("/Trace/Tree", method="GET", params={"id": trace_id}, timeout=timeout)
    except StardustError:  # a StarServer has no such address; the own spans are shown then
        return []
    spans = tree.get("spans") if isinstance(tree, dict) else None
    return [_foreign(span) for span in spans or () if isinstance(span, dict)]


def merged(own: Iterable[Row], others: Iterable[Row]) -> list[Row]:
    """All spans of a trace, ours in their full precision, and without the additional spans of exceptions."""
    known = {row.span_id: row for row in others if not row.name.startswith(_EXCEPTION)}
    known.update((row.span_id, row) for row in own)
    return list(known.values())


def waterfall(rows: Sequence[Row], width: int, bar: str, remark: str = "") -> list[str]:
    """The spans of one trace, each under its parent, with a bar for when it ran; ``remark`` follows the title."""
    if not rows:
        return []
    ordered = list(_depth_first(rows))
    start = min(row.start for row in rows)
    whole = max(max(row.start + row.duration for row in rows) - start, 1)
    shown = ordered[:_ROWS]
    apps = max(_cells(row.app) for _, row in shown)
    times = max(len(_duration(row)) for _, row in shown)
    names = min(max(_cells(row.name) + 2 * depth for depth, row in shown), max(width - apps - times - 30, 20))
    room = max(width - apps - names - times - 10, 10)
    longest = max(rows, key=lambda row: row.duration)
    lines = ["", f"slowest trace: {_duration(longest)}, {len(rows)} span{'' if len(rows) == 1 else 's'}{remark}"]
    for depth, row in shown:
        left = min(int((row.start - start) / whole * room), room - 1)
        size = min(max(round(row.duration / whole * room), 1), room - left)
        drawn = " " * left + bar * size + " " * (room - left - size)
        name = _fit("  " * depth + row.name, names)
        mark = " !" if row.error else ""
        lines.append(f"{_fit(row.app, apps)}  {name}  {_duration(row).rjust(times)}  |{drawn}|{mark}")
    if len(ordered) > _ROWS:
        lines.append(f"... and {len(ordered) - _ROWS} more spans")
    return lines


def ms(nanoseconds: float) -> str:
    """A duration in milliseconds: two digits after the point below 10 ms, one below 1 s."""
    value = nanoseconds / 1e6
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 1000 else f"{value:.0f} ms"


def _duration(row: Row) -> str:
    return ms(row.duration) if row.exact else f"{row.duration // 1_000_000} ms"


def _own(sample: Sample, app: str) -> Row:
    return Row(
        sample.id, sample.parent_id, app, sample.name, sample.start_ns, sample.duration_ns, sample.error, exact=True
    )


def _foreign(span: dict[str, Any]) -> Row:
    start, end = int(span.get("start_time") or 0), int(span.get("end_time") or 0)
    return Row(
        str(span.get("span_id") or ""),
        str(span.get("parent_id") or ""),
        str(span.get("app") or "?"),
        str(span.get("name") or "?"),
        start * 1_000_000,
        max(end - start, 0) * 1_000_000,
        str(span.get("error") or ""),
        exact=False,
    )


def _depth_first(rows: Sequence[Row]) -> Iterable[tuple[int, Row]]:
    known = {row.span_id for row in rows}
    children: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.start):
        above = row.parent_id if row.parent_id in known and row.parent_id != row.span_id else ""
        children.setdefault(above, []).append(row)
    pending = [(0, row) for row in reversed(children.pop("", []))]
    while pending:
        depth, row = pending.pop()
        yield depth, row
        pending.extend((depth + 1, child) for child in reversed(children.pop(row.span_id, [])))


def _cells(text: str) -> int:
    """Columns of a terminal that ``text`` takes: two for the wide characters of East Asia."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text: str, size: int) -> str:
    """``text`` in exactly ``size`` columns, without control characters, cut in its middle if it is too long."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    while _cells(text) > size:
        half = max((size - 3) // 2, 1)
        text = f"{text[:half]}...{text[len(text) - half :]}" if len(text) > 2 * half + 3 else text[:-1]
    return text + " " * (size - _cells(text))


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        width = int(columns)
    else:
        try:
            width = os.get_terminal_size(2).columns
        except (OSError, ValueError):
            width = 100
    return min(max(width, _WIDTHS[0]), _WIDTHS[1])


def _bar() -> str:
    encoding = (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "")
    return "\u2588" if encoding.startswith("utf") else "#"
