"""Answers in the shapes that a real StarServer gives (protocol.md §1.2)."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from stardust_auto.server.errors import CallError, ProblemError

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def json_response(value: object, status: int = 200, media_type: str = "application/json; charset=utf-8") -> Response:
    """Raw UTF-8 JSON, never cached by a browser or a proxy."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return Response(body, status, headers={**_HEADERS, "Content-Type": media_type})


def success(data: object) -> Response:
    """`{"code": 0, "data": ...}`; `data` is never left out (protocol.md §11)."""
    return json_response({"code": 0, "data": data})


def failure(exc: CallError) -> Response:
    """HTTP 200 with a code: clients log in again on `code` 401, never on HTTP 401 (protocol.md §1.5)."""
    body: dict[str, Any] = {"code": exc.code, "message": exc.message}
    if exc.traced:
        body["traceId"] = secrets.token_hex(16)
    return json_response(body)


def problem(exc: ProblemError) -> Response:
    """RFC 7807 as ASP.NET writes it for a request that cannot be bound."""
    if exc.empty:
        return Response(b"", exc.status, headers=_HEADERS)
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
    body: dict[str, Any] = {"type": _TYPES.get(exc.status, "about:blank"), "title": _TITLES.get(exc.status, "Error")}
    body["status"] = exc.status
    if exc.errors:
        body["errors"] = {name: list(texts) for name, texts in exc.errors.items()}
    body["traceId"] = traceparent
    return json_response(body, exc.status, "application/problem+json; charset=utf-8")


_TYPES = {
    400: "https://tools.ietf.org/html/rfc9110#section-15.5.1",
    405: "https://tools.ietf.org/html/rfc9110#section-15.5.6",
    413: "https://tools.ietf.org/html/rfc9110#section-15.5.14",
    415: "https://tools.ietf.org/html/rfc9110#section-15.5.16",
}
_TITLES = {
    400: "One or more validation errors occurred.",
    405: "Method Not Allowed",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
}
