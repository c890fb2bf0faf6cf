"""`python -m stardust_auto.server`: the embedded server in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stardust_auto.server.local import DEFAULT_PORT, address_file, state_folder, try_lock, write_private

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from stardust_auto.server.services import Services

_MISSING = "the embedded server needs its extra: pip install 'stardust-auto[local]'"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stardust_auto.server", description="Embedded Stardust server.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--any-port", action="store_true", help="take a free port when this one is taken")
    parser.add_argument("--data", type=Path, help="folder of its data (default: in the state folder of the user)")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="host name in requests")
    parser.add_argument("--idle-exit", type=float, default=0.0, metavar="S", help="stop after S idle seconds")
    parser.add_argument("--no-register", action="store_true", help="refuse applications that nobody created")
    parser.add_argument("--period", type=int, default=60, metavar="S", help="seconds between trace reports")
    parser.add_argument("--ping-period", type=int, default=60, metavar="S", help="seconds between pings")
    parser.add_argument("--max-samples", type=int, default=1, help="samples of an operation in a period")
    parser.add_argument("--max-errors", type=int, default=10, help="error samples of an operation in a period")
    parser.add_argument("--timeout", type=int, default=5000, metavar="MS", help="a slower span is always sampled")
    parser.add_argument("--retention-days", type=float, default=3.0, metavar="D", help="how long traces are kept")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _data_lock(folder: Path) -> Iterator[bool]:
    """One server for one folder; False when another one has it."""
    descriptor = os.open(folder / "server.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C. Returns 0, 1 when it cannot start, 2 for a wrong argument."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as exc:
        return int(exc.code or 0)
    folder: Path = (options.data or state_folder() / "server").absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _data_lock(folder) as mine:
            if not mine:
                _say(f"another server is using {folder}")
                return 1
            return _run(options, folder)
    except OSError as exc:
        _say(f"the server cannot start: {exc}")
        return 1
    except sqlite3.Error as exc:
        _say(f"the server cannot start: {folder / 'stardust.db'}: {exc}")
        return 1


def _run(options: argparse.Namespace, folder: Path) -> int:
    try:
        from stardust_auto.server.serving import bind, build, url_of
        from stardust_auto.server.settings import ServerSettings
        from stardust_auto.server.store import Store
    except ModuleNotFoundError as exc:
        _say(f"{_MISSING} ({exc.name} is missing)")
        return 1
    settings = ServerSettings(
        auto_register=not options.no_register,
        period=options.period,
        ping_period=options.ping_period,
        max_samples=options.max_samples,
        max_errors=options.max_errors,
        timeout=options.timeout,
        retention_days=options.retention_days,
        idle_exit=options.idle_exit,
        allowed_hosts=tuple(options.allow_host),
    )
    listener = bind(options.host, options.port, any_port=options.any_port)
    store = Store(folder, settings)
    files = [folder / "server.json", address_file(options.host, int(listener.getsockname()[1]))]

    def started() -> None:
        _announce(services, listener, url_of(listener), files)
        if not _loopback(options.host):
            _say(
                f"WARNING: this server is open to the network on {options.host}: traffic, tokens and the administrator's "
                "key travel unencrypted. Put a TLS proxy in front of it, or leave --host out."
            )

    server, services = build(store, settings, listener, started)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(server.serve(sockets=[listener]))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for file in files:
            with contextlib.suppress(OSError):
                file.unlink()
        listener.close()
        store.close()
    return 0


def _announce(services: Services, listener: socket.socket, url: str, files: Sequence[Path]) -> None:
    description = {
        "url": url,
        "pid": os.getpid(),
        "key": services.console_key,
        "app_secret": services.app_secret,
        "instance": services.instance,
        "port": listener.getsockname()[1],
    }
    for file in files:
        try:
            write_private(file, description)
        except OSError as exc:
            _say(f"{file} cannot be written: {exc}")
    _say(f"stardust_auto server: {url}  console: {url}/console/#key={services.console_key}")


if __name__ == "__main__":
    sys.exit(main())
