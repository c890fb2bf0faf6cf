"""The embedded server in the foreground: its options, its limits, its files, its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stardust_auto.server.local import DEFAULT_PORT, address_file, state_folder, try_lock, write_private
from stardust_auto.server.settings import ServerSettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from stardust_auto.server.services import Services

_MISSING = "the embedded server needs its extra: pip install 'stardust-auto[local]'"
#: What a person signs in with; not an option, since every user of the machine sees a command line.
PASSWORD_VARIABLE = "STARDUST_CONSOLE_PASSWORD"  # noqa: S105 - the name of a variable
#: The same for the secret that every application may use.
APP_SECRET_VARIABLE = "STARDUST_SERVER_APP_SECRET"  # noqa: S105 - the name of a variable
_PASSWORD_CHARACTERS = 12


def parser(program: str) -> argparse.ArgumentParser:
    """The options of the server. Their defaults are those of ``ServerSettings``."""
    default = ServerSettings()
    options = argparse.ArgumentParser(
        prog=program,
        description="Run the embedded server until it is stopped (Ctrl-C or SIGTERM). One line on stderr tells its address.",
        epilog=f"To listen on another address than loopback, set {PASSWORD_VARIABLE} and give --no-register.",
    )
    add = options.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    add("--any-port", action="store_true", help="take a free port if this one is taken")
    add("--data", type=Path, metavar="DIR", help="folder of its data (default: in the state folder of the user)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="host name that requests may carry")
    add("--idle-exit", type=float, default=default.idle_exit, metavar="S", help="stop after S idle seconds")
    add("--no-register", action="store_true", help="refuse applications that nobody created")
    add(
        "--app-secret",
        default=os.environ.get(APP_SECRET_VARIABLE, ""),
        metavar="SECRET",
        help=f"a secret that every application may use, as STARDUST_SECRET (default: ${APP_SECRET_VARIABLE}, else random)",
    )
    for name, kind, unit, text in (
        ("period", int, "S", "seconds between trace reports"),
        ("ping_period", int, "S", "seconds between pings"),
        ("max_samples", int, "N", "samples of an operation in a period"),
        ("max_errors", int, "N", "error samples of an operation in a period"),
        ("timeout", int, "MS", "a slower span is always sampled"),
        ("retention_days", float, "D", "how long samples and events are kept"),
        ("stat_days", float, "D", "how long counts are kept"),
        ("max_data_mb", int, "MB", "size of the file from which the oldest data go earlier"),
    ):
        value = getattr(default, name)
        add(
            f"--{name.replace('_', '-')}", type=kind, default=value, metavar=unit, help=f"{text} (default: %(default)s)"
        )
    return options


def main(argv: Sequence[str] | None = None, program: str = "python -m stardust_auto.server") -> int:
    """Run until SIGTERM or Ctrl-C. Returns 0, 1 if it cannot start, 2 for a wrong argument."""
    try:
        options = parser(program).parse_args(argv)
        _check(options)
    except SystemExit as error:
        return int(error.code or 0)
    except ValueError as error:
        _say(f"{program}: {error}")
        return 2
    folder: Path = (options.data or state_folder() / "server").absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _data_lock(folder) as mine:
            if not mine:
                _say(f"another server is using {folder}")
                return 1
            return _run(options, folder)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            _say(
                f"the server cannot start: port {options.port} of {options.host} is taken by another program; "
                "--port 0 takes a free one"
            )
        else:
            _say(f"the server cannot start: {error}")
        return 1
    except sqlite3.DatabaseError as error:
        _say(
            f"the server cannot start: {folder / 'stardust.db'}: {error}. Move the file away to begin with an empty one; "
            "every configuration is in it, so keep it"
        )
        return 1


def _check(options: argparse.Namespace) -> None:
    """Refuse to be open to the network by accident.

    Raises:
        ValueError: what is missing.
    """
    if options.app_secret and (len(options.app_secret) < 8 or options.app_secret.startswith("$")):
        raise ValueError("--app-secret needs at least 8 characters and must not begin with $")
    if _loopback(options.host):
        return
    missing = []
    if len(os.environ.get(PASSWORD_VARIABLE, "")) < _PASSWORD_CHARACTERS:
        missing.append(f"a console password ({PASSWORD_VARIABLE}, at least {_PASSWORD_CHARACTERS} characters)")
    if not options.no_register:
        missing.append("closed registration (--no-register; --app-secret lets your programs in)")
    if missing:
        raise ValueError(f"{options.host} can be reached from the network. That needs {' and '.join(missing)}")


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
    """One server for one folder; False if another one has it."""
    descriptor = os.open(folder / "server.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _settings(options: argparse.Namespace) -> ServerSettings:
    same = (
        "period",
        "ping_period",
        "max_samples",
        "max_errors",
        "timeout",
        "retention_days",
        "stat_days",
        "max_data_mb",
    )
    return ServerSettings(
        auto_register=not options.no_register,
        idle_exit=options.idle_exit,
        allowed_hosts=tuple(options.allow_host),
        app_secret=options.app_secret,
        console_password=os.environ.get(PASSWORD_VARIABLE, ""),
        open_to="" if _loopback(options.host) else options.host,
        **{name: getattr(options, name) for name in same},
    )


def _run(options: argparse.Namespace, folder: Path) -> int:
    try:
        from stardust_auto.server.connections import raise_descriptor_limit
        from stardust_auto.server.serving import bind, build, url_of
        from stardust_auto.server.store import Store
    except ModuleNotFoundError as error:
        _say(f"{_MISSING} ({error.name} is missing)")
        return 1
    raise_descriptor_limit()
    settings = _settings(options)
    listener = bind(options.host, options.port, any_port=options.any_port)
    try:
        store = Store(folder, settings)
    except BaseException:
        listener.close()
        raise
    files = [folder / "server.json", address_file(options.host, int(listener.getsockname()[1]))]

    def started() -> None:
        _announce(services, listener, url_of(listener), files)
        if settings.open_to:
            _say(
                f"WARNING: this server is open to the network on {options.host}: traffic, tokens and the administrator's "
                "key travel unencrypted. Put a TLS proxy in front of it."
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
        except OSError as error:
            _say(f"{file} cannot be written: {error}")
    _say(f"stardust_auto server: {url}  console: {url}/console/#key={services.console_key}")
