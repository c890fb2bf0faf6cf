"""``stardustctl traces`` and ``trace``: what the embedded server has been told."""

import shutil
import sys
from typing import Annotated, Literal

import typer
from rich.text import Text

from stardust_auto.ctl import options
from stardust_auto.ctl.admin import segment
from stardust_auto.ctl.center import as_int, as_object
from stardust_auto.ctl.errors import CtlError
from stardust_auto.ctl.output import cells, clock, count, duration, emit_json, fit, plain, say, show_table
from stardust_auto.ctl.target import find_target

#: More spans than this are not asked for.
_MOST_SPANS = 100_000
#: Levels that are indented.
_DEPTH = 20


def traces(
    sort: Annotated[Literal["slow", "recent"], typer.Option("--sort", help="Slowest or newest first.")] = "recent",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 20,
    server: options.Server = None,
    app: options.App = None,
    json_output: options.Json = False,
) -> None:
    """List sampled traces; without --app those of all applications."""
    found = rows_of(find_target(server).admin().get("traces", app=app, sort=sort, limit=limit))
    if json_output:
        emit_json(found)
        return
    if not found:
        say("no trace has been sampled yet (reports come once a period)")
        return
    show_table(
        ("trace", "application", "operation", "started", ("took", "right"), ("spans", "right"), "error"),
        (
            (
                entry.get("trace_id"),
                entry.get("app"),
                entry.get("name"),
                clock(entry.get("start_time")),
                duration(entry.get("cost")),
                entry.get("spans"),
                Text("yes", style="red") if entry.get("error") else "",
            )
            for entry in found
        ),
    )


def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the trace.")],
    tags: Annotated[bool, typer.Option("--tags", help="With the tag of each span on the line below it.")] = False,
    server: options.Server = None,
    json_output: options.Json = False,
) -> None:
    """Show one trace as a waterfall, across all its processes, in the width of the terminal (or COLUMNS)."""
    found = as_object(find_target(server).admin().get(f"traces/{segment(trace_id)}", limit=_MOST_SPANS))
    spans = rows_of(found.get("spans"))
    if not spans:
        raise CtlError(f"no trace {trace_id!r} is known to the server")
    if json_output:
        emit_json(found)
        return
    for line in waterfall(found, spans, tags=tags):
        say(line)


def waterfall(found: dict[str, object], spans: list[dict[str, object]], *, tags: bool) -> list[str]:
    """The lines of a trace. Names are cut in their middle, so that every line fits."""
    width = min(max(shutil.get_terminal_size((100, 40)).columns, 60), 200)
    block = "\u2588" if (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf") else "#"
    begin = min(_start(span) for span in spans)
    whole = max(max(_start(span) + _cost(span) for span in spans) - begin, 0.001)
    total = as_int(found.get("total")) or len(spans)
    lines = [
        f"trace {found.get('trace_id')}: {count(total, 'span')}, {duration(whole)}, {clock(begin)}",
        "",
    ]
    if total > len(spans):
        lines.insert(1, f"shown are the first {len(spans)} of {total} spans")
    took = max(len(duration(_cost(span))) for span in spans)
    app = min(max(cells(str(span.get("app"))) for span in spans), 16 if width >= 80 else 8)
    names = min(max(cells(_name(span)) for span in spans), max(width - app - took - 28, 16))
    room = max(width - app - names - took - 8, 10)
    for span in spans:
        left = min(int((_start(span) - begin) / whole * room), room - 1)
        size = min(max(round(_cost(span) / whole * room), 1), room - left)
        bar = " " * left + block * size
        lines.append(
            f"{fit(str(span.get('app')), app)}  {fit(_name(span), names)}  {duration(_cost(span)).rjust(took)}  |{bar}"
        )
        below = []
        if span.get("error"):
            below.append(f"! {first_line(span.get('error'), width)}")
        if tags and span.get("tag"):
            below.append(first_line(span.get("tag"), width))
        indent = " " * (app + 4 + 2 * min(as_int(span.get("depth")), _DEPTH))
        lines += [fit(f"{indent}{plain(text)}", width).rstrip() for text in below]
    return lines


def _name(span: dict[str, object]) -> str:
    return "  " * min(as_int(span.get("depth")), _DEPTH) + plain(span.get("name"))


def _start(span: dict[str, object]) -> float:
    return as_int(span.get("start_us")) / 1000 or as_int(span.get("start_time"))


def _cost(span: dict[str, object]) -> float:
    cost = span.get("cost")
    return float(cost) if isinstance(cost, (int, float)) else 0.0


def first_line(text: object, limit: int = 100) -> str:
    """The first line of a tag, cut to ``limit`` characters."""
    line = str(text or "").strip().partition("\n")[0].strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."


def rows_of(found: object) -> list[dict[str, object]]:
    """The JSON objects of a list, and nothing where the server sent something else."""
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
