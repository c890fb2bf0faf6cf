"""Typed messages of the App, Config and OAuth APIs (protocol.md §2, §6, §7). Traces are in ``traces.py``.

Requests are written in PascalCase without nulls, replies in camelCase with nulls, as the platform's own sides do.
Every message has ``from_wire`` (tolerant, never raises) and ``to_wire`` (exact), so both sides use the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from stardust_auto.wire import fields
from stardust_auto.wire.fields import Message
from stardust_auto.wire.text import NAME_LIMIT, TAG_LIMIT


@dataclass(frozen=True, slots=True)
class LoginRequest(Message):
    """POST /App/Login (§2.2). ``secret`` is a salted proof; times are Unix milliseconds."""

    app_id: str | None = fields.ident("AppId")
    secret: str | None = fields.text("Secret", NAME_LIMIT)
    app_name: str | None = fields.text("AppName", 50)
    client_id: str | None = fields.ident("ClientId")
    version: str | None = fields.version("Version")
    compile: int = fields.int64("Compile")
    ip: str | None = fields.text("IP", NAME_LIMIT)
    macs: str | None = fields.text("Macs", NAME_LIMIT)
    uuid: str | None = fields.text("UUID", NAME_LIMIT)
    time: int = fields.int64("Time")
    node_code: str | None = fields.ident("NodeCode")
    project: str | None = fields.ident("Project")

    def __repr__(self) -> str:
        return f"LoginRequest(app_id={self.app_id!r}, client_id={self.client_id!r})"

    @classmethod
    def from_wire(cls, value: object) -> LoginRequest:
        """Read a login; ``Code`` and ``AppId`` are one property, the one that is set counts."""
        found = fields.members(value)
        if not found.get("appid") and found.get("code"):
            value = {**found, "appid": found["code"]}
        return super(LoginRequest, cls).from_wire(value)


@dataclass(frozen=True, slots=True)
class LoginReply(Message):
    """``data`` of a login. ``code`` and ``secret`` are set when the server issues credentials; ``token`` may be null."""

    _nulls: ClassVar[bool] = True
    _camel: ClassVar[bool] = True

    code: str | None = fields.text("Code", NAME_LIMIT)
    secret: str | None = fields.text("Secret", NAME_LIMIT)
    name: str | None = fields.text("Name", NAME_LIMIT)
    token: str | None = fields.text("Token", 1 << 14)
    expire: int = fields.int32("Expire")
    time: int = fields.int64("Time")
    server_time: int = fields.int64("ServerTime")

    def __repr__(self) -> str:
        return f"LoginReply(name={self.name!r}, issued={self.secret is not None}, token={self.token is not None})"


@dataclass(frozen=True, slots=True)
class AppInfo(Message):
    """Body of /App/Ping: the process and its metrics (§2.5). What is not known is left out.

    ``processor_time`` ms of CPU; ``cpu_usage`` 1.0 = one core busy; ``working_set`` and ``heap_size`` bytes;
    ``gc_count`` collections since the last sample; ``start_time`` local time text.
    """

    id: int = fields.int32("Id")
    name: str | None = fields.text("Name", 50)
    version: str | None = fields.version("Version")
    app_name: str | None = fields.text("AppName", 50)
    command_line: str | None = fields.text("CommandLine", NAME_LIMIT)
    user_name: str | None = fields.text("UserName", 50)
    machine_name: str | None = fields.text("MachineName", 50)
    ip: str | None = fields.text("IP", NAME_LIMIT)
    start_time: str | None = fields.text("StartTime", 50)
    processor_time: int | None = fields.maybe_int64("ProcessorTime")
    cpu_usage: float | None = fields.maybe_double("CpuUsage")
    working_set: int | None = fields.maybe_int64("WorkingSet")
    heap_size: int | None = fields.maybe_int64("HeapSize")
    threads: int | None = fields.maybe_int32("Threads")
    handles: int | None = fields.maybe_int32("Handles")
    connections: int | None = fields.maybe_int32("Connections")
    worker_threads: int | None = fields.maybe_int32("WorkerThreads")
    io_threads: int | None = fields.maybe_int32("IOThreads")
    available_threads: int | None = fields.maybe_int32("AvailableThreads")
    pending_items: int | None = fields.maybe_int64("PendingItems")
    completed_items: int | None = fields.maybe_int64("CompletedItems")
    listens: str | None = fields.text("Listens", NAME_LIMIT)
    gc_count: int | None = fields.maybe_int32("GCCount")
    time: int = fields.int64("Time")


class CommandStatus(IntEnum):
    """State of a command as the server counts it (§2.7)."""

    READY = 0
    PROCESSING = 1
    DONE = 2
    CANCELLED = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Command(Message):
    """A command for this application, from a Ping reply or pushed (§2.8). Times in Unix milliseconds, 0 = not set.

    ``trace_id`` is a whole traceparent.
    """

    _nulls: ClassVar[bool] = True

    id: int = fields.int64("Id")
    command: str | None = fields.text("Command", NAME_LIMIT)
    argument: str | None = fields.text("Argument")
    start_time: int = fields.time("StartTime")
    expire: int = fields.time("Expire")
    trace_id: str | None = fields.text("TraceId", NAME_LIMIT)
    status: int = fields.int32("Status")


@dataclass(frozen=True, slots=True)
class CommandReply(Message):
    """POST /App/CommandReply, and ``data`` of /App/SendCommand (§2.7). ``status`` is a number on the wire."""

    id: int = fields.int64("Id")
    status: int = fields.int32("Status")
    data: str | None = fields.text("Data", 1 << 16)


@dataclass(frozen=True, slots=True)
class SendCommandRequest(Message):
    """POST /App/SendCommand: ``code`` is ``app`` or ``app@clientId``; the times are seconds from now."""

    code: str | None = fields.text("Code", NAME_LIMIT)
    command: str | None = fields.text("Command", NAME_LIMIT)
    argument: str | None = fields.text("Argument")
    start_time: int = fields.int32("StartTime")
    expire: int = fields.int32("Expire")
    timeout: int = fields.int32("Timeout")


@dataclass(frozen=True, slots=True)
class PingReply(Message):
    """``data`` of a Ping: ``period`` in seconds, a new ``token`` when the old one ends within ten minutes."""

    _nulls: ClassVar[bool] = True
    _camel: ClassVar[bool] = True

    time: int = fields.int64("Time")
    server_time: int = fields.int64("ServerTime")
    period: int = fields.int32("Period")
    token: str | None = fields.text("Token", 1 << 14)
    new_server: str | None = fields.text("NewServer", NAME_LIMIT)
    commands: tuple[Command, ...] | None = fields.objects("Commands", Command)

    def __repr__(self) -> str:
        return f"PingReply(server_time={self.server_time}, period={self.period}, token={self.token is not None})"


@dataclass(frozen=True, slots=True)
class Event(Message):
    """One entry of POST /App/PostEvents; ``type`` is info, alert or error."""

    time: int = fields.int64("Time")
    type: str | None = fields.text("Type", 50)
    name: str | None = fields.text("Name", NAME_LIMIT)
    remark: str | None = fields.text("Remark", TAG_LIMIT)


@dataclass(frozen=True, slots=True)
class ConfigRequest(Message):
    """POST /Config/GetAll (§6.1). ``used_keys`` and ``missed_keys`` are comma lists of names, never values."""

    app_id: str | None = fields.ident("AppId")
    secret: str | None = fields.text("Secret", NAME_LIMIT)
    client_id: str | None = fields.ident("ClientId")
    scope: str | None = fields.ident("Scope")
    version: int = fields.int32("Version")
    used_keys: str | None = fields.text("UsedKeys", TAG_LIMIT)
    missed_keys: str | None = fields.text("MissedKeys", TAG_LIMIT)

    def __repr__(self) -> str:
        return f"ConfigRequest(app_id={self.app_id!r}, scope={self.scope!r}, version={self.version})"


def _read_map(value: Any) -> dict[str, str | None] | None:
    if not isinstance(value, Mapping):
        return None
    return {str(key): fields.read_text(item) for key, item in value.items() if not isinstance(item, (list, dict))}


def _write_map(value: Mapping[str, str | None] | None) -> dict[str, str | None] | None:
    if value is None:
        return None
    return {fields.read_text(key) or "": fields.read_text(item) for key, item in value.items()}


@dataclass(frozen=True, slots=True)
class ConfigReply(Message):
    """``data`` of /Config/GetAll. ``configs`` None = unchanged; ``{}`` = the application has no settings at all.

    ``next_publish`` is the server's local time as text, empty when nothing is scheduled. Keys keep their case.
    """

    _nulls: ClassVar[bool] = True
    _camel: ClassVar[bool] = True

    version: int = fields.int32("Version")
    scope: str | None = fields.text("Scope", NAME_LIMIT)
    source_ip: str | None = fields.text("SourceIP", NAME_LIMIT)
    next_version: int = fields.int32("NextVersion")
    next_publish: str | None = fields.text("NextPublish", 50)
    update_time: str | None = fields.text("UpdateTime", 50)
    configs: Mapping[str, str | None] | None = fields.member("Configs", None, _read_map, _write_map)

    def __repr__(self) -> str:
        size = None if self.configs is None else len(self.configs)
        return f"ConfigReply(version={self.version}, scope={self.scope!r}, keys={size})"


@dataclass(frozen=True, slots=True)
class ServiceRegistration(Message):
    """POST /App/RegisterService and /App/UnregisterService (§7). ``address`` is a comma list of URLs."""

    service_name: str | None = fields.text("ServiceName", NAME_LIMIT)
    client_id: str | None = fields.ident("ClientId")
    ip: str | None = fields.text("IP", NAME_LIMIT)
    version: str | None = fields.version("Version")
    address: str | None = fields.text("Address", NAME_LIMIT)
    external_address: str | None = fields.text("ExternalAddress", NAME_LIMIT)
    health: str | None = fields.text("Health", NAME_LIMIT)
    tag: str | None = fields.text("Tag", NAME_LIMIT)


@dataclass(frozen=True, slots=True)
class ServiceQuery(Message):
    """POST /App/ResolveService (§7)."""

    service_name: str | None = fields.text("ServiceName", NAME_LIMIT)
    client_id: str | None = fields.ident("ClientId")
    min_version: str | None = fields.text("MinVersion", 50)
    tag: str | None = fields.text("Tag", NAME_LIMIT)


@dataclass(frozen=True, slots=True)
class ServiceInstance(Message):
    """One provider of a service (§7). ``create_time`` and ``update_time`` are the server's local time as text."""

    _nulls: ClassVar[bool] = True
    _camel: ClassVar[bool] = True

    service_name: str | None = fields.text("ServiceName", NAME_LIMIT)
    display_name: str | None = fields.text("DisplayName", NAME_LIMIT)
    client: str | None = fields.text("Client", NAME_LIMIT)
    version: str | None = fields.text("Version", 50)
    address: str | None = fields.text("Address", TAG_LIMIT)
    address2: str | None = fields.text("Address2", TAG_LIMIT)
    scope: str | None = fields.text("Scope", NAME_LIMIT)
    tag: str | None = fields.text("Tag", NAME_LIMIT)
    weight: int = fields.int32("Weight")
    create_time: str | None = fields.text("CreateTime", 50)
    update_time: str | None = fields.text("UpdateTime", 50)


@dataclass(frozen=True, slots=True)
class OAuthToken(Message):
    """``data`` of /OAuth/Token (§2.10); ``expire_in`` in seconds."""

    _nulls: ClassVar[bool] = True

    access_token: str | None = fields.text("access_token", 1 << 14)
    token_type: str | None = fields.text("token_type", 50)
    expire_in: int = fields.int32("expire_in")
    refresh_token: str | None = fields.text("refresh_token", 1 << 14)
    scope: str | None = fields.text("scope", NAME_LIMIT)

    def __repr__(self) -> str:
        return f"OAuthToken(token_type={self.token_type!r}, expire_in={self.expire_in})"
