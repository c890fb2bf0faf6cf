"""Connections whose every wait ends at one deadline: name, TCP, the proxy's CONNECT, TLS, and each byte sent or received.

Deadlines are real time, whatever clock a test hands to the rooms above: the kernel knows no other.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import ssl
import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from stardust_auto.process import fork, signals
from stardust_auto.process.clock import monotonic
from stardust_auto.process.sockets import real
from stardust_auto.process.thread import BackgroundThread

if TYPE_CHECKING:
    from urllib.parse import SplitResult

#: Seconds for one address of several.
_ADDRESS_SECONDS: Final = 5.0
#: Bytes of a proxy's answer to CONNECT.
_MAX_PROXY_HEAD: Final = 16_384
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Deadline:
    """A moment after which nothing is waited for."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        self._at = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; always more than 0.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = self._at - monotonic()
        if left <= 0:
            raise TimeoutError("the whole call took too long")
        return left


class Stream:
    """A connected socket with the deadline of the call that uses it.

    Attributes:
        sock: the socket, with TLS where the address wants it.
        deadline: when the current call must be over.
        proxy: URL of the proxy that reads our requests itself, for plain HTTP; else ``None``.
    """

    __slots__ = ("deadline", "proxy", "sock")

    def __init__(self, sock: socket.socket, deadline: Deadline, proxy: str | None = None) -> None:
        self.sock = sock
        self.deadline = deadline
        self.proxy = proxy

    def send_all(self, data: bytes) -> None:
        """Send all of ``data``. ``socket.sendall`` would begin its time-out anew for each part of a TLS connection."""
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(self.deadline.left)
            rest = rest[self.sock.send(rest) :]

    def receive_into(self, buffer: Any) -> int:
        """Read what has arrived, at least one byte; 0 at the end."""
        self.sock.settimeout(self.deadline.left)
        return self.sock.recv_into(buffer)

    @property
    def is_reusable(self) -> bool:
        """Whether the other side has kept the connection, and has sent nothing since."""
        try:
            self.sock.setblocking(False)
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the descriptor; TLS says no good-bye."""
        self.sock.close()


def connect(url: str, deadline: Deadline, *, tunnel: bool = False) -> Stream:
    """Connect to the host of ``url`` (http, https, ws, wss), through the proxy of the environment if there is one.

    Args:
        tunnel: whether a proxy must let the connection through (CONNECT). It always must for TLS.

    Raises:
        OSError: no connection in time, or a proxy or certificate that cannot be used.
    """
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
    proxy = proxy_for(("https" if secure else "http") + f"://{parts.netloc}{parts.path}")
    sock = _open(host, port, deadline) if proxy is None else _open_proxy(urlsplit(proxy), deadline, needs_tunnel=secure)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy is not None and (secure or tunnel):
            _tunnel(Stream(sock, deadline), proxy, host, port)
        if secure:
            sock = _with_tls(sock, host, deadline)
    except BaseException:
        sock.close()
        raise
    return Stream(sock, deadline, None if secure or tunnel else proxy)


# -- names -----------------------------------------------------------------------------------------------------------


class _Lookup:
    """One question to the resolver, on a thread of its own: the system lets nobody bound its time."""

    def __init__(self, host: str, port: int) -> None:
        self.done = threading.Event()
        self.addresses: list[Any] = []
        self.error: OSError | None = None
        self._question = (host, port, 0, socket.SOCK_STREAM)

    def start(self) -> None:
        thread = BackgroundThread("stardust-dns", self._run)
        try:
            with signals.blocked():
                thread.start()
        except RuntimeError:  # late in interpreter shutdown
            self._ask()

    def _run(self, thread: BackgroundThread) -> None:
        with thread.at_rest():  # who joins all threads of the program does not wait for a resolver
            self._ask()

    def _ask(self) -> None:
        try:
            self.addresses = real("getaddrinfo")(*self._question)
        except OSError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a name that no encoding takes, or a stand-in of the program
            self.error = OSError(f"{type(error).__name__} for this name")
        finally:
            self.done.set()


class _Resolver:
    """Lookups that are under way. An answer that comes after its deadline serves the next call."""

    def __init__(self) -> None:
        self.reset_after_fork()
        fork.register(self)

    def reset_after_fork(self) -> None:
        """The threads of the parent do not exist in a forked child."""
        self._lookups: dict[tuple[str, int], _Lookup] = {}

    def resolve(self, host: str, port: int, deadline: Deadline) -> list[Any]:
        """The addresses of ``host``, as ``getaddrinfo`` gives them."""
        try:
            return list(real("getaddrinfo")(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))
        except OSError:
            pass  # a name, as most are
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = self._lookups[host, port] = _Lookup(host, port)
            lookup.start()
        if not lookup.done.wait(deadline.left):
            raise TimeoutError(f"no address for {host} in time")
        self._lookups.pop((host, port), None)
        if lookup.error is not None:
            raise lookup.error
        return lookup.addresses


_resolver: Final = _Resolver()


def _open(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first address of ``host`` that accepts one."""
    addresses = _resolver.resolve(host, port, deadline)
    problem: OSError = OSError(f"no address for {host}")
    for remaining, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock: socket.socket = real("socket")(family, kind, protocol)
        try:
            sock.settimeout(min(_ADDRESS_SECONDS, deadline.left) / remaining)
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem


# -- proxies ---------------------------------------------------------------------------------------------------------


def proxy_for(url: str) -> str | None:
    """The proxy for ``url`` that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), or the system."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    found = None
    for key in (f"{parts.scheme}://{host}", parts.scheme, f"all://{host}", "all"):
        found = found or proxies.get(key)
    if not found or _in_networks(host, proxies.get("no", "")):
        return None
    try:
        if proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
            return None
    except OSError:  # on Windows it may look the name up
        pass
    return found if "://" in found else f"http://{found}"


def _in_networks(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY lists a network (``10.0.0.0/8``) that holds the address ``host``."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in no_proxy.replace(" ", "").split(","):
        try:
            if "/" in entry and address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def proxy_headers(proxy: str) -> dict[str, str]:
    """What a proxy with a user in its URL wants to see."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(user.encode()).decode()}


def _open_proxy(proxy: SplitResult, deadline: Deadline, *, needs_tunnel: bool) -> socket.socket:
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise OSError(f"a proxy of the kind {proxy.scheme} is not supported")
    if proxy.scheme == "https" and needs_tunnel:
        raise OSError("TLS through a proxy that itself wants TLS is not supported")
    sock = _open(proxy.hostname, proxy.port or _DEFAULT_PORTS[proxy.scheme], deadline)
    return _with_tls(sock, proxy.hostname, deadline) if proxy.scheme == "https" else sock


def _tunnel(stream: Stream, proxy: str, host: str, port: int) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    lines += [f"{name}: {value}" for name, value in proxy_headers(proxy).items()]
    stream.send_all("\r\n".join([*lines, "", ""]).encode())
    head = bytearray()
    byte = bytearray(1)
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to the server
        if len(head) > _MAX_PROXY_HEAD or not stream.receive_into(byte):
            raise OSError("the proxy does not speak HTTP")
        head += byte
    status = bytes(head).split(b"\r\n", 1)[0].decode("ascii", "replace").split(" ", 2)
    if len(status) < 2 or status[1] != "200":
        raise OSError(f"the proxy refuses: {' '.join(status[1:])[:100]}")


# -- TLS -------------------------------------------------------------------------------------------------------------


def _with_tls(sock: socket.socket, host: str, deadline: Deadline) -> ssl.SSLSocket:
    try:
        context = _tls(os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or "")
        sock.settimeout(deadline.left)  # of the whole handshake
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


@functools.lru_cache(4)
def _tls(bundle: str) -> ssl.SSLContext:
    """Verified by ``bundle``, a file or a folder; else by certifi's. There is no switch to turn verification off."""
    if not bundle:
        import certifi

        bundle = certifi.where()
    if not os.path.exists(bundle):
        raise OSError(f"the CA bundle {bundle} does not exist")
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
