"""Errors of ``stardustctl``: one clear line each, and one exit code that a CI can use."""

from __future__ import annotations

from typing import ClassVar

from stardust_auto.errors import StardustError


class CtlError(StardustError):
    """A check failed, or the server refused the request. ``str(error)`` is the one line for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(CtlError):
    """The command line, an environment variable or the settings class named on it cannot be used."""

    exit_code: ClassVar[int] = 2


class UnreachableError(CtlError):
    """No server answers at the address."""

    exit_code: ClassVar[int] = 3


class NotPermittedError(CtlError):
    """The server answers, but does not take the key or the credentials; or there is no key for it."""

    exit_code: ClassVar[int] = 4
