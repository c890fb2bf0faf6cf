"""Identity and metrics of this process, for logins and Pings (protocol.md §2.2, §2.5)."""

from __future__ import annotations

import gc
import os
import re
import secrets
import socket
import sys
from typing import Final

import psutil

from stardust_auto.privacy import mask_command_line
from stardust_auto.process.clock import monotonic, wall_time
from stardust_auto.wire.messages import AppInfo
from stardust_auto.wire.text import clean_id

#: 2025-01-01 UTC: with a later compile time the server sends the times of commands as UTC (§2.8).
_EARLIEST_COMPILE: Final = 1_735_689_600_000
#: Listing sockets reads a table of the kernel line by line; with more descriptors it is left out.
_MANY_HANDLES: Final = 1000


def local_ipv4() -> tuple[str, ...]:
    """IPv4 addresses of this machine, without loopback and link-local ones."""
    found: list[str] = []
    try:
        interfaces = psutil.net_if_addrs()
    except OSError:
        return ()
    for addresses in interfaces.values():
        found += [
            entry.address
            for entry in addresses
            if entry.family == socket.AF_INET and not entry.address.startswith(("127.", "169.254."))
        ]
    return tuple(dict.fromkeys(found))


def default_client_id() -> str:
    """``<first IPv4>@<pid>``, the platform's convention for an instance."""
    addresses = local_ipv4()
    return f"{addresses[0] if addresses else '127.0.0.1'}@{os.getpid()}"


def other_client_id(client_id: str) -> str:
    """Another identity of the same process, since another instance uses ``client_id``: containers share pid and address."""
    base = re.sub(r"-[0-9a-f]{6}$", "", client_id)
    return clean_id(f"{base[:43]}-{secrets.token_hex(3)}")


def compile_time() -> int:
    """The "build" of the running program in Unix ms: when its main file was last changed, never before 2025."""
    path = getattr(sys.modules.get("__main__"), "__file__", None) or __file__
    try:
        changed = int(os.stat(path).st_mtime * 1000)
    except OSError:
        changed = 0
    return max(_EARLIEST_COMPILE, min(changed, int(wall_time() * 1000)))


class ProcessMetrics:
    """Samples this process. CPU use and garbage collections are counted from one sample to the next."""

    def __init__(self, version: str | None) -> None:
        self._version = version
        self._process = psutil.Process()
        self._last: tuple[float, float] | None = None
        self._collections = _collections()
        self._addresses = ",".join(local_ipv4())

    def sample(self, now_ms: int) -> AppInfo:
        """The body of a Ping sent at ``now_ms`` (Unix ms). What this system cannot tell is left out."""
        process = self._process
        values: dict[str, object] = {}
        with process.oneshot():
            for name, read in (
                ("name", process.name),
                ("user_name", process.username),
                ("command_line", lambda: mask_command_line(process.cmdline())),
                ("start_time", lambda: int(process.create_time() * 1000)),
                ("working_set", lambda: process.memory_info().rss),
                ("threads", process.num_threads),
                ("handles", getattr(process, "num_fds", None) or getattr(process, "num_handles", None)),
            ):
                if read is None:
                    continue
                try:
                    values[name] = read()
                except (psutil.Error, OSError, KeyError):  # KeyError: a user id without a name, as in containers
                    continue
            values |= self._processor()
        handles = values.get("handles")
        if isinstance(handles, int) and handles < _MANY_HANDLES:
            values |= self._sockets()
        collections = _collections()
        values["gc_count"], self._collections = max(0, collections - self._collections), collections
        tracemalloc = sys.modules.get("tracemalloc")
        if tracemalloc is not None and tracemalloc.is_tracing():
            values["heap_size"] = tracemalloc.get_traced_memory()[0]
        return AppInfo(
            id=os.getpid(),
            version=self._version,
            machine_name=socket.gethostname(),
            ip=self._addresses,
            time=now_ms,
            **values,  # type: ignore[arg-type]  # each value comes from the psutil call of its field
        )

    def _processor(self) -> dict[str, object]:
        try:
            times = self._process.cpu_times()
        except (psutil.Error, OSError):
            return {}
        used, now = times.user + times.system, monotonic()
        usage = 0.0
        if self._last is not None and now > self._last[1]:
            usage = max(0.0, (used - self._last[0]) / (now - self._last[1]))
        self._last = (used, now)
        return {"processor_time": int(used * 1000), "cpu_usage": round(usage, 4)}

    def _sockets(self) -> dict[str, object]:
        # psutil 6 renamed it; 5.9 has the old name only.
        listing = getattr(self._process, "net_connections", None) or self._process.connections
        try:
            sockets = listing(kind="tcp")
        except (psutil.Error, OSError, RuntimeError):
            return {}
        listens = sorted(
            {f"{s.laddr.ip}:{s.laddr.port}" for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr}
        )
        return {
            "connections": sum(1 for s in sockets if s.status == psutil.CONN_ESTABLISHED),
            "listens": ",".join(listens),
        }


def _collections() -> int:
    return sum(int(generation["collections"]) for generation in gc.get_stats())
