"""The administration interface of the embedded server, with every failure as one clear line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import requests

from stardust_auto.ctl.errors import CtlError, NotPermittedError, UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds to connect, seconds to wait for the next byte.
TIMEOUT = (3.05, 15.0)


class AdminClient:
    """Calls ``/console/api`` with the administrator key as a bearer token; the key is in no message and no repr."""

    def __init__(self, server: str, key: str) -> None:
        self.server = server.rstrip("/")
        self._http = requests.Session()
        # A proxy of the environment would read the key, and a .netrc file would replace it. Only TLS keeps it from a proxy.
        self._http.trust_env = False
        if self.server.startswith("https://"):
            self._http.proxies = dict(requests.utils.get_environ_proxies(self.server, no_proxy=None))
            self._http.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        self._http.headers["Authorization"] = f"Bearer {key}"
        self._http.headers["Accept"] = "application/json"

    def __repr__(self) -> str:
        return f"AdminClient({self.server!r})"

    def get(self, path: str, **params: object) -> object:
        """GET ``/console/api/<path>``; parameters that are None are left out."""
        given = {name: str(value) for name, value in params.items() if value is not None}
        return self._call("GET", path, params=given)

    def put(self, path: str, body: Mapping[str, object]) -> object:
        """PUT a JSON body to ``/console/api/<path>``."""
        return self._call("PUT", path, body=body)

    def delete(self, path: str) -> object:
        """DELETE ``/console/api/<path>``."""
        return self._call("DELETE", path)

    def post(self, path: str, body: Mapping[str, object]) -> object:
        """POST a JSON body to ``/console/api/<path>``."""
        return self._call("POST", path, body=body)

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> object:
        url = f"{self.server}/console/api/{path}"
        try:
            # A redirect to another address would be somebody else's server: it gets neither the key nor the body.
            reply = self._http.request(method, url, params=params, json=body, timeout=TIMEOUT, allow_redirects=False)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as exc:
            raise UsageError(f"the server address {self.server!r} cannot be used: it must be http://host:port") from exc
        except requests.exceptions.RequestException as exc:
            raise UnreachableError(f"no server answers at {self.server} ({reason(exc)})") from exc
        try:
            data: object = reply.json()
        except ValueError:
            data = None
        if reply.ok and data is not None:
            return data
        told = data.get("error") if isinstance(data, dict) else None
        if reply.status_code in (401, 403):
            raise NotPermittedError(f"{self.server} refuses the administrator key: {told or 'not permitted'}")
        if told:
            raise CtlError(str(told))
        raise CtlError(
            f"{self.server} has no administration interface (HTTP {reply.status_code} to {method} /console/api): "
            "is it an embedded stardust-auto server?"
        )


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def reason(exc: BaseException) -> str:
    """The innermost cause of a network failure, in a few words."""
    seen: set[int] = set()
    inner: BaseException = exc
    while id(inner) not in seen:
        seen.add(id(inner))
        deeper = inner.__cause__ or inner.__context__ or getattr(inner, "reason", None)
        if not isinstance(deeper, BaseException):
            break
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror.lower()
    if isinstance(exc, requests.exceptions.Timeout) or isinstance(inner, TimeoutError):
        return "no answer in time"
    return type(inner).__name__
