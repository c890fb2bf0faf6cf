"""Decide what an answer of the center means: use it, hold it back, or ask again.

A StarServer reads the version and the rows through two caches that expire apart. For up to 12 s after a publish its answers are torn:
the old version without the changed keys, or the new version with the old values (protocol.md §12.7).
``decide`` holds the rules of that section for polls, pushes, planned publishes and ``refresh()``. It is pure: time is an argument.

1. An answer that lacks a key that we hold is held back until the key has been missing for ``MISSING_SECONDS``.
2. An announced publish, or an answer that differs from the one before it, is followed by full requests until the answers
   have been equal for ``QUIET_SECONDS``. Until then the version is not called whole.
3. The first answer of a program that holds nothing is used, and checked twice.
4. Of an answer that is held back nothing is used.
5. A server that says that its answers are coherent is taken at its word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stardust_auto.config.remote.snapshot import RawSnapshot

#: How long a key must be missing from every full answer before it counts as deleted.
MISSING_SECONDS: Final = 12.5
#: How long the answers must stay equal before the newest one counts as whole.
QUIET_SECONDS: Final = 12.5
#: Requests that one announcement or one change may cost.
MOST_REQUESTS: Final = 14
#: When to ask after an announcement or a change. A cache of a StarServer lives 10 s and gives one stale answer more: the request at
#: 10.1 s draws the stale answer, the one at 10.6 s gets the fresh one.
CHASE_OFFSETS_SECONDS: Final = (0.0, 2.0, 4.0, 6.0, 8.0, 10.1, 10.6)
#: Step of the requests after those.
CHASE_STEP_SECONDS: Final = 2.0
#: When to check the first answer of a program that held nothing.
FIRST_OFFSETS_SECONDS: Final = (11.0, 12.5)
_TOLERANCE_SECONDS: Final = 0.05

_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Pending:
    """What is not certain yet. All times are monotonic seconds.

    Attributes:
        seen: content, version and scope of the newest answer, whether it is used or not.
        changed: when the answers last changed, or when a publish was announced.
        started: when the series of requests began.
        due: when the series asks next; infinity once it is used up and the next poll decides.
        left: requests that the series may still cost.
        missing: keys that we hold and the newest answer lacks, and since when.
        first: whether the series checks the first answer.
    """

    seen: tuple[str, int, str]
    changed: float
    started: float
    due: float
    left: int = MOST_REQUESTS
    missing: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    first: bool = False

    def after(self, answer: RawSnapshot, now: float) -> Pending:
        """The series after ``answer``. A request that it did not ask for, such as ``refresh()``, costs it nothing."""
        left = self.left - 1 if now >= self.due - _TOLERANCE_SECONDS else self.left
        seen = _identity(answer)
        changed = self.changed if seen == self.seen else now
        return replace(self, seen=seen, changed=changed, left=max(0, left), missing=_NOTHING).planned(now)

    def planned(self, now: float) -> Pending:
        """The same with the time of the next request."""
        end = max(self.changed + QUIET_SECONDS, now)
        if self.left <= 0:
            return replace(self, due=math.inf)
        if self.left == 1:
            return replace(self, due=end)  # the last request counts most where it can end the series
        offsets = FIRST_OFFSETS_SECONDS if self.first else CHASE_OFFSETS_SECONDS
        due = next((due for offset in offsets if (due := self.started + offset) > now + _TOLERANCE_SECONDS), None)
        if due is None:
            beyond = self.started + offsets[-1]
            due = beyond + CHASE_STEP_SECONDS * (1 + (now + _TOLERANCE_SECONDS - beyond) // CHASE_STEP_SECONDS)
        return replace(self, due=min(due, end))


@dataclass(frozen=True, slots=True)
class Decision:
    """What holds from now on.

    Attributes:
        held: the state that the program sees. It is the very object that was held before if nothing of the answer is used.
        pending: what is not certain yet; None if ``held`` is known to be whole.
    """

    held: RawSnapshot
    pending: Pending | None = None

    @property
    def ask_at(self) -> float:
        """When to ask again for everything (monotonic seconds); infinity to wait for the next poll."""
        return self.pending.due if self.pending is not None else math.inf


def decide(held: RawSnapshot, pending: Pending | None, answer: RawSnapshot | None, now: float) -> Decision:
    """Decide what ``answer`` means for what we hold.

    Args:
        held: the state in use; origin ``none`` if there is none.
        pending: what was not certain before.
        answer: the whole map as the server says it is; None if a publish was announced and nobody has asked yet.
        now: monotonic seconds.
    """
    if answer is None:
        seen = pending.seen if pending is not None else _identity(held)
        return Decision(held, Pending(seen, now, now, now, missing=pending.missing if pending else _NOTHING))
    if answer.coherent:
        return Decision(answer)
    if held.origin == "none":
        checks = Pending(_identity(answer), now, now, now, len(FIRST_OFFSETS_SECONDS), first=True)
        return Decision(answer, checks.planned(now) if pending is None else pending.after(answer, now))
    missing = _missing(held, answer, pending, now)
    series = _followed(held, pending, answer, now)
    if any(now - since < MISSING_SECONDS - _TOLERANCE_SECONDS for since in missing.values()):
        series = replace(series or _series(answer, now), missing=missing)
        return Decision(held.confirmed(answer), series)
    if series is None:
        return Decision(answer)
    # The same values under another version may be the old values: the version counts once it is certain.
    used = held.confirmed(answer) if answer.content_hash == held.content_hash else answer
    return Decision(used, series)


def _followed(held: RawSnapshot, pending: Pending | None, answer: RawSnapshot, now: float) -> Pending | None:
    """The series after ``answer``; None if the answers have been equal for long enough."""
    equal = _identity(answer) == (pending.seen if pending is not None else _identity(held))
    if equal and (pending is None or now - pending.changed >= QUIET_SECONDS - _TOLERANCE_SECONDS):
        return None
    if pending is None or (not equal and (pending.first or pending.left <= 0)):
        return _series(answer, now)
    return pending.after(answer, now)


def _series(answer: RawSnapshot, now: float) -> Pending:
    return Pending(_identity(answer), now, now, now).planned(now)


def _missing(held: RawSnapshot, answer: RawSnapshot, pending: Pending | None, now: float) -> Mapping[str, float]:
    """The keys that ``held`` has and ``answer`` lacks, with the moment from which each has been missing."""
    if answer.scope != held.scope:
        return _NOTHING  # another scope is another map
    since = pending.missing if pending is not None else _NOTHING
    there = {key.lower() for key in answer.values}
    return {name: since.get(name, now) for key in held.values if (name := key.lower()) not in there}


def _identity(snapshot: RawSnapshot) -> tuple[str, int, str]:
    return snapshot.content_hash, snapshot.version, snapshot.scope
