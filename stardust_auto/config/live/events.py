"""What happened to a published state, for tracing and tools. Paths only, never values. Standard library only, and little of it: an
activated process imports this at its first traced library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.tracing.tracer import Tracer

SPAN = "config:publish"


class Published(NamedTuple):
    """One state of the center that one settings class judged. ``start`` is ``time.perf_counter_ns()`` before the judgement.

    ``paths`` are the fields that changed, or the ones that were refused. ``settings`` is empty, and ``paths`` are keys, where a program
    reads the map without a class.
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
        return f"{self.settings or 'keys of'} {where} v{self.version} {outcome}: {', '.join(self.paths) or 'nothing changed'}"


#: The versions in use, by who uses them: settings classes, or a client that no class reads. Weak once it has entries.
_in_use: MutableMapping[Any, tuple[str, str, int]] = {}
_tracers: tuple[tuple[Tracer, str], ...] = ()
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


def use(owner: object, raw: RawSnapshot) -> None:
    """``owner`` now works with ``raw``: noted on the requests that are sampled from now on."""
    global _in_use
    if type(_in_use) is dict:
        from weakref import WeakKeyDictionary

        _in_use = WeakKeyDictionary()
    state = (raw.app_id, raw.scope, raw.version)
    if _in_use.get(owner) != state:
        _in_use[owner] = state
        _note()


def use_untyped(owner: object, before: RawSnapshot | None, raw: RawSnapshot, start: int) -> None:
    """:func:`use` where no class judges; with ``before``, the state that ``raw`` replaces, the change is told too."""
    use(owner, raw)
    if before is not None:
        old, new = before.values, raw.values
        keys = tuple(key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key))
        emit(Published("", raw.app_id, raw.scope, raw.version, True, keys, start))


def forget(owner: object) -> None:
    """``owner`` works with nothing any more."""
    if _in_use.pop(owner, None) is not None:
        _note()


def version_note(app_id: str = "") -> str:
    """``config: shop/prod v7``; of one application or of all, empty while everything comes from environment and defaults."""
    places = {
        f"{app}/{scope} v{version}" if scope else f"{app} v{version}"
        for app, scope, version in list(_in_use.values())
        if version and app_id.lower() in ("", app.lower())
    }
    return f"config: {', '.join(sorted(places))}" if places else ""


def _note() -> None:
    for tracer, app_id in _tracers:
        tracer.request_note = version_note(app_id)


def trace_publishes(tracer: Tracer, app_id: str = "") -> Callable[[], None]:
    """Record each applied or refused change as a span ``config:publish``; a refusal is an error. Returns how to end that.

    Requests that ``tracer`` samples meanwhile have the version in use on their tag. With ``app_id``: of that application only.
    """
    global _tracers

    def record(event: Published) -> None:
        if app_id.lower() in ("", event.app_id.lower()):
            error = None if event.accepted else f"refused: {', '.join(event.paths)}"
            tracer.record(SPAN, event.start, None, str, (event,), error)

    _tracers = (*_tracers, (tracer, app_id))
    _note()
    end_spans = subscribe(record)

    def end() -> None:
        global _tracers
        end_spans()
        _tracers = tuple(entry for entry in _tracers if entry[0] is not tracer)
        tracer.request_note = ""

    return end
