"""What happened to a published state, for tracing and tools. Paths only, never values. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.tracing.tracer import Tracer

SPAN = "config:publish"


class Published(NamedTuple):
    """One state of the center that one settings class judged. ``start`` is ``time.perf_counter_ns()`` before the judgement.

    ``paths`` are the fields that changed, or the ones that were refused.
    """

    settings: str
    app_id: str
    scope: str
    version: int
    accepted: bool
    paths: tuple[str, ...]
    start: int

    def __str__(self) -> str:
        where = f"{self.app_id}/{self.scope}" if self.scope else self.app_id
        outcome = "applied" if self.accepted else "refused"
        return f"{self.settings} {where} v{self.version} {outcome}: {', '.join(self.paths) or 'nothing changed'}"


_listeners: tuple[Callable[[Published], object], ...] = ()


def subscribe(listener: Callable[[Published], object]) -> Callable[[], None]:
    """Call ``listener`` after each judgement, on the thread that fetched; it must not raise. Returns how to end that."""
    global _listeners
    _listeners = (*_listeners, listener)

    def end() -> None:
        global _listeners
        _listeners = tuple(entry for entry in _listeners if entry is not listener)

    return end


def emit(event: Published) -> None:
    """Tell everybody."""
    for listener in _listeners:
        listener(event)


def trace_publishes(tracer: Tracer) -> Callable[[], None]:
    """Record each applied or refused change as a span ``config:publish``; a refusal is an error. Returns how to end that."""

    def record(event: Published) -> None:
        error = None if event.accepted else f"refused: {', '.join(event.paths)}"
        tracer.record(SPAN, event.start, None, str, (event,), error)

    return subscribe(record)
