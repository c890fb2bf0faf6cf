"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``skip``: what it needs has failed already, so it is neither good nor bad.
Grade = Literal["ok", "info", "warn", "bad", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    grade: Grade
    topic: str
    text: str
