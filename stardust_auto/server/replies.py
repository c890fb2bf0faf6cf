"""Answers in the shapes that a StarServer gives (protocol.md §1.2)."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from stardust_auto.wire.fields import Message

if TYPE_CHECKING:
    from stardust_auto.server.errors import CallError, ProblemError

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def json_response(value: object, status: int = 200, media_type: str = "application/json; charset=utf-8") -> Response:
    """Raw UTF-8 JSON that neither a browser nor a proxy stores."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return Response(body, status, headers={**_HEADERS, "Content-Type": media_type})


def success(data: object) -> Response:
    """``{"code": 0, "data": ...}``; ``data`` may be a message or a list of them, and is never left out (protocol.md §11)."""
    if isinstance(data, (list, tuple)):
        data = [_plain(item) for item in data]
    return json_response({"code": 0, "data": _plain(data)})


def _plain(value: object) -> object:
    return value.to_reply() if isinstance(value, Message) else value


def failure(error: CallError) -> Response:
    """HTTP 200 with a code: clients log in again on ``code`` 401, never on HTTP 401 (protocol.md §1.5)."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.traced:
        body["traceId"] = secrets.token_hex(16)
    return json_response(body)


def problem(error: ProblemError) -> Response:
    """RFC 7807 as ASP.NET writes it for a request that cannot be bound."""
    if error.empty:
        return Response(b"", error.status, headers=_HEADERS)
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
    kind, title = _PROBLEMS.get(error.status, ("about:blank", "Error"))
    body: dict[str, Any] = {"type": kind, "title": title, "status": error.status}
    if error.errors:
        body["errors"] = {name: list(texts) for name, texts in error.errors.items()}
    body["traceId"] = traceparent
    return json_response(body, error.status, "application/problem+json; charset=utf-8")


_PROBLEMS = {
    400: ("https://tools.ietf.org/html/rfc9110#section-15.5.1", "One or more validation errors occurred."),
    405: ("https://tools.ietf.org/html/rfc9110#section-15.5.6", "Method Not Allowed"),
    413: ("https://tools.ietf.org/html/rfc9110#section-15.5.14", "Payload Too Large"),
    415: ("https://tools.ietf.org/html/rfc9110#section-15.5.16", "Unsupported Media Type"),
}
