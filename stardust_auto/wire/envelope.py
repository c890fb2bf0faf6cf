"""The envelope around every answer (protocol.md §1.2, §1.5)."""

from __future__ import annotations

import json
from typing import Any, Final

from stardust_auto.errors import ApiError, BadReplyError
from stardust_auto.wire import reading

_CODE_NAMES: Final = ("code", "errcode", "status")
_MESSAGE_NAMES: Final = ("message", "msg", "errmsg", "error")
_MESSAGE_LIMIT: Final = 500
_KINDS: Final = {list: "array", str: "string", type(None): "null"}


def parse_json(body: bytes) -> Any:
    """``body`` as loosely as the platform's own parser reads it: NaN, control characters, bytes that are not UTF-8.

    Raises:
        ValueError: HTML, truncated or malformed text, or nesting beyond the interpreter's limit. The text names no content.
    """
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except RecursionError:
        reason = "JSON nested too deeply"
    except ValueError:
        kind = "HTML" if body.lstrip()[:1] == b"<" else "something that is not JSON"
        reason = f"{kind} ({len(body)} bytes)"
    raise ValueError(reason)


def read_envelope(body: bytes) -> Any:
    """The ``data`` of a successful answer; the whole object if it has no such member; ``None`` for an empty body.

    Raises:
        ApiError: ``code`` is neither 0 nor 200.
        BadReplyError: the body is not an envelope.
    """
    if not body.strip():
        return None
    try:
        value = parse_json(body)
    except ValueError as error:
        raise BadReplyError(f"the server answered with {error}") from None
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "value")
        raise BadReplyError(f"the server answered with a bare {kind} instead of an object")
    found = reading.members(value)
    code = _read_code(found)
    if code is None:
        if "data" not in found:
            return value
        code = 0
    if code not in (0, 200):
        raise ApiError(code, _read_message(found))
    return found.get("data") if "data" in found else value


def _read_code(found: dict[str, Any]) -> int | None:
    """The result code: ``true`` is 0, ``false`` is -1; ``None`` if the object has no code."""
    for name in _CODE_NAMES:
        value = found.get(name)
        if isinstance(value, bool):
            return 0 if value else -1
        if isinstance(value, (int, float, str)):
            return reading.read_int(value, 500, 2**31 - 1)
    return None


def _read_message(found: dict[str, Any]) -> str:
    """The error text in one line of bounded length."""
    for name in _MESSAGE_NAMES:
        value = reading.read_text(found.get(name), _MESSAGE_LIMIT)
        if value:
            return " ".join(value.split())
    return ""


def problem_text(body: bytes) -> str:
    """What a ProblemDetails body (HTTP 400, 415) says, in one line; empty for any other body."""
    try:
        found = reading.members(parse_json(body))
    except ValueError:
        return ""
    title = reading.read_text(found.get("title"), _MESSAGE_LIMIT) or _read_message(found)
    errors = reading.members(found.get("errors"))
    details = [str(text) for texts in errors.values() if isinstance(texts, list) for text in texts[:1]]
    return " ".join(" ".join([title, *details]).split())[:_MESSAGE_LIMIT]
