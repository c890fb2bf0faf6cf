"""How a message is described: one dataclass field per member, with a codec that reads loosely and writes exactly.

Reading takes any case, unknown members, null, numbers as strings. Writing gives integers, clean text, and either
PascalCase without nulls (what clients send) or camelCase with nulls (what servers answer), see protocol.md §1.3, §1.4.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from stardust_auto.wire import text as exact

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
M = TypeVar("M", bound="Message")

_INTEGER: Final = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
#: Integers above are milliseconds, others seconds: 100 years in seconds (protocol.md §1.4).
_SECONDS_LIMIT: Final = 3_153_600_000
#: Texts of a reply that are not limited by a column; a hostile server cannot make us keep more of one.
FREE_TEXT: Final = 1 << 20


def members(value: object) -> dict[str, Any]:
    """The members of a JSON object by lower-case name; empty for anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name).lower(): member for name, member in value.items()}


def read_int(value: object, default: int = 0, limit: int = exact.INT64_MAX) -> int:
    """An integer from a number, a numeric string or a boolean; ``default`` when it is none or does not fit."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = int(value) if _INTEGER.fullmatch(value) else float(value)
        except ValueError:
            return default
    if isinstance(value, float):
        if not math.isfinite(value):
            return default
        value = int(value)
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
    """Text, also from a number; None for null, objects and arrays. Lone surrogates and NUL are replaced."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number_text(value)
    return exact.clean_text(value, limit) if isinstance(value, str) else None


def _number_text(value: float) -> str:
    try:
        return str(value)
    except ValueError:  # integers of more digits than int() converts to text
        return ""


def read_time(value: object) -> int:
    """Unix milliseconds from ISO text, ``yyyy-MM-dd HH:mm:ss``, ``/Date(n)/`` or a number; 0 for "not set".

    Text without a zone is taken as UTC: we log in with a recent ``Compile``, so the server writes UTC (§2.8).
    """
    if isinstance(value, str):
        value = value.strip()
        if value.startswith("/Date("):
            value = value[6:].rstrip(")/")
        if not _INTEGER.fullmatch(value):
            return _read_date(value)
    number = read_int(value)
    if number <= 0:
        return 0
    return number if number > _SECONDS_LIMIT else number * 1000


def _read_date(value: str) -> int:
    if len(value) > 50:
        return 0
    value = re.sub(r"(\.\d{6})\d+", r"\1", value.removesuffix("UTC").strip()).replace("Z", "+00:00")
    value = re.sub(r"\.(\d{1,5})(?!\d)", lambda match: "." + match[1].ljust(6, "0"), value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    if moment.year < 1971:
        return 0
    return int(moment.timestamp() * 1000)


def write_time(milliseconds: int) -> str:
    """UTC text with ``Z`` as pushed frames carry it; empty for "not set"."""
    if milliseconds <= 0:
        return ""
    moment = datetime.fromtimestamp(min(milliseconds, 253_402_300_799_000) / 1000, tz=timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """How one member is read and written."""

    name: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    key: str
    camel: str


def camel(name: str) -> str:
    """.NET's camelCase: a leading run of capitals is lowered except the last before a lower-case letter (§1.3)."""
    run = re.match(r"[A-Z]+(?![a-z])|[A-Z]", name)
    return name[: run.end()].lower() + name[run.end() :] if run else name


def member(name: str, default: T, read: Callable[[Any], T], write: Callable[[T], Any]) -> T:
    """A dataclass field for the wire member ``name`` (PascalCase)."""
    codec = Codec(name, read, write, name.lower(), camel(name))
    field: T = dataclasses.field(default=default, metadata={"codec": codec})
    return field


def text(name: str, limit: int = FREE_TEXT) -> str | None:
    """A text member, cut to ``limit``."""
    return member(
        name, None, lambda v: read_text(v, limit), lambda v: None if v is None else exact.clean_text(v, limit)
    )


def ident(name: str) -> str | None:
    """An id of at most 50 characters."""
    return member(
        name, None, lambda v: read_text(v, exact.ID_LIMIT), lambda v: None if v is None else exact.clean_id(v)
    )


def version(name: str) -> str | None:
    """A version: written as dotted integers, whatever it is."""
    return member(name, None, lambda v: read_text(v, 200), lambda v: None if v is None else exact.dotted_version(v))


def int32(name: str, default: int = 0) -> int:
    """An Int32 member."""
    return member(name, default, lambda v: read_int(v, default, exact.INT32_MAX), exact.int32)


def int64(name: str, default: int = 0) -> int:
    """An Int64 member."""
    return member(name, default, lambda v: read_int(v, default), exact.int64)


def maybe_int32(name: str) -> int | None:
    """An Int32 member that is left out when it is not known."""

    def read(value: Any) -> int | None:
        return read_int(value, 0, exact.INT32_MAX) if isinstance(value, (int, float, str)) else None

    return member(name, None, read, lambda v: None if v is None else exact.int32(v))


def maybe_int64(name: str) -> int | None:
    """An Int64 member that is left out when it is not known."""

    def read(value: Any) -> int | None:
        return read_int(value) if isinstance(value, (int, float, str)) else None

    return member(name, None, read, lambda v: None if v is None else exact.int64(v))


def maybe_double(name: str) -> float | None:
    """A Double member that is left out when it is not known."""

    def read(value: Any) -> float | None:
        return read_float(value) if isinstance(value, (int, float, str)) else None

    return member(name, None, read, lambda v: None if v is None else read_float(v))


def maybe_bool(name: str) -> bool | None:
    """A boolean member."""
    flag: bool | None = member(name, None, read_bool, lambda v: v)
    return flag


def time(name: str) -> int:
    """A DateTime member, in Unix milliseconds; 0 = not set."""
    return member(name, 0, read_time, write_time)


def texts(name: str) -> tuple[str, ...] | None:
    """An array of texts, or null."""

    def read(value: Any) -> tuple[str, ...] | None:
        if not isinstance(value, list):
            return None
        return tuple(item for item in map(read_text, value) if item is not None)

    return member(name, None, read, lambda v: None if v is None else [exact.clean_text(item, FREE_TEXT) for item in v])


def objects(name: str, kind: type[M]) -> tuple[M, ...] | None:
    """An array of messages, or null; what is no object in it is skipped."""

    def read(value: Any) -> tuple[M, ...] | None:
        return kind.list_from_wire(value) if isinstance(value, list) else None

    array: tuple[M, ...] | None = member(name, None, read, lambda v: None if v is None else v)
    return array


class Message:
    """Base of all messages: frozen slotted dataclasses whose fields come from the functions above."""

    __slots__ = ()
    #: Whether null members are written: servers do, clients leave them out.
    _nulls: ClassVar[bool] = False
    #: Whether members are written in camelCase.
    _camel: ClassVar[bool] = False

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Read ``value``, a parsed JSON object. Never raises: what cannot be read has its default."""
        found = members(value)
        arguments: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # each subclass is a dataclass
            codec: Codec = field.metadata["codec"]
            if codec.key in found:
                arguments[field.name] = codec.read(found[codec.key])
        return cls(**arguments)

    @classmethod
    def list_from_wire(cls, value: object) -> tuple[Self, ...]:
        """Read an array of messages; anything but an object in it is skipped."""
        if not isinstance(value, list):
            return ()
        return tuple(cls.from_wire(item) for item in value if isinstance(item, Mapping))

    def to_wire(self, *, camel: bool | None = None) -> dict[str, Any]:
        """A JSON object. ``camel`` overrides the case of the member names."""
        camel = self._camel if camel is None else camel
        written: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # each subclass is a dataclass
            codec: Codec = field.metadata["codec"]
            value = codec.write(getattr(self, field.name))
            if isinstance(value, tuple):
                value = [item.to_wire(camel=camel) for item in value]
            if value is not None or self._nulls:
                written[codec.camel if camel else codec.name] = value
        return written
