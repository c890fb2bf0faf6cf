"""``stardustctl apps``, ``traces`` and ``trace``: what the embedded server has been told."""

from typing import Annotated, Literal

import typer
from rich.text import Text

from stardust_auto.ctl import options
from stardust_auto.ctl.admin import segment
from stardust_auto.ctl.center import as_int, as_object
from stardust_auto.ctl.errors import CtlError
from stardust_auto.ctl.output import clock, count, duration, emit_json, plain, say, show_table
from stardust_auto.ctl.target import find_target

#: Columns of the bar in a waterfall.
BAR_WIDTH = 40


def apps(server: options.Server = None, json_output: options.Json = False) -> None:
    """List the applications and their running instances."""
    found = _rows(find_target(server).admin().get("apps"))
    if json_output:
        emit_json(found)
        return
    if not found:
        say("no application has logged in yet")
        return
    show_table(
        ("application", "version", ("online", "right"), ("seen", "right"), ("period", "right"), "state", "online as"),
        (
            (
                entry.get("name"),
                entry.get("version"),
                len([one for one in _rows(entry.get("instances")) if one.get("online")]),
                len(_rows(entry.get("instances"))),
                f"{entry.get('period')} s",
                "enabled" if entry.get("enabled", True) else Text("disabled", style="yellow"),
                ", ".join(str(one.get("client_id")) for one in _rows(entry.get("instances")) if one.get("online")),
            )
            for entry in found
        ),
    )


def traces(
    sort: Annotated[Literal["slow", "recent"], typer.Option("--sort", help="Slowest or newest first.")] = "recent",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 20,
    server: options.Server = None,
    app: options.App = None,
    json_output: options.Json = False,
) -> None:
    """List sampled traces; without --app those of all applications."""
    found = _rows(find_target(server).admin().get("traces", app=app, sort=sort, limit=limit))
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
                _error(entry),
            )
            for entry in found
        ),
    )


def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the trace.")],
    server: options.Server = None,
    json_output: options.Json = False,
) -> None:
    """Show one trace as a waterfall, across all its processes."""
    found = as_object(find_target(server).admin().get(f"traces/{segment(trace_id)}"))
    spans = _rows(found.get("spans"))
    if not spans:
        raise CtlError(f"no trace {trace_id!r} is known to the server")
    if json_output:
        emit_json(found)
        return
    begin = min(as_int(span.get("start_time")) for span in spans)
    end = max(as_int(span.get("end_time")) for span in spans)
    say(
        f"trace {found.get('trace_id') or trace_id}: {count(len(spans), 'span')}, {duration(end - begin)}, {clock(begin)}"
    )
    show_table(
        ("application", "operation", ("took", "right"), "when", "tag"),
        (
            (
                span.get("app"),
                Text("  " * as_int(span.get("depth")) + plain(span.get("name"))),
                duration(span.get("cost")),
                _bar(as_int(span.get("start_time")) - begin, as_int(span.get("end_time")) - begin, end - begin, span),
                _error(span) if span.get("error") else first_line(span.get("tag")),
            )
            for span in spans
        ),
        cut=("tag",),
    )


def first_line(text: object, limit: int = 100) -> str:
    """The first line of a tag, cut to ``limit`` characters."""
    line = str(text or "").strip().partition("\n")[0].strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _bar(start: int, end: int, total: int, span: dict[str, object]) -> Text:
    scale = BAR_WIDTH / max(total, 1)
    left = min(int(start * scale), BAR_WIDTH - 1)
    width = max(1, min(round((end - start) * scale), BAR_WIDTH - left))
    return Text(" " * left + "█" * width, style="red" if span.get("error") else "cyan")


def _error(entry: dict[str, object]) -> Text:
    return Text(plain(first_line(entry.get("error"))), style="red")


def _rows(found: object) -> list[dict[str, object]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
