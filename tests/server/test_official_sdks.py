"""The official SDKs for Python, PHP and JavaScript read no token, and report all the same (protocol.md §12.6)."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from _kit.server_platform import Clock, Platform

CLIENT_ID = "10.0.0.5@4242"


def log_in(platform: Platform, app: str = "sdk-app", client_id: str = CLIENT_ID) -> None:
    body = {"AppId": app, "Secret": "sdk-secret-1", "ClientId": client_id, "AppName": app}
    if platform.server.store.apps.find(app) is None:
        platform.server.store.apps.create(app, "sdk-secret-1")
    reply = platform.post("/App/Login", body).json()
    assert reply["code"] == 0
    assert "Token" not in reply["data"]  # which is where these SDKs look for it


def report(platform: Platform, **more: Any) -> Any:
    """As the Python SDK sends it: an empty token, and no Version."""
    body = {"AppId": "sdk-app", "AppName": "sdk-app", "ClientId": CLIENT_ID, "Builders": [platform.builder()], **more}
    return platform.post("/Trace/Report?Token=", body).json()


def report_raw(platform: Platform, body: bytes) -> Any:
    headers = {"Content-Type": "application/x-gzip"}
    return platform.http.post(f"{platform.url}/Trace/ReportRaw?Token=", data=body, headers=headers, timeout=10).json()


def test_a_report_without_a_token_is_stored_for_the_instance_that_logged_in(platform: Platform) -> None:
    log_in(platform)
    assert report(platform)["data"]["period"] == 60
    body = {"AppId": "SDK-App", "ClientId": CLIENT_ID, "Builders": [platform.builder("/big")] * 3}
    assert report_raw(platform, gzip.compress(json.dumps(body).encode()))["data"]["maxErrors"] == 10
    stored = platform.operations("sdk-app")
    assert (stored["/a"]["total"], stored["/big"]["total"]) == (3, 9)


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "eyJhbGciOiJIUzI1NiJ9.e30.x"])
def test_a_wrong_token_is_refused_also_for_an_instance_that_logged_in(platform: Platform, token: str) -> None:
    log_in(platform)
    body = {"AppId": "sdk-app", "ClientId": CLIENT_ID, "Builders": [platform.builder()]}
    assert platform.post(f"/Trace/Report?Token={token}", body).json()["code"] == 401
    assert platform.operations("sdk-app") == {}


def test_another_instance_or_application_is_refused(platform: Platform) -> None:
    log_in(platform)
    log_in(platform, "other", "10.0.0.5@1")
    for more in (
        {"ClientId": "10.0.0.5@1"},
        {"ClientId": None},
        {"ClientId": ""},
        {"AppId": "other"},
        {"AppId": None},
        {"AppId": "unknown"},
    ):
        assert report(platform, **more)["code"] == 401, more
    assert platform.operations("sdk-app") == platform.operations("other") == {}


def test_another_address_is_refused(platform: Platform) -> None:
    log_in(platform)
    app = platform.server.store.apps.find("sdk-app")
    assert app is not None
    platform.server.store.instances.seen(app.id, CLIENT_ID, "10.9.9.9")  # the last sign of life came from elsewhere
    assert report(platform)["code"] == 401


def test_after_the_logout_or_two_silent_hours_a_report_is_refused(platform: Platform, clock: Clock) -> None:
    log_in(platform)
    for _ in range(3):
        clock.advance(7200)
        assert report(platform)["code"] == 0, "a report is a sign of life: these SDKs log in once"
    clock.advance(7201)
    assert report(platform)["code"] == 401
    log_in(platform)
    assert report(platform)["code"] == 0
    app = platform.server.store.apps.find("sdk-app")
    assert app is not None
    platform.server.store.instances.leave(app.id, CLIENT_ID)
    assert report(platform)["code"] == 401


def test_a_disabled_application_is_refused(platform: Platform) -> None:
    log_in(platform)
    platform.admin("POST", "apps/sdk-app", {"enabled": False})
    assert report(platform)["code"] == 401


def test_what_comes_without_a_token_is_small(platform: Platform) -> None:
    log_in(platform)
    bomb = gzip.compress(b'{"AppId":"' + b"a" * 50_000_000 + b'"}')
    reply = report_raw(platform, bomb)
    assert reply["code"] == 500
    assert "at most 1048576 bytes" in reply["message"]
    assert "at most 1048576 bytes" in report_raw(platform, b'{"AppId":"' + b"a" * 2_000_000 + b'"}')["message"]


def test_a_stranger_does_not_make_the_server_parse() -> None:
    with EmbeddedServer() as server:
        import requests

        reply = requests.post(f"{server.url}/Trace/ReportRaw", data=b"{not json", timeout=5).json()
        assert reply == {"code": 401, "message": "认证失败"}
