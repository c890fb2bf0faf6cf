"""Reading of JSON values, in two ways: tolerant (``read_*``, never raises) and strict (``bind_*``, as System.Text.Json)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, NoReturn

from stardust_auto.wire import text as exact

_INTEGER: Final = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
#: A number above is milliseconds, any other seconds: 100 years in seconds (protocol.md §1.4).
_SECONDS_LIMIT: Final = 3_153_600_000
#: Limit of a text that no column of the server limits. It bounds what a hostile peer can make us keep of one member.
FREE_TEXT: Final = 1 << 20


class BindError(ValueError):
    """A body that a StarServer refuses with HTTP 400.

    Attributes:
        errors: texts by member, as the ``errors`` of a ProblemDetails answer lists them.
    """

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


# -- tolerant reading -------------------------------------------------------------------------------------------------


def members(value: object) -> dict[str, Any]:
    """The members of a JSON object by lower-case name; empty for anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name).lower(): member for name, member in value.items()}


def read_int(value: object, default: int = 0, limit: int = exact.INT64_MAX) -> int:
    """An integer from a number, a numeric string or a boolean; ``default`` if the value has no such form or is too large.

    A fraction is rounded half to even, as a StarServer stores it (``tests/wire/starserver.jsonl``, lines 93 and 306).
    """
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = int(value) if _INTEGER.fullmatch(value) else float(value)
        except ValueError:
            return default
    if isinstance(value, float):
        if not math.isfinite(value):
            return default
        value = round(value)
    if isinstance(value, int):
        return int(value) if -limit - 1 <= value <= limit else default
    return default


def read_float(value: object, default: float = 0.0) -> float:
    """A finite float from a number or a numeric string."""
    if isinstance(value, (int, float, str)) and not (isinstance(value, str) and len(value) > 400):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return default
        if math.isfinite(number):
            return number
    return default


def read_bool(value: object, default: bool | None = None) -> bool | None:
    """A boolean from ``true``, a number or a word."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return bool(value)
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower(), default)
    return default


def read_text(value: object, limit: int = FREE_TEXT) -> str | None:
    """Text, also from a number; ``None`` for null, objects and arrays. Lone surrogates and NUL are replaced."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number_text(value)
    return exact.clean_text(value, limit) if isinstance(value, str) else None


def _number_text(value: float) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of more digits than int() converts to text
        return ""


def read_time(value: object, *, local: bool = False) -> int:
    """Unix milliseconds from ISO text, ``yyyy-MM-dd HH:mm:ss``, ``/Date(n)/`` or a number; 0 means "not set".

    Text without a zone is UTC: a server writes UTC for clients that log in with a recent ``Compile`` (§2.8).
    With ``local`` it is this machine's time.
    """
    if isinstance(value, str):
        value = value.strip()
        if value.startswith("/Date("):
            value = value[6:].rstrip(")/")
        if not _INTEGER.fullmatch(value):
            return _read_date(value, local)
    number = read_int(value)
    if number <= 0:
        return 0
    return number if number > _SECONDS_LIMIT else number * 1000


def read_millis(value: object) -> int:
    """Unix milliseconds from a number, taken as it is, or from the text of a date; 0 means "not set"."""
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        return read_time(value) or max(0, read_int(value))
    return max(0, read_int(value))


def _read_date(value: str, local: bool) -> int:
    if len(value) > 50:
        return 0
    value = re.sub(r"(\.\d{6})\d+", r"\1", value.removesuffix("UTC").strip()).replace("Z", "+00:00")
    value = re.sub(r"\.(\d{1,5})(?!\d)", lambda match: "." + match[1].ljust(6, "0"), value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return 0
    if moment.year < 1970:
        return 0
    if moment.tzinfo is None:
        moment = moment.astimezone() if local else moment.replace(tzinfo=timezone.utc)
    return max(0, int(moment.timestamp() * 1000))


# -- strict binding ---------------------------------------------------------------------------------------------------


def bind_json(body: bytes, parameter: str) -> Any:
    """``body`` as System.Text.Json parses it for the parameter of that name.

    Raises:
        BindError: the body is empty or malformed.
    """
    if not body.strip():
        raise BindError(
            {"": ["A non-empty request body is required."], parameter: [f"The {parameter} field is required."]}
        )
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        reason = "The text is not UTF-8."
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
    raise _refused(parameter, "$", reason)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"'{name}' is not JSON.")


def _refused(parameter: str, path: str, reason: str) -> BindError:
    text = f"{reason} Path: {path} | LineNumber: 0 | BytePositionInLine: 1."
    return BindError({path: [text], parameter: [f"The {parameter} field is required."]})


def not_convertible(parameter: str, type_name: str, path: str = "$") -> BindError:
    """The refusal of a value that is not of the .NET type ``type_name``."""
    return _refused(parameter, path, f"The JSON value could not be converted to {type_name}.")


def bind_text(value: Any) -> str | None:
    """A string or null; ``ValueError`` with the .NET type otherwise, as for the next two."""
    if value is None or isinstance(value, str):
        return value
    raise ValueError("System.String")


def bind_int(value: Any, limit: int) -> int:
    """An integer or a string of digits."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -limit - 1 <= value <= limit:
        return value
    raise ValueError("System.Int32" if limit == exact.INT32_MAX else "System.Int64")


def bind_double(value: Any) -> float:
    """A number or a numeric string."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError("System.Double")
