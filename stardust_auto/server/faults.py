"""Every error that a request ends with, turned into an answer: the one place where that is done."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stardust_auto.log import get_logger
from stardust_auto.server.errors import CallError, ProblemError
from stardust_auto.server.replies import failure, json_response, problem
from stardust_auto.wire.reading import BindError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

    from stardust_auto.server.services import Services

    ErrorPage = Callable[[Request, int, str], Response]

_log = get_logger(__name__)
#: Seconds between two lines about the same damage: on a full disk the log would fill what is left.
_QUIET_SECONDS = 60.0


class Faults:
    """Answers in the form of whoever asked: the platform's envelope, JSON for ``/console/api``, a page for the console."""

    def __init__(self, services: Services, page: ErrorPage) -> None:
        self._services = services
        self._page = page
        self._told: dict[str, float] = {}

    def answer(self, scope: Scope, error: Exception) -> Response:
        """The answer to a request that ended with ``error``."""
        if isinstance(error, ClientDisconnect):
            return Response(b"", 400)  # nobody is there to read it, and it is not an error of the server
        path = str(scope["path"])
        if isinstance(error, BindError):
            return problem(ProblemError(400, error.errors))
        if isinstance(error, ProblemError):
            return problem(error)
        status, refusal = self._refusal(scope, error)
        if path == "/console/api" or path.startswith("/console/api/"):
            return json_response({"error": refusal.message}, status)
        if path.startswith("/console"):
            return self._page(Request(scope), status, refusal.message)
        return Response(b"", status) if isinstance(error, HTTPException) else failure(refusal)

    def _refusal(self, scope: Scope, error: Exception) -> tuple[int, CallError]:
        if isinstance(error, CallError):
            return error.code if 400 <= error.code < 500 else 500, error
        if isinstance(error, HTTPException):
            return error.status_code, CallError(
                error.status_code, "there is no such page" if error.status_code == 404 else error.detail
            )
        if isinstance(error, sqlite3.Error):
            text = f"the server cannot use its file {self._services.store.database.path}: {error}"
            self._tell(text)
            return 500, CallError(
                500, text if "malformed" in str(error) else f"the server cannot use its file: {error}"
            )
        _log.error("%s %s failed", scope.get("method", ""), scope["path"], exc_info=error)
        return 500, CallError(500, "internal error of the server")

    def _tell(self, text: str) -> None:
        now = self._services.store.time.monotonic()
        if now - self._told.get(text, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._told = {text: now}
            _log.error("%s", text)
