"""What became of each snapshot: a settings class uses it, refuses it, or uses it with fields that wait for a restart.

Spans, request notes, pings and status all read this one record. It holds names of fields and versions, never values.
Start-up: an activated process imports this module with its first traced library, so it imports next to nothing.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stardust_auto.config.remote.snapshot import RawSnapshot
    from stardust_auto.tracing.tracer import Tracer

SPAN = "config:publish"


class Verdict(NamedTuple):
    """What one settings class made of one snapshot.

    Attributes:
        settings: name of the class; empty where the program reads the map without a class.
        app_id: application whose map it is.
        scope: scope of the map.
        version: published version of the snapshot.
        content_hash: hash of the values, which tells apart two answers of one version.
        accepted: whether the class uses the snapshot.
        paths: fields that changed, or that were refused; keys where there is no class.
        reason: one line that says why the snapshot was refused, without values.
        pending: fields whose new value waits for a restart.
        started_ns: ``perf_counter_ns()`` before the judgement; 0 if nothing changed, which is no event.
    """

    settings: str
    app_id: str
    scope: str
    version: int
    content_hash: str
    accepted: bool
    paths: tuple[str, ...] = ()
    reason: str = ""
    pending: tuple[str, ...] = ()
    started_ns: int = 0

    @classmethod
    def used(
        cls,
        settings: str,
        raw: RawSnapshot,
        *,
        paths: tuple[str, ...] = (),
        pending: tuple[str, ...] = (),
        started_ns: int = 0,
    ) -> Verdict:
        """``settings`` works with ``raw`` from now on."""
        return cls(settings, raw.app_id, raw.scope, raw.version, raw.content_hash, True, paths, "", pending, started_ns)

    @classmethod
    def refused(
        cls, settings: str, raw: RawSnapshot, reason: str, *, paths: tuple[str, ...] = (), started_ns: int = 0
    ) -> Verdict:
        """``settings`` cannot use ``raw`` and keeps what it has."""
        return cls(settings, raw.app_id, raw.scope, raw.version, raw.content_hash, False, paths, reason, (), started_ns)

    def __str__(self) -> str:
        where = f"{self.app_id}/{self.scope}" if self.scope else self.app_id
        outcome = "applied" if self.accepted else "refused"
        return f"{self.settings or 'keys of'} {where} v{self.version} {outcome}: {', '.join(self.paths) or 'nothing changed'}"


class Standing(NamedTuple):
    """Where one owner stands: the verdict on the state in use, and the refusal after it, if any."""

    used: Verdict | None = None
    refused: Verdict | None = None


class Summary(NamedTuple):
    """What one process made of its configuration, for the center and for people.

    Attributes:
        version: the version that every owner uses; 0 if one uses none.
        refused: the newest version that an owner refused and that is not in use; 0 without one.
        reason: why, in one line.
        restart: fields whose new value waits for a restart.
        label: the application and scope.
    """

    version: int = 0
    refused: int = 0
    reason: str = ""
    restart: tuple[str, ...] = ()
    label: str = ""

    def merged(self, other: Summary) -> Summary:
        """Both together: the older version in use, the newer refusal."""
        refusal = max(self, other, key=lambda summary: summary.refused)
        restart = tuple(dict.fromkeys((*self.restart, *other.restart)))
        return Summary(min(self.version, other.version), refusal.refused, refusal.reason, restart, self.label)


class Verdicts:
    """The newest verdicts on the snapshots of one provider, by owner."""

    def __init__(self) -> None:
        self._standings: weakref.WeakKeyDictionary[object, Standing] = weakref.WeakKeyDictionary()
        _ledgers.add(self)

    def report(self, owner: object, verdict: Verdict) -> bool:
        """Record ``verdict``; return whether it says something new.

        A refusal leaves the state in use as it is. A use ends the refusal before it.
        """
        before = self._standings.get(owner, Standing())
        after = Standing(verdict) if verdict.accepted else Standing(before.used, verdict)
        self._standings[owner] = after
        if verdict.started_ns:
            for listener in _listeners:
                listener(verdict)
        if _essence(before.used) != _essence(after.used):
            _update_notes()
        return _essence(before.used) != _essence(after.used) or _essence(before.refused) != _essence(after.refused)

    def forget(self, owner: object) -> None:
        """Drop what ``owner`` reported."""
        if self._standings.pop(owner, None) is not None:
            _update_notes()

    def standings(self) -> tuple[Standing, ...]:
        """One entry for each owner."""
        return tuple(self._standings.values())

    def summary(self) -> Summary | None:
        """All owners together; None while there is none."""
        summaries = [_summary(standing) for standing in self.standings()]
        whole = summaries[0] if summaries else None
        for other in summaries[1:]:
            whole = whole.merged(other) if whole is not None else other
        return whole

    def accept(self, raw: RawSnapshot) -> bool:
        """Whether no owner has refused the content of ``raw``."""
        return all(
            standing.refused is None or standing.refused.content_hash != raw.content_hash
            for standing in self.standings()
        )


def _summary(standing: Standing) -> Summary:
    used, refused = standing
    either = refused or used
    label = (
        f"{either.app_id}/{either.scope}" if either is not None and either.scope else either.app_id if either else ""
    )
    return Summary(
        version=used.version if used is not None else 0,
        refused=refused.version if refused is not None else 0,
        reason=f"{refused.settings}: {refused.reason}" if refused is not None else "",
        restart=used.pending if used is not None else (),
        label=label,
    )


def _essence(verdict: Verdict | None) -> tuple[object, ...] | None:
    """What makes two verdicts different for a reader; the moment and the changed paths do not."""
    return verdict and (
        verdict.app_id,
        verdict.scope,
        verdict.version,
        verdict.content_hash,
        verdict.reason,
        verdict.pending,
    )


#: The records of all providers in this process: a traced request names every version in use.
_ledgers: weakref.WeakSet[Verdicts] = weakref.WeakSet()
_tracers: tuple[tuple[Tracer, str], ...] = ()
_listeners: tuple[Callable[[Verdict], object], ...] = ()


def changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """The keys that differ between two maps, sorted."""
    return tuple(key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key))


def version_note(app_id: str = "") -> str:
    """Return ``config: shop/prod v7`` for one application or for all; empty while no center is in use."""
    used = [standing.used for ledger in list(_ledgers) for standing in ledger.standings() if standing.used is not None]
    places = {
        f"{verdict.app_id}/{verdict.scope} v{verdict.version}"
        if verdict.scope
        else f"{verdict.app_id} v{verdict.version}"
        for verdict in used
        if verdict.version and app_id.lower() in ("", verdict.app_id.lower())
    }
    return f"config: {', '.join(sorted(places))}" if places else ""


def _update_notes() -> None:
    for tracer, app_id in _tracers:
        tracer.request_note = version_note(app_id)


def trace_publishes(tracer: Tracer, app_id: str = "") -> Callable[[], None]:
    """Record each applied or refused change as a span ``config:publish``; a refusal is an error.

    Meanwhile the tag of each sampled request ends with the version in use.

    Args:
        tracer: records the spans.
        app_id: only changes of this application; all if empty.

    Returns:
        A function that ends the recording.
    """
    global _listeners, _tracers

    def record(verdict: Verdict) -> None:
        if app_id.lower() in ("", verdict.app_id.lower()):
            error = None if verdict.accepted else f"refused: {', '.join(verdict.paths)}"
            tracer.record(SPAN, verdict.started_ns, None, str, (verdict,), error)

    _tracers = (*_tracers, (tracer, app_id))
    _listeners = (*_listeners, record)
    _update_notes()

    def end() -> None:
        global _listeners, _tracers
        _listeners = tuple(entry for entry in _listeners if entry is not record)
        _tracers = tuple(entry for entry in _tracers if entry[0] is not tracer)
        tracer.request_note = ""

    return end
