"""What can go wrong on the wire. The texts are written for people and never hold a secret or a token."""

from __future__ import annotations


class StardustError(Exception):
    """Base of all errors of the wire."""


class ApiError(StardustError):
    """The server answered with a ``code`` other than 0 and 200 (protocol.md §1.2)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"code {self.code}: {self.message}" if self.message else f"code {self.code}"


class Unavailable(StardustError):  # noqa: N818 - a state of the server, not a mistake of the caller
    """No answer: network, time-out, HTTP 429 or 5xx, or the session waits before its next attempt.

    ``may_have_arrived``: the whole request had been sent, so the server may have carried it out.
    ``retry_after``: seconds that the server asked to wait, if it did.
    """

    def __init__(self, text: str, *, may_have_arrived: bool = False, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.may_have_arrived = may_have_arrived
        self.retry_after = retry_after


class BadReply(StardustError):  # noqa: N818 - the counterpart of Unavailable
    """Something answered, but not with our protocol: HTML, truncated JSON, a bare array, too much, HTTP 4xx."""
