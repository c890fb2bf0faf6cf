"""Every message of the platform, one table each (protocol.md §2, §3, §6, §7).

The agent writes the requests and reads the replies; the embedded server does the reverse with the same tables.
Over 400 lines, since a message is nothing but its table and all of them are read together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from stardust_auto.wire import fields, reading, text
from stardust_auto.wire.fields import Message
from stardust_auto.wire.text import NAME_LIMIT, TAG_LIMIT

_TOKEN_LIMIT = 1 << 14

# -- login, ping, logout (§2) -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoginRequest(Message):
    """POST /App/Login (§2.2). ``secret`` is a salted proof; times are Unix milliseconds."""

    app_id: str | None = fields.ident("AppId")
    code: str | None = fields.ident("Code")
    secret: str | None = fields.text("Secret", NAME_LIMIT)
    app_name: str | None = fields.text("AppName", 50)
    client_id: str | None = fields.ident("ClientId")
    version: str | None = fields.version("Version")
    compile: int = fields.int64("Compile")
    ip: str | None = fields.text("IP", NAME_LIMIT)
    time: int = fields.int64("Time")
    node_code: str | None = fields.ident("NodeCode")

    @property
    def application(self) -> str:
        """The application: ``AppId`` and ``Code`` are one property of a StarServer (§2.2)."""
        return (self.app_id or self.code or "").strip()

    def __repr__(self) -> str:
        return f"LoginRequest(app_id={self.app_id!r}, client_id={self.client_id!r})"


@dataclass(frozen=True, slots=True)
class LoginReply(Message):
    """``data`` of a login. ``code`` and ``secret`` are set when the server issues credentials; ``token`` may be null."""

    code: str | None = fields.text("Code", NAME_LIMIT)
    secret: str | None = fields.text("Secret", NAME_LIMIT)
    name: str | None = fields.text("Name", NAME_LIMIT)
    token: str | None = fields.text("Token", _TOKEN_LIMIT)
    expire: int = fields.int32("Expire")
    time: int = fields.int64("Time")
    server_time: int = fields.int64("ServerTime")
    features: tuple[str, ...] | None = fields.texts("Features", extra=True)

    def __repr__(self) -> str:
        return f"LoginReply(name={self.name!r}, issued={self.secret is not None}, token={self.token is not None})"


@dataclass(frozen=True, slots=True)
class ConfigVerdict(Message):
    """What became of the configuration in one instance; sent to a server that lists ``features.CONFIG_VERDICTS``.

    ``version`` is the version in use, ``refused`` a newer one that the program refused for ``reason``, both 0 without one;
    ``restart`` is a comma list of the fields that wait for a restart.
    """

    version: int = fields.int32("Version")
    refused: int = fields.int32("Refused")
    reason: str | None = fields.text("Reason", 500)
    restart: str | None = fields.text("Restart", 500)


@dataclass(frozen=True, slots=True)
class AppInfo(Message):
    """Body of /App/Ping: the process and its metrics (§2.5). Unknown members are left out.

    ``processor_time`` is ms of CPU; ``cpu_usage`` 1.0 is one busy core; ``working_set`` and ``heap_size`` are bytes;
    ``gc_count`` counts collections since the last sample; ``start_time`` is Unix milliseconds.
    """

    id: int | None = fields.maybe_int32("Id")
    name: str | None = fields.text("Name", 50)
    version: str | None = fields.version("Version")
    app_name: str | None = fields.text("AppName", 50)
    command_line: str | None = fields.text("CommandLine", NAME_LIMIT)
    user_name: str | None = fields.text("UserName", 50)
    machine_name: str | None = fields.text("MachineName", 50)
    ip: str | None = fields.text("IP", NAME_LIMIT)
    start_time: int | None = fields.local_time("StartTime")
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
    config: ConfigVerdict | None = fields.nested("Config", ConfigVerdict)  # noqa: RUF009 - a dataclass field


# -- commands and events (§2.7, §2.8) ---------------------------------------------------------------------------------


class CommandStatus(IntEnum):
    """State of a command as the server counts it (§2.7)."""

    READY = 0
    PROCESSING = 1
    DONE = 2
    CANCELLED = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Command(Message):
    """A command for this application, from a Ping reply or pushed (§2.8). Times are Unix milliseconds, 0 means "not set".

    ``trace_id`` is a whole traceparent.
    """

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
class CommandRequest(Message):
    """POST /App/SendCommand. ``code`` is ``app`` or ``app@clientId``; the times are seconds from now."""

    code: str | None = fields.text("Code", NAME_LIMIT)
    command: str | None = fields.text("Command", NAME_LIMIT)
    argument: str | None = fields.text("Argument")
    start_time: int = fields.int32("StartTime")
    expire: int = fields.int32("Expire")
    timeout: int = fields.int32("Timeout")


@dataclass(frozen=True, slots=True)
class PingReply(Message):
    """``data`` of a Ping. ``period`` is in seconds; a new ``token`` comes when the old one ends within ten minutes."""

    time: int = fields.int64("Time")
    server_time: int = fields.int64("ServerTime")
    period: int = fields.int32("Period")
    token: str | None = fields.text("Token", _TOKEN_LIMIT)
    new_server: str | None = fields.text("NewServer", NAME_LIMIT)
    commands: tuple[Command, ...] | None = fields.objects("Commands", Command)
    features: tuple[str, ...] | None = fields.texts("Features", extra=True)

    def __repr__(self) -> str:
        return f"PingReply(server_time={self.server_time}, period={self.period}, token={self.token is not None})"


@dataclass(frozen=True, slots=True)
class Event(Message):
    """One entry of POST /App/PostEvents; ``type`` is info, alert or error."""

    time: int = fields.millis("Time")
    type: str | None = fields.text("Type", 50)
    name: str | None = fields.text("Name", NAME_LIMIT)
    remark: str | None = fields.text("Remark", TAG_LIMIT)


# -- traces (§3) ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample(Message):
    """One span: no name, no cost (§3.1). Times are Unix milliseconds.

    ``start_us`` and ``end_us`` are the same in microseconds, for a server that lists ``features.MICROSECONDS``; 0 if not sent.
    """

    id: str = fields.label_id("Id")
    parent_id: str = fields.label_id("ParentId")
    trace_id: str = fields.label_id("TraceId")
    start_time: int = fields.millis("StartTime")
    end_time: int = fields.millis("EndTime")
    value: int = fields.int64("Value")
    tag: str = fields.label("Tag", TAG_LIMIT)
    flag: int = fields.integer("TraceFlag", lambda v: text.integer(v, 0, 255), text.INT32_MAX)
    error: str = fields.label("Error", TAG_LIMIT)
    start_us: int = fields.int64("StartUs")
    end_us: int = fields.int64("EndUs")


@dataclass(frozen=True, slots=True)
class Builder(Message):
    """The aggregate of one operation in one period. ``cost`` is the sum in ms; ``min_cost`` -1 means "nothing counted"."""

    name: str = fields.label("Name", NAME_LIMIT)
    start_time: int = fields.millis("StartTime")
    end_time: int = fields.millis("EndTime")
    total: int = fields.integer("Total", text.count, text.INT32_MAX)
    errors: int = fields.integer("Errors", text.count, text.INT32_MAX)
    cost: int = fields.integer("Cost", text.amount)
    max_cost: int = fields.integer("MaxCost", text.count, text.INT32_MAX)
    min_cost: int = fields.integer("MinCost", lambda v: text.integer(v, -1, text.INT32_MAX), text.INT32_MAX)
    value: int = fields.int64("Value")
    samples: tuple[Sample, ...] | None = fields.objects("Samples", Sample)
    error_samples: tuple[Sample, ...] | None = fields.objects("ErrorSamples", Sample)


@dataclass(frozen=True, slots=True)
class TraceReport(Message):
    """Body of /Trace/Report and, as gzip, of /Trace/ReportRaw.

    ``batch_id`` is an extra member: a StarServer ignores it, the embedded server recognises a repeated batch by it.
    """

    app_id: str | None = fields.ident("AppId")
    app_name: str | None = fields.text("AppName", 50)
    client_id: str | None = fields.ident("ClientId")
    version: str | None = fields.version("Version")
    batch_id: str | None = fields.ident("BatchId", extra=True)
    info: AppInfo | None = fields.nested("Info", AppInfo)  # noqa: RUF009 - a dataclass field
    builders: tuple[Builder, ...] | None = fields.objects("Builders", Builder)


@dataclass(frozen=True, slots=True)
class TraceReply(Message):
    """``data`` of a report. ``period`` is in seconds, ``timeout`` in ms; ``excludes`` replaces the list, also when null.

    ``batch_id`` echoes the batch. Only a server that stores each batch once writes it.
    """

    period: int = fields.int32("Period")
    max_samples: int = fields.int32("MaxSamples")
    max_errors: int = fields.int32("MaxErrors")
    timeout: int = fields.int32("Timeout")
    max_tag_length: int = fields.int32("MaxTagLength")
    request_tag_length: int = fields.int32("RequestTagLength")
    enable_meter: bool | None = fields.maybe_bool("EnableMeter")
    excludes: tuple[str, ...] | None = fields.texts("Excludes")
    batch_id: str | None = fields.ident("BatchId", extra=True)


def write_builder(builder: object, shift: int = 0) -> dict[str, Any]:
    """A builder without its samples, as a JSON object that a strict reader takes.

    ``builder`` has the attributes of :class:`Builder`. A builder whose ``Name`` is empty must not be sent.
    ``shift`` ms are added to all times: the difference between the server's clock and this machine's.
    """
    written = fields.write(Builder, builder, without=("samples", "error_samples"))
    start = written["StartTime"] = text.millis(written["StartTime"] + shift)
    written["EndTime"] = max(start, text.millis(written["EndTime"] + shift))
    written["Name"] = written.get("Name", "").strip()
    return written


def write_sample(sample: object, shift: int = 0, *, precise: bool = False) -> dict[str, Any]:
    """A sample as a JSON object; ``sample`` has the attributes of :class:`Sample`.

    With ``precise`` its ``start_ns`` and ``duration_ns`` are sent in microseconds, too.

    A span is never its own parent, since such a trace has no root (§3.4). The server stores the duration as an Int32.
    """
    written = fields.write(Sample, sample, without=("start_us", "end_us"))
    start = written["StartTime"] = text.millis(written["StartTime"] + shift)
    written["EndTime"] = min(max(start, text.millis(written["EndTime"] + shift)), start + text.INT32_MAX)
    if written.get("ParentId") == written.get("Id"):
        written.pop("ParentId", None)
    started = getattr(sample, "start_ns", 0)
    if precise and started:
        written["StartUs"] = started // 1000 + shift * 1000
        written["EndUs"] = written["StartUs"] + getattr(sample, "duration_ns", 0) // 1000
    return written


# -- settings (§6) ----------------------------------------------------------------------------------------------------


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
    return {str(key): reading.read_text(item) for key, item in value.items() if not isinstance(item, (list, dict))}


def _write_map(value: Mapping[str, str | None] | None) -> dict[str, str | None] | None:
    if value is None:
        return None
    return {reading.read_text(key) or "": reading.read_text(item) for key, item in value.items()}


@dataclass(frozen=True, slots=True)
class ConfigReply(Message):
    """``data`` of /Config/GetAll. ``configs`` ``None`` means unchanged; ``{}`` that the application has no settings.

    ``next_publish`` is the server's local time as text, empty when nothing is scheduled. Keys keep their case.
    """

    version: int = fields.int32("Version")
    scope: str | None = fields.text("Scope", NAME_LIMIT)
    source_ip: str | None = fields.text("SourceIP", NAME_LIMIT)
    next_version: int = fields.int32("NextVersion")
    next_publish: str | None = fields.text("NextPublish", 50)
    update_time: str | None = fields.text("UpdateTime", 50)
    configs: Mapping[str, str | None] | None = fields.member("Configs", None, _read_map, _write_map)
    #: Whether version and values of the answer surely belong together; a StarServer cannot say so (§12.7).
    coherent: bool | None = fields.promise("Coherent")

    def __repr__(self) -> str:
        size = None if self.configs is None else len(self.configs)
        return f"ConfigReply(version={self.version}, scope={self.scope!r}, keys={size})"


# -- services (§7) ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServiceRegistration(Message):
    """POST /App/RegisterService and /App/UnregisterService (§7). ``address`` is a comma list of URLs."""

    service_name: str | None = fields.text("ServiceName", NAME_LIMIT)
    client_id: str | None = fields.ident("ClientId")
    ip: str | None = fields.text("IP", NAME_LIMIT)
    version: str | None = fields.version("Version")
    address: str | None = fields.text("Address", TAG_LIMIT)
    external_address: str | None = fields.text("ExternalAddress", TAG_LIMIT)
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


# -- OAuth (§2.10) ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OAuthRequest(Message):
    """POST /OAuth/Token; ``grant_type`` is ``password`` or ``refresh_token``."""

    grant_type: str | None = fields.text("grant_type", 50)
    username: str | None = fields.ident("username")
    password: str | None = fields.text("password", NAME_LIMIT)
    client_id: str | None = fields.ident("clientId", text.ID_LIMIT)
    refresh_token: str | None = fields.text("refresh_token", _TOKEN_LIMIT)

    def __repr__(self) -> str:
        return f"OAuthRequest(grant_type={self.grant_type!r}, username={self.username!r})"


@dataclass(frozen=True, slots=True)
class OAuthToken(Message):
    """``data`` of /OAuth/Token (§2.10); ``expire_in`` in seconds."""

    access_token: str | None = fields.text("access_token", _TOKEN_LIMIT)
    token_type: str | None = fields.text("token_type", 50)
    expire_in: int = fields.int32("expire_in")
    refresh_token: str | None = fields.text("refresh_token", _TOKEN_LIMIT)
    scope: str | None = fields.text("scope", NAME_LIMIT)

    def __repr__(self) -> str:
        return f"OAuthToken(token_type={self.token_type!r}, expire_in={self.expire_in})"
