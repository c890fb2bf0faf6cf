"""How a message is described: one dataclass field per member, each with one :class:`Codec`.

A table is read in two ways and written in three:

* :meth:`Message.from_wire` is tolerant and never raises. It takes any case, unknown members, null, numbers as strings.
* :meth:`Message.bind` is strict, as the System.Text.Json of a StarServer is. It raises ``BindError``.
* :meth:`Message.to_wire` writes what a client sends, :meth:`Message.to_reply` what a server answers, and
  :meth:`Message.to_frame` what a server pushes (protocol.md §1.3, §1.4, §2.8).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from stardust_auto.wire import text as exact
from stardust_auto.wire.reading import (
    FREE_TEXT,
    bind_double,
    bind_int,
    bind_json,
    bind_text,
    members,
    not_convertible,
    read_bool,
    read_float,
    read_int,
    read_millis,
    read_text,
    read_time,
)

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
M = TypeVar("M", bound="Message")


# -- exact writing ----------------------------------------------------------------------------------------------------


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(min(milliseconds, exact.LAST_MOMENT_MS) / 1000, tz=timezone.utc)


def write_time(milliseconds: int) -> str:
    """UTC text with ``Z``, as a pushed frame has it; empty for "not set"."""
    return _moment(milliseconds).strftime("%Y-%m-%dT%H:%M:%SZ") if milliseconds > 0 else ""


def _reply_time(milliseconds: int) -> str:
    return _moment(milliseconds).strftime("%Y-%m-%dT%H:%M:%S.%f0Z") if milliseconds > 0 else "0001-01-01 00:00:00"


def local_text(milliseconds: int) -> str:
    """``yyyy-MM-dd HH:mm:ss`` in this machine's time zone (§1.4)."""
    return _moment(milliseconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


# -- members ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """One member: how it is read, bound and written.

    ``bind`` raises ``ValueError`` with the .NET type's name. ``reply`` writes for an answer where that differs.
    An ``extra`` member is our own: a server leaves it out when it is not set.
    """

    name: str
    key: str
    read: Callable[[Any], Any]
    bind: Callable[[Any], Any]
    write: Callable[[Any], Any]
    reply: Callable[[Any], Any]
    extra: bool


def camel(name: str) -> str:
    """.NET's camelCase: a leading run of capitals is lowered except the last before a lower-case letter (§1.3)."""
    run = re.match(r"[A-Z]+(?![a-z])|[A-Z]", name)
    return name[: run.end()].lower() + name[run.end() :] if run else name


def member(
    name: str,
    default: T,
    read: Callable[[Any], T],
    write: Callable[[T], Any],
    *,
    bind: Callable[[Any], Any] | None = None,
    reply: Callable[[T], Any] | None = None,
    extra: bool = False,
) -> T:
    """A dataclass field for the wire member ``name`` (PascalCase). Without ``bind`` anything readable is taken."""
    codec = Codec(name, name.lower(), read, bind or read, write, reply or write, extra)
    field: T = dataclasses.field(default=default, metadata={"codec": codec})
    return field


def text(name: str, limit: int = FREE_TEXT) -> str | None:
    """A text member of at most ``limit`` UTF-16 units."""

    def clean(value: str | None) -> str | None:
        return None if value is None else exact.clean_text(value, limit)

    return member(name, None, lambda v: read_text(v, limit), clean, bind=lambda v: clean(bind_text(v)))


def ident(name: str, read_limit: int = exact.NAME_LIMIT, *, extra: bool = False) -> str | None:
    """An id: written with at most ``ID_LIMIT`` units. It is read whole, since a cut name is another's name."""
    return member(
        name,
        None,
        lambda v: read_text(v, read_limit),
        lambda v: None if v is None else exact.clean_id(v),
        bind=lambda v: read_text(bind_text(v), read_limit),
        extra=extra,
    )


def label(name: str, limit: int) -> str:
    """A text of a span; an empty one is left out."""
    return member(name, "", lambda v: read_text(v, limit) or "", lambda v: exact.clean_text(v, limit) or None)


def label_id(name: str) -> str:
    """An id of a span, cut to ``ID_LIMIT``; an empty one is left out."""
    return member(name, "", lambda v: read_text(v, exact.ID_LIMIT) or "", lambda v: exact.clean_id(v) or None)


def version(name: str) -> str | None:
    """A version: written as dotted integers, whatever it is."""
    limit = exact.NAME_LIMIT
    return member(
        name,
        None,
        lambda v: read_text(v, limit),
        lambda v: None if v is None else exact.dotted_version(v),
        bind=lambda v: read_text(bind_text(v), limit),
    )


def integer(name: str, write: Callable[[object], int], limit: int = exact.INT64_MAX) -> int:
    """An integer member that ``write`` brings within its bounds."""
    return member(name, 0, lambda v: read_int(v, 0, limit), write, bind=lambda v: bind_int(v, limit))


def int32(name: str) -> int:
    """An Int32 member."""
    return integer(name, exact.int32, exact.INT32_MAX)


def int64(name: str) -> int:
    """An Int64 member."""
    return integer(name, exact.int64)


def maybe_int32(name: str) -> int | None:
    """An Int32 member that is left out when it is not known."""
    return _maybe(name, lambda v: read_int(v, 0, exact.INT32_MAX), exact.int32, lambda v: bind_int(v, exact.INT32_MAX))


def maybe_int64(name: str) -> int | None:
    """An Int64 member that is left out when it is not known."""
    return _maybe(name, read_int, exact.int64, lambda v: bind_int(v, exact.INT64_MAX))


def maybe_double(name: str) -> float | None:
    """A Double member that is left out when it is not known."""
    return _maybe(name, read_float, read_float, bind_double)


def _maybe(name: str, read: Callable[[Any], T], write: Callable[[Any], Any], bind: Callable[[Any], T]) -> T | None:
    def read_known(value: Any) -> T | None:
        return read(value) if isinstance(value, (int, float, str)) else None

    return member(name, None, read_known, lambda v: None if v is None else write(v), bind=bind)


def maybe_bool(name: str) -> bool | None:
    """A boolean member."""
    flag: bool | None = member(name, None, read_bool, lambda v: v)
    return flag


def promise(name: str) -> bool | None:
    """An extra member that only ``true`` sets: a value of another form is not a promise."""
    flag: bool | None = member(name, None, lambda v: True if v is True else None, lambda v: v, extra=True)
    return flag


def millis(name: str) -> int:
    """A moment as an Int64 of Unix milliseconds. Tolerant reading also takes the text of a date."""
    return member(name, 0, read_millis, exact.millis, bind=lambda v: bind_int(v, exact.INT64_MAX))


def time(name: str) -> int:
    """A DateTime member as Unix milliseconds; 0 means "not set"."""
    return member(name, 0, read_time, write_time, reply=_reply_time)


def local_time(name: str) -> int | None:
    """A DateTime member that each side writes in its own time zone; Unix milliseconds here."""

    def read(value: Any) -> int | None:
        return read_time(value, local=True) or None

    return member(name, None, read, lambda v: local_text(v) if v else None)


def texts(name: str, *, extra: bool = False) -> tuple[str, ...] | None:
    """An array of texts, or null."""

    def read(value: Any) -> tuple[str, ...] | None:
        if not isinstance(value, list):
            return None
        return tuple(item for item in map(read_text, value) if item is not None)

    def write_texts(value: tuple[str, ...] | None) -> list[str] | None:
        return None if value is None else [exact.clean_text(item, FREE_TEXT) for item in value]

    return member(name, None, read, write_texts, extra=extra)


def objects(name: str, kind: type[M]) -> tuple[M, ...] | None:
    """An array of messages, or null. Items that are not objects are skipped."""

    def read(value: Any) -> tuple[M, ...] | None:
        return kind.list_from_wire(value) if isinstance(value, list) else None

    array: tuple[M, ...] | None = member(name, None, read, lambda v: v)
    return array


def nested(name: str, kind: type[M]) -> M | None:
    """A message inside a message, or null."""

    def read(value: Any) -> M | None:
        return kind.from_wire(value) if isinstance(value, Mapping) else None

    inner: M | None = member(name, None, read, lambda v: v)
    return inner


# -- messages ---------------------------------------------------------------------------------------------------------


Table = tuple[tuple[str, Codec], ...]
_TABLES: dict[type[Message], Table] = {}


def _table(kind: type[Message]) -> Table:
    """(attribute, codec) of each member, in the order of the wire."""
    table = _TABLES.get(kind)
    if table is None:
        described = dataclasses.fields(kind)  # type: ignore[arg-type]  # each subclass is a dataclass
        table = _TABLES[kind] = tuple((field.name, field.metadata["codec"]) for field in described)
    return table


class Message:
    """Base of all messages: frozen slotted dataclasses whose fields come from the functions above."""

    __slots__ = ()

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Read ``value``, a parsed JSON object. Never raises: a member that cannot be read keeps its default."""
        found = members(value)
        arguments: dict[str, Any] = {}
        for attribute, codec in _table(cls):
            if codec.key in found:
                arguments[attribute] = codec.read(found[codec.key])
        return cls(**arguments)

    @classmethod
    def list_from_wire(cls, value: object) -> tuple[Self, ...]:
        """Read an array of messages. Items that are not objects are skipped."""
        if not isinstance(value, list):
            return ()
        return tuple(cls.from_wire(item) for item in value if isinstance(item, Mapping))

    @classmethod
    def bind(cls, body: bytes, parameter: str) -> Self:
        """Read a request body as a StarServer binds it to its parameter of that name (§1.4).

        Raises:
            BindError: malformed JSON, or a member of the wrong type: null or a float for an integer, and so on.
        """
        value = bind_json(body, parameter)
        if not isinstance(value, dict):
            raise not_convertible(parameter, "the model")
        table = {codec.key: (attribute, codec) for attribute, codec in _table(cls)}
        arguments: dict[str, Any] = {}
        for name, item in value.items():
            known = table.get(name.lower())
            if known is None:
                continue
            attribute, codec = known
            try:
                arguments[attribute] = codec.bind(item)
            except ValueError as error:
                raise not_convertible(parameter, str(error), f"$.{name}") from None
        return cls(**arguments)

    def to_wire(self) -> dict[str, Any]:
        """What a client sends: PascalCase, null members left out."""
        return write(type(self), self)

    def to_reply(self) -> dict[str, Any]:
        """What a server answers: camelCase, null members written."""
        written: dict[str, Any] = {}
        for attribute, codec in _table(type(self)):
            value = getattr(self, attribute)
            if codec.extra and value is None:
                continue
            value = codec.reply(value)
            if isinstance(value, tuple):
                value = [item.to_reply() for item in value]
            written[camel(codec.name)] = value.to_reply() if isinstance(value, Message) else value
        return written

    def to_frame(self) -> dict[str, Any]:
        """What a server pushes: PascalCase, null members written."""
        return {codec.name: codec.write(getattr(self, attribute)) for attribute, codec in _table(type(self))}


def write(kind: type[Message], source: object, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """``source`` as a client sends a ``kind``: any object whose attributes have the names of the table.

    The attributes ``without`` are left out.
    """
    written: dict[str, Any] = {}
    for attribute, codec in _table(kind):
        if attribute in without:
            continue
        value = codec.write(getattr(source, attribute))
        if isinstance(value, tuple):
            value = [item.to_wire() for item in value]
        elif isinstance(value, Message):
            value = value.to_wire()
        if value is not None:
            written[codec.name] = value
    return written
