"""Finding and starting the embedded server of a folder. Standard library only: a launcher must not load a web framework.

A running server describes itself in ``<data folder>/server.json`` (mode 0600), and for programs that know its address only,
in ``<user state folder>/stardust-auto/servers/<host>_<port>.json``. Before the key is used, the process at that address has
to prove that it knows it: a port can have gone to somebody else since.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_PORT = 6600
IDLE_SECONDS = 3600
"""A server that a launcher started ends after an hour without a request and without a push socket."""
_START_SECONDS = 30.0
_LOCK_SECONDS = 40.0
_LOG_LIMIT = 1_000_000
_ALIASES = ("starserver", "starappid", "starsecret")


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server. ``app_secret`` lets any application log in; ``key`` is the administrator's."""

    url: str
    console_url: str = field(repr=False)
    key: str = field(repr=False)
    pid: int = 0
    app_secret: str = field(default="", repr=False)


def state_folder() -> Path:
    """Where this user's programs keep state: ``$XDG_STATE_HOME``, ``~/.local/state``, or the platform's own place."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "stardust-auto"


def address_file(host: str, port: int) -> Path:
    """Where a server at this address leaves its key for programs of the same user."""
    return state_folder() / "servers" / f"{re.sub(r'[^0-9A-Za-z.-]', '-', host.lower())}_{port}.json"


def write_private(path: Path, value: Mapping[str, object]) -> None:
    """JSON that only this user can read; whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_local_server(folder: str | os.PathLike[str]) -> LocalServer | None:
    """The server that ``folder``/server.json names, if it answers and proves that it is the one; else None."""
    server = _read(Path(folder) / "server.json")
    try:
        return server if server is not None and _proves(server.url, server.key, 1.5) else None
    except OSError:
        return None


def find_key(url: str) -> str | None:
    """The administrator's key of a server that the same user runs at ``url``.

    None if there is none, or if the process that answers there cannot prove that it knows the key.

    Raises:
        OSError: a server of this user was there, and nothing answers now. A stranger on its port could answer the next call.
    """
    parts = urlsplit(url)
    try:
        host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    hosts = [host]
    if host in ("localhost", "127.0.0.1", "::1"):
        hosts += ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"]  # one machine, whatever it was told to listen on
    for candidate in dict.fromkeys(hosts):
        server = _read(address_file(candidate, port))
        if server is not None and _proves(url, server.key, 3.0):
            return server.key
    return None


def _read(path: Path) -> LocalServer | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        url, key = str(value["url"]), str(value["key"])
        return LocalServer(url, f"{url}/console/#key={key}", key, int(value["pid"]), str(value.get("app_secret", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, being removed, or not ours: all the same to who asks


def _proves(url: str, key: str, timeout: float) -> bool:
    """Whether the process at ``url`` knows ``key``: it signs a nonce and the address that this connection reached.

    A process that relays the question to the real server listens on another address, so it gets another signature.

    Raises:
        OSError: nothing answers.
    """
    nonce = secrets.token_urlsafe(24)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)  # no proxy of the environment in between
    try:
        connection.connect()
        host, port = connection.sock.getpeername()[:2]
        connection.request("GET", f"/console/proof?nonce={nonce}")
        reply = connection.getresponse()
        proof = json.loads(reply.read(10_000)).get("proof", "") if reply.status == 200 else ""
    except ConnectionResetError:  # also RemoteDisconnected: something was there, and did not answer
        return False
    except (http.client.HTTPException, ValueError, AttributeError):
        return False
    finally:
        connection.close()
    expected = hmac.new(key.encode(), f"proof|{host}|{port}|{nonce}".encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, str(proof).encode("ascii", "replace").decode())


def ensure_local_server(folder: str | os.PathLike[str]) -> LocalServer:
    """The server of ``folder``: the running one, else one that is started detached (port 6600, or a free one).

    Two launchers at once get the same server.

    Raises:
        OSError: the folder cannot be used.
        RuntimeError: the server did not start; the text says why.
    """
    path = Path(folder).absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = read_local_server(path)
    if server is not None:
        return server
    with _locked(path / "launch.lock"):
        server = read_local_server(path)
        if server is not None:
            return server
        _ignore_in_git(path)
        return _start(path)


def _ignore_in_git(path: Path) -> None:
    marker = path / ".gitignore"
    if not marker.exists():
        marker.write_text("*\n", encoding="utf-8")


def _start(path: Path) -> LocalServer:
    log = path / "server.log"
    with _log_file(log) as stream:
        offset = stream.tell()
        watch = _Watch(path, stream)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            stopped = watch.ended()  # asked first: a server that wrote its address and stopped then is not missed
            server = read_local_server(path)
            if server is not None:
                return server
            if stopped:
                raise RuntimeError(f"the local server stopped at once: {_last_line(log, offset)}")
            time.sleep(0.03)
    finally:
        watch.close()
    raise RuntimeError(f"the local server did not answer within {_START_SECONDS:.0f} s; see {log}")


class _Watch:
    """Starts the server and tells whether it has ended.

    It is no child of ours: the launcher becomes the program, and a program may count its children. It holds one end of
    a pipe for as long as it lives.
    """

    def __init__(self, path: Path, log: IO[bytes]) -> None:
        options: dict[str, Any] = {
            "cwd": path,  # not the program's directory: a module there could hide one of ours
            "env": _environment(os.environ),
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
        }
        self._process: subprocess.Popen[Any] | None = None
        self._watched = -1
        if sys.platform == "win32":
            flags = 0x00000208  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
            self._process = subprocess.Popen(_command(path), creationflags=flags, **options)  # noqa: S603 - our own interpreter
            return
        import fcntl

        self._watched, low = os.pipe()
        held = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10)  # not one of the standard three, if those were closed
        os.close(low)
        try:
            subprocess.run(  # noqa: S603 - our own interpreter
                _command(path),
                start_new_session=True,
                pass_fds=[held],
                timeout=_START_SECONDS,
                check=False,
                **options,
            )
        except subprocess.TimeoutExpired as error:
            self.close()
            raise RuntimeError(f"{sys.executable} does not start within {_START_SECONDS:.0f} s") from error
        finally:
            os.close(held)
        os.set_blocking(self._watched, False)

    def ended(self) -> bool:
        """Whether the server is gone."""
        if self._process is not None:
            return self._process.poll() is not None
        try:
            return os.read(self._watched, 1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Look no longer."""
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1


def _log_file(path: Path) -> IO[bytes]:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    with contextlib.suppress(OSError):
        if path.stat().st_size > _LOG_LIMIT:
            flags |= os.O_TRUNC
    stream = os.fdopen(os.open(path, flags, 0o600), "ab")
    stream.seek(0, os.SEEK_END)
    return stream


def _last_line(path: Path, offset: int) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            lines = stream.read(100_000).decode("utf-8", "replace").strip().splitlines()
    except OSError as error:
        return str(error)
    return lines[-1] if lines else "no message"


def _command(path: Path) -> list[str]:
    # The package is found even when it is installed nowhere; it comes last, so it hides nothing.
    package_root = str(Path(__file__).resolve().parents[2])
    detach = "" if os.name == "nt" else "import os; os.fork() and os._exit(0); "
    code = (
        f"{detach}import sys; sys.path[:] = [*filter(None, sys.path), {package_root!r}]; "
        "from stardust_auto.server.launch import main; sys.exit(main())"
    )
    options = ["--data", str(path), "--port", str(DEFAULT_PORT), "--any-port", "--idle-exit", str(IDLE_SECONDS)]
    # A person is watching: report soon and keep more samples than a platform for a thousand machines would.
    options += ["--period", "5", "--max-samples", "10", "--ping-period", "30"]
    return [sys.executable, "-c", code, *options]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what makes a process ours to trace: a server must not report to itself."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith("STARDUST_") and name.lower() not in _ALIASES
    }
    site = str(Path(__file__).resolve().parents[1] / "activation" / "site")
    entries = [os.path.abspath(entry) for entry in kept.pop("PYTHONPATH", "").split(os.pathsep) if entry]
    entries = [entry for entry in entries if os.path.realpath(entry) != os.path.realpath(site)]
    if entries:
        kept["PYTHONPATH"] = os.pathsep.join(entries)
    kept["STARDUST_ENABLED"] = "0"
    kept["STARDUST_AUTO"] = "0"
    return kept


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One launcher at a time; the system frees the lock of a launcher that died."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise RuntimeError(f"another launcher has held {path} for {_LOCK_SECONDS:.0f} s")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file, without waiting; it lasts until the file is closed or the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
