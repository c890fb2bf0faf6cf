"""What our transport takes from ``requests``, as it was when the program imported it.

Loaded as soon as the program has requests (``channel.py``): what a test puts in its place later (responses, requests-mock,
``unittest.mock``) is for the program's traffic. It would answer ours as well, and count it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from stardust_auto.transport.pool import HTTPPool, HTTPSPool

if TYPE_CHECKING:
    from collections.abc import Mapping


class Adapter(HTTPAdapter):
    """One connection per server, our own connection classes, no retries of its own, no cookies."""

    send: Any = HTTPAdapter.send

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        response = Response()
        response.request, response.raw, response.status_code = req, resp, resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        return response

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._use_own_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._use_own_pools(manager)
        return manager

    @staticmethod
    def _use_own_pools(manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": HTTPPool, "https": HTTPSPool}


def prepare(
    method: str, url: str, headers: Mapping[str, str], params: Mapping[str, str] | None, body: bytes | None
) -> PreparedRequest:
    """A request with nothing but this: no cookies, whose jar asks the clock of the program, and no ``netrc``."""
    prepared = PreparedRequest()
    prepared.prepare_method(method)
    prepared.prepare_url(url, params or {})
    prepared.prepare_headers(headers)
    prepared.prepare_body(body, None)
    return prepared


def environment_settings(url: str) -> Any:
    """``proxies``, ``verify`` and ``cert`` for ``url``, as the environment variables of requests say."""
    return Session().merge_environment_settings(url, {}, True, None, None)
