"""Reading of what clients send: strict where a real StarServer is strict, tolerant where data would be lost."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from datetime import datetime, timezone
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from stardust_auto.server.errors import ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

FieldKind = Literal["text", "int32", "int64", "double", "date"]

INT32 = 2**31 - 1
INT64 = 2**63 - 1
_TYPE_NAMES = {"text": "System.String", "int32": "System.Int32", "int64": "System.Int64", "double": "System.Double"}
_INTEGER = re.compile(r"\s*[+-]?\d{1,19}\s*")
_SURROGATES = re.compile("[\ud800-\udfff]")


class TooLargeError(ValueError):
    """A compressed body grows beyond the limit."""


def clean(value: object, limit: int) -> str:
    """Text that SQLite and every reader can hold: no lone surrogate, no NUL, at most `limit` characters."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    text = text[:limit].replace("\0", " ")
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
    return text


def members(value: object) -> dict[str, Any]:
    """The members of a JSON object by lower-case name; `{}` for anything else (any case is accepted, §1.3)."""
    if not isinstance(value, dict):
        return {}
    return {str(name).lower(): member for name, member in value.items()}


def loose_int(value: object, limit: int = INT64) -> int:
    """An integer from whatever a client wrote; 0 when there is none to read, or when it does not fit (§12.2)."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            value = float(value) if not _INTEGER.fullmatch(value) else int(value)
        except ValueError:
            return 0
    if isinstance(value, float):
        if not math.isfinite(value):
            return 0
        value = round(value)
    if isinstance(value, int):
        return value if -limit - 1 <= value <= limit else 0
    return 0


def loose_time(value: object) -> int:
    """Unix milliseconds from a number, a numeric string or an ISO date; 0 when it is none of these."""
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        parsed = parse_date(value)
        if parsed is not None:
            return parsed
    return loose_int(value)


def parse_date(text: str) -> int | None:
    """Unix milliseconds of an ISO date; without a zone it is taken as UTC (protocol.md §2.8)."""
    candidate = text.strip().replace(" UTC", "+00:00").replace("Z", "+00:00")
    candidate = re.sub(r"(\.\d{6})\d+", r"\1", candidate)
    try:
        moment = datetime.fromisoformat(candidate)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    if moment.year < 1970:
        return None
    return int(moment.timestamp() * 1000)


def parse_json(body: bytes) -> Any:
    """JSON as loosely as the platform's own parser reads it; ValueError when there is nothing to read."""
    text = body.decode("utf-8-sig", "replace")
    try:
        return json.loads(text, strict=False)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def decompress(body: bytes, limit: int) -> bytes:
    """A gzip body, at most `limit` bytes of it.

    Raises:
        TooLargeError: it grows beyond the limit.
        ValueError: it is not gzip, or cut off.
    """
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise ValueError(f"not a whole gzip body: {exc}") from exc
    if len(data) > limit:
        raise TooLargeError(f"a body may decompress to at most {limit} bytes")
    return data


def bind(body: bytes, parameter: str, fields: Mapping[str, FieldKind]) -> dict[str, Any]:
    """The object in `body` bound to `fields` as System.Text.Json binds it (protocol.md §1.4).

    Returns values by lower-case name, only those present and not null. Unknown members are ignored.

    Raises:
        ProblemError: 400 with the member at fault: malformed, null or a float for an integer, and so on.
    """
    value = strict_json(body, parameter)
    if not isinstance(value, dict):
        _refuse(
            parameter, "$", "The JSON value could not be converted. Path: $ | LineNumber: 0 | BytePositionInLine: 1."
        )
    kinds: dict[str, tuple[str, FieldKind]] = {name.lower(): (name, kind) for name, kind in fields.items()}
    bound: dict[str, Any] = {}
    for name, member in value.items():
        known = kinds.get(str(name).lower())
        if known is None:
            continue
        bound_value = _convert(member, known[1], str(name), parameter)
        if bound_value is not None:
            bound[known[0].lower()] = bound_value
    return bound


def strict_json(body: bytes, parameter: str) -> Any:
    """JSON as System.Text.Json takes it.

    Raises:
        ProblemError: 400, nothing there or malformed.
    """
    if not body.strip():
        raise ProblemError(
            400, {"": ["A non-empty request body is required."], parameter: [f"The {parameter} field is required."]}
        )
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        _refuse(parameter, "$", f"{_short(exc)} Path: $ | LineNumber: 0 | BytePositionInLine: 1.")


def _short(exc: Exception) -> str:
    return str(exc)[:200] if not isinstance(exc, UnicodeDecodeError) else "The text is not UTF-8."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"'{name}' is not JSON.")


def _refuse(parameter: str, path: str, text: str) -> NoReturn:
    raise ProblemError(400, {path: [text], parameter: [f"The {parameter} field is required."]})


def _convert(value: object, kind: FieldKind, name: str, parameter: str) -> Any:
    if kind == "text":
        if value is None:
            return None
        if isinstance(value, str):
            return clean(value, 4000)
    elif kind == "date":
        return loose_time(value) or None
    elif kind == "double":
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                value = None
    elif isinstance(value, (int, str)) and not isinstance(value, bool):
        number = int(value) if isinstance(value, int) or _INTEGER.fullmatch(value) else None
        limit = INT32 if kind == "int32" else INT64
        if number is not None and -limit - 1 <= number <= limit:
            return number
    text = f"The JSON value could not be converted to {_TYPE_NAMES[kind]}. Path: $.{name} | LineNumber: 0 | BytePositionInLine: 1."
    _refuse(parameter, f"$.{name}", text)
