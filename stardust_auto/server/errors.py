"""Errors of the server. They are private: a client sees an answer, an administrator a message.

::

    Exception
    ├── CallError       the call is understood and refused: a code and a message
    └── ProblemError    the request cannot be bound: an HTTP status with ProblemDetails

``guard.Guard`` turns both, and every other exception, into an answer. No handler does it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CallError(Exception):
    """The call is refused: HTTP 200 with ``code`` and ``message`` (protocol.md §1.2), HTTP 4xx below ``/console``."""

    def __init__(self, code: int, message: str, *, traced: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: The App controller adds a ``traceId`` when authentication fails.
        self.traced = traced


class ProblemError(Exception):
    """The request cannot be bound: an HTTP status with ProblemDetails, or with an empty body."""

    def __init__(self, status: int, errors: Mapping[str, Sequence[str]] | None = None, *, empty: bool = False) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.errors = errors
        self.empty = empty
