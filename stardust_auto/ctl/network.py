"""What the doctor asks of the network, in the order of causes: name, proxy, connection, certificate, clock, login, configuration.

Nothing is changed: no login, so no application is created and no instance appears.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from stardust_auto.ctl.admin import reason
from stardust_auto.ctl.findings import Finding
from stardust_auto.privacy import Secret, scrub, without_credentials
from stardust_auto.process.clock import wall_time
from stardust_auto.session.credentials import CredentialStore
from stardust_auto.transport.network import proxy_for
from stardust_auto.transport.servers import Server
from stardust_auto.wire.proof import salted_md5

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stardust_auto.ctl.findings import Grade
    from stardust_auto.ctl.target import Target

#: Seconds for one question.
SECONDS = 2.0
#: Seconds of difference from which spans of two machines look odd, and from which a salted login fails (protocol.md §2.3).
_OFFSET_WARN = 5
_OFFSET_BAD = 300
_BODY_LIMIT = 100_000


class _FailedError(Exception):
    """A question that answers all later ones: what depends on it is skipped."""


def network_findings(target: Target | None, app: str) -> Iterator[Finding]:
    """Findings about each server of the list, then about the application at the first one that answers."""
    if target is None:
        yield Finding(
            "bad", "server", "none is configured: nothing is active without --server, --local or STARDUST_SERVER"
        )
        return
    reached = None
    for server in target.servers:
        try:
            yield from _reach(server, target.origin)
            reached = reached or server
        except _FailedError:
            continue
    if reached is None:
        for topic in ("clock", "login", "config"):
            yield Finding("skip", topic, "needs a server that answers")
        return
    yield from _application(reached, target, app)


def _reach(server: str, origin: str) -> Iterator[Finding]:
    parts = urlsplit(server)
    host = parts.hostname or ""
    proxy = proxy_for(server)
    if proxy is None:
        yield from _name(host, parts.port or (443 if parts.scheme == "https" else 80))
    began = wall_time()
    try:
        with requests.get(f"{server}/Api?state=doctor", timeout=SECONDS, allow_redirects=False, stream=True) as reply:
            body = reply.raw.read(_BODY_LIMIT, decode_content=True)
            yield from _spoken(server, origin, proxy, reply, body)
            yield _clock(reply.headers.get("Date", ""), (began + wall_time()) / 2)
    except requests.exceptions.ProxyError as error:
        yield _proxy_trouble(server, proxy, reason(error))
        raise _FailedError from None
    except requests.exceptions.SSLError as error:
        yield Finding("bad", "tls", f"{server}: {_tls_reason(error)}; CA file in use: {_ca_file()}")
        raise _FailedError from None
    except requests.exceptions.RequestException as error:
        if proxy is not None:
            yield _proxy_trouble(server, proxy, reason(error))
        else:
            yield Finding("bad", "server", f"{server} does not answer ({reason(error)}); from {origin}")
        raise _FailedError from None


def _name(host: str, port: int) -> Iterator[Finding]:
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except OSError as error:
        yield Finding(
            "bad",
            "dns",
            f"{host} is unknown here ({error.strerror or error}): check the name, or this machine's resolver",
        )
        raise _FailedError from None
    if found != [host]:
        yield Finding("ok", "dns", f"{host} is {', '.join(found)}")


def _proxy_trouble(server: str, proxy: str | None, why: str) -> Finding:
    variables = [
        name
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        if os.environ.get(name) or os.environ.get(name.lower())
    ]
    host = urlsplit(server).hostname
    return Finding(
        "bad",
        "proxy",
        f"{server} is asked through the proxy {without_credentials(proxy or '?')} ({', '.join(variables) or 'system setting'}), "
        f"which does not let it through ({why}): correct the variable, or add {host} to NO_PROXY",
    )


def _spoken(server: str, origin: str, proxy: str | None, reply: requests.Response, body: bytes) -> Iterator[Finding]:
    way = "" if proxy is None else f" through the proxy {without_credentials(proxy)}"
    if reply.status_code == 407:
        yield _proxy_trouble(server, proxy, "HTTP 407, it wants a user and a password in its address")
        raise _FailedError
    try:
        value = json.loads(body)
        speaks = (
            reply.status_code == 200 and isinstance(value, dict) and value.get("code") in (0, 200) and "data" in value
        )
    except ValueError:
        speaks = False
    if not speaks:
        who = reply.headers.get("Server", "") or "no Server header"
        yield Finding(
            "bad",
            "server",
            f"{server} is some other web server (HTTP {reply.status_code} to /Api, {who}), not a StarServer; from {origin}",
        )
        raise _FailedError
    if proxy is not None:
        yield Finding("info", "proxy", f"{server} is asked{way}")
    yield Finding("ok", "server", f"{server} answers{way}; from {origin}")


def _clock(date: str, here: float) -> Finding:
    try:
        offset = parsedate_to_datetime(date).timestamp() + 0.5 - here
    except (TypeError, ValueError):
        return Finding("info", "clock", "the server does not tell its time")
    if abs(offset) < _OFFSET_WARN:
        return Finding("ok", "clock", "this machine and the server agree")
    grade: Grade = "bad" if abs(offset) > _OFFSET_BAD else "warn"
    side = "behind" if offset > 0 else "ahead of"
    return Finding(
        grade,
        "clock",
        f"this machine is {abs(offset):.0f} s {side} the server: spans of both look shifted; set the time",
    )


def _tls_reason(error: Exception) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {seen.verify_message}"
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else getattr(seen, "reason", None)
        seen = seen.__cause__ or seen.__context__ or (inner if isinstance(inner, BaseException) else None)
    return reason(error)


def _ca_file() -> str:
    return (
        os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("SSL_CERT_FILE")
        or str(requests.utils.DEFAULT_CA_BUNDLE_PATH)
    )


def _application(server: str, target: Target, app: str) -> Iterator[Finding]:
    if not app:
        yield Finding("info", "login", "not examined: no application is named (--app, STARDUST_APP_ID, or a command)")
        return
    secret, origin = _secret(server, target, app)
    body: dict[str, Any] = {"AppId": app, "Scope": target.scope}
    if secret is not None:
        body["Secret"] = salted_md5(secret.reveal(), int(wall_time()))
    try:
        reply = requests.post(f"{server}/App/Check", json=body, timeout=SECONDS, allow_redirects=False)
        found = reply.json()
    except (requests.exceptions.RequestException, ValueError):
        found = None
    data = found.get("data") if isinstance(found, dict) and found.get("code") == 0 else None
    if not isinstance(data, dict):
        yield Finding(
            "info",
            "login",
            f"not examined: this server can only be asked by a real login, which would add an instance of {app!r}",
        )
        return
    yield from _login(app, data, secret, origin)
    if data.get("secret") in ("right", "new"):
        yield from _configuration(app, target.scope, data)
        yield from _instances(data)


def _secret(server: str, target: Target, app: str) -> tuple[Secret | None, str]:
    """What the program would log in with: the secret that a server issued, else the configured one."""
    try:
        saved = CredentialStore(target.cache_dir, Server.parse(server), app).load()
    except (OSError, RuntimeError):  # no home, hence no folder
        saved = None
    if saved is not None and saved.secret:
        return saved.secret, "the secret that this server issued"
    return (Secret(target.secret), "STARDUST_SECRET") if target.secret else (None, "")


def _login(app: str, data: Mapping[str, Any], secret: Secret | None, origin: str) -> Iterator[Finding]:
    state = data.get("secret")
    if state == "right":
        yield Finding("ok", "login", f"{app!r} is let in with {origin}")
    elif state == "new":
        yield Finding("ok", "login", f"{app!r} is not known yet: its first login registers it")
    elif state == "unknown":
        yield Finding(
            "bad",
            "login",
            f"{app!r} is unknown to this server, which registers nobody: 'stardustctl apps create {app}'",
        )
    elif state == "disabled":
        yield Finding("bad", "login", f"{app!r} is disabled on this server")
    elif secret is None:
        yield Finding(
            "bad",
            "login",
            f"{app!r} needs its secret: set STARDUST_SECRET ('stardustctl apps secret {app}' gives a new one)",
        )
    else:
        text = f"{app!r} is refused with {origin}: wrong secret ('stardustctl apps secret {app}' gives a new one)"
        yield Finding("bad", "login", scrub(text, (secret,)))


def _configuration(app: str, scope: str, data: Mapping[str, Any]) -> Iterator[Finding]:
    version, keys = data.get("version", 0), data.get("keys", 0)
    place = f"{app}, scope {scope!r}" if scope else app
    if data.get("problem"):
        yield Finding("bad", "config", f"{place}: {data['problem']}")
    elif not keys:
        yield Finding("info", "config", f"{place}: nothing is published (version {version})")
    else:
        yield Finding("ok", "config", f"{place}: version {version}, {keys} keys")


def _instances(data: Mapping[str, Any]) -> Iterator[Finding]:
    online, sockets = data.get("online", 0), data.get("sockets", 0)
    if online and not sockets:
        yield Finding(
            "warn",
            "socket",
            f"{online} running, none with a push socket: changes arrive by polling. A proxy may have to allow Upgrade on /App/Notify",
        )
    elif online:
        yield Finding("ok", "socket", f"{online} running, {sockets} with a push socket")
    if data.get("dropped"):
        yield Finding(
            "warn",
            "buffer",
            f"the server could not store {data['dropped']} of its counts: {data.get('dropped_reason')}",
        )
    if data.get("excludes"):
        yield Finding("info", "rules", f"the server excludes {', '.join(map(str, data['excludes']))}")
    if data.get("max_samples") == 0:
        yield Finding(
            "warn", "sampling", "the server asks for no samples (max_samples 0): counts arrive, traces do not"
        )
