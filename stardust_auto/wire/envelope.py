"""The envelope around every answer (protocol.md §1.2, §1.5)."""

from __future__ import annotations

import json
from typing import Any, Final

from stardust_auto.errors import ApiError, BadReplyError
from stardust_auto.wire import fields

_CODE_NAMES: Final = ("code", "errcode", "status")
_MESSAGE_NAMES: Final = ("message", "msg", "errmsg", "error")
_MESSAGE_LIMIT: Final = 500


def parse_json(body: bytes) -> Any:
    """``body`` as JSON.

    Raises:
        BadReplyError: it is none: HTML, cut off, nested beyond reason.
    """
    reason = None
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except RecursionError:
        reason = "JSON nested too deeply"
    except ValueError:
        kind = "HTML" if body.lstrip()[:1] == b"<" else "something that is not JSON"
        reason = f"{kind} ({len(body)} bytes)"
    raise BadReplyError(f"the server answered with {reason}")


def read_envelope(body: bytes) -> Any:
    """The ``data`` member of a successful answer; the whole object when it has no such member; None when empty.

    Raises:
        ApiError: ``code`` is neither 0 nor 200.
        BadReplyError: not our envelope.
    """
    if not body.strip():
        return None
    value = parse_json(body)
    if not isinstance(value, dict):
        raise BadReplyError(f"the server answered with a bare {_kind(value)} instead of an object")
    found = fields.members(value)
    code = read_code(found)
    if code is None:
        if "data" not in found:
            return value
        code = 0
    if code not in (0, 200):
        raise ApiError(code, read_message(found))
    return found.get("data") if "data" in found else value


def read_code(found: dict[str, Any]) -> int | None:
    """The result code of an envelope: true is 0, false is -1; None when there is none."""
    for name in _CODE_NAMES:
        value = found.get(name)
        if isinstance(value, bool):
            return 0 if value else -1
        if isinstance(value, (int, float, str)):
            return fields.read_int(value, 500, 2**31 - 1)
    return None


def read_message(found: dict[str, Any]) -> str:
    """The error text of an envelope in one line of bounded length."""
    for name in _MESSAGE_NAMES:
        value = fields.read_text(found.get(name), _MESSAGE_LIMIT)
        if value:
            return " ".join(value.split())
    return ""


def problem_text(body: bytes) -> str:
    """What a ProblemDetails body (HTTP 400, 415) says, in one line; empty when it is none."""
    try:
        value = parse_json(body)
    except BadReplyError:
        return ""
    found = fields.members(value)
    title = fields.read_text(found.get("title"), _MESSAGE_LIMIT) or read_message(found)
    errors = fields.members(found.get("errors"))
    details = [str(text) for texts in errors.values() if isinstance(texts, list) for text in texts[:1]]
    return " ".join(" ".join([title, *details]).split())[:_MESSAGE_LIMIT]


def _kind(value: object) -> str:
    return {list: "array", str: "string", type(None): "null"}.get(type(value), "value")
