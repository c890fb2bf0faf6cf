"""Login, tokens and what a wrong secret gets (protocol.md §2; §11 "should differ from StarServer")."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING

import jwt
import pytest
from _kit.server_platform import DIRECT
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from stardust_auto.server import EmbeddedServer
from stardust_auto.server.errors import CallError

if TYPE_CHECKING:
    from pathlib import Path

    from _kit.server_platform import Clock, Platform


def salted(secret: str, salt: int) -> str:
    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest().upper()

    return f"$md5${salt}${md5(md5(secret) + str(salt))}"


def test_a_new_application_is_issued_a_secret_once(platform: Platform, clock: Clock) -> None:
    first = platform.data("/App/Login", {"AppId": "demo", "ClientId": "a@1"})
    assert first["code"] == "demo"
    assert len(first["secret"]) == 16
    for secret in (first["secret"], salted(first["secret"], clock.now // 1000 - 300)):
        again = platform.data("/App/Login", {"AppId": "DEMO", "ClientId": "a@1", "Secret": secret})
        assert (again["code"], again["secret"], again["name"]) == (None, None, "demo")
        assert again["token"]


@pytest.mark.parametrize("secret", [None, "", "wrong", "$md5$1$00", "E99A18C428CB38D5F260853678922E03"])
def test_a_wrong_secret_is_refused_and_nothing_leaks(platform: Platform, secret: str | None) -> None:
    platform.server.store.apps.create("demo", "abc123")
    reply = platform.post("/App/Login", {"AppId": "demo", "Secret": secret})
    assert reply.status_code == 200
    assert reply.json()["code"] == 403
    assert set(reply.json()) == {"code", "message"}
    assert "abc123" not in reply.text


def test_a_salted_secret_from_long_ago_is_refused(platform: Platform, clock: Clock) -> None:
    platform.server.store.apps.create("demo", "abc123")
    old = salted("abc123", clock.now // 1000 - 900)
    assert platform.post("/App/Login", {"AppId": "demo", "Secret": old}).json()["code"] == 403


def test_registration_can_be_switched_off() -> None:
    with EmbeddedServer(auto_register=False) as server:
        import requests

        reply = requests.post(f"{server.url}/App/Login", json={"AppId": "demo"}, timeout=5).json()
        assert reply["code"] == 403
        assert server.store.apps.find("demo") is None
        server.store.apps.create("demo")  # what the administrator created is issued a secret
        reply = requests.post(f"{server.url}/App/Login", json={"AppId": "demo"}, timeout=5).json()
        assert reply["data"]["secret"]


def test_a_disabled_application_is_out_at_once(platform: Platform) -> None:
    token = platform.login()
    platform.admin("POST", "apps/demo", {"enabled": False})
    assert platform.post("/App/Ping", {}, token).json()["code"] == 403
    assert platform.post("/Config/GetAll", {"AppId": "demo"}, token).json()["code"] == 403
    assert platform.post("/App/Login", {"AppId": "demo"}).json()["code"] == 403


def test_a_lost_secret_is_issued_anew(platform: Platform) -> None:
    old = platform.data("/App/Login", {"AppId": "demo"})["secret"]
    platform.admin("POST", "apps/demo", {"reset_secret": True})
    new = platform.data("/App/Login", {"AppId": "demo"})["secret"]
    assert new
    assert new != old
    assert platform.post("/App/Login", {"AppId": "demo", "Secret": old}).json()["code"] == 403


def test_a_secret_whose_answer_was_lost_is_issued_again(platform: Platform, clock: Clock) -> None:
    # A first process that ends within its login must not lock the application out (tests/activation: a worker's three short tasks).
    first = platform.data("/App/Login", {"AppId": "demo"})
    again = platform.data("/App/Login", {"AppId": "demo"})
    assert first["secret"] == again["secret"]
    assert platform.post("/App/Login", {"AppId": "demo", "Secret": "guessed"}).json()["code"] == 403
    platform.data("/App/Ping", {}, again["token"])
    assert platform.post("/App/Login", {"AppId": "demo"}).json()["code"] == 403, "somebody has it"
    assert platform.data("/App/Login", {"AppId": "other"})["secret"]
    clock.advance(600)
    assert platform.post("/App/Login", {"AppId": "other"}).json()["code"] == 403, "too late"


def test_a_secret_is_not_issued_again_to_another_address_or_after_its_use(platform: Platform) -> None:
    apps = platform.server.store.apps
    _, secret = apps.login("demo", "", "", "", "10.0.0.5")
    with pytest.raises(CallError):
        apps.login("demo", "", "", "", "10.0.0.6")
    assert apps.login("demo", "", "", "", "10.0.0.5")[1] == secret
    assert secret
    assert apps.login("demo", secret, "", "", "10.0.0.5")[1] is None
    with pytest.raises(CallError):
        apps.login("demo", "", "", "", "10.0.0.5")


def test_the_token_is_the_platforms_jwt(platform: Platform, clock: Clock) -> None:  # protocol.md §2.1
    token = platform.login("demo", "10.0.0.5@1")
    assert jwt.get_unverified_header(token) == {"alg": "HS256"}
    payload = jwt.decode(token, options={"verify_signature": False})
    now = clock.now // 1000
    expected = [("iss", "StarServer"), ("sub", "demo"), ("exp", now + 7200), ("iat", now), ("jti", "10.0.0.5@1")]
    assert list(payload.items()) == expected


def test_a_token_is_renewed_in_its_last_ten_minutes_and_then_expires(platform: Platform, clock: Clock) -> None:
    token = platform.login()
    assert platform.data("/App/Ping", {}, token)["token"] is None
    clock.advance(7200 - 599)
    renewed = platform.data("/App/Ping", {}, token)["token"]
    clock.advance(600)
    for path, body in (("/App/Ping", {}), ("/Config/GetAll", {"AppId": "demo"}), ("/Trace/Report", {"AppId": "demo"})):
        reply = platform.post(path, body, token)
        assert reply.status_code == 200
        assert reply.json()["code"] == 401
        assert platform.post(path, body, renewed).json()["code"] == 0


def forged(platform: Platform, clock: Clock) -> list[str]:
    token = platform.login()
    head, body, signature = token.split(".")
    claims = {"iss": "StarServer", "sub": "demo", "exp": clock.now // 1000 + 60, "jti": "x"}
    return [
        "garbage",
        "a.b.c",
        f"{head}.{body}.{signature[:-4]}AAAA",
        jwt.encode(claims, "x" * 32, algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        ".".join([head, body, ""]),
        "é.ü.ö".encode().decode("latin-1"),
    ]


def test_forged_tokens_are_refused_everywhere(platform: Platform, clock: Clock) -> None:
    for token in forged(platform, clock):
        for path in ("/App/Ping", "/App/PostEvents", "/Trace/Report", "/Trace/ReportRaw", "/Config/GetAll", "/Log"):
            reply = platform.post(path, {"AppId": "demo"}, headers={"X-Token": token.encode("latin-1")})
            assert reply.status_code == 200
            assert reply.json()["code"] == 401, (token, path, reply.text)
    assert platform.operations() == {}


def test_an_upgrade_without_a_good_token_is_http_200_with_code_401(platform: Platform) -> None:  # protocol.md §12.1, 4
    address = platform.url.replace("http:", "ws:") + "/App/Notify"
    for headers in ({}, {"Authorization": "Bearer a.b.c"}):
        with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers, **DIRECT):
            pass
        assert refused.value.response.status_code == 200
        assert json.loads(refused.value.response.body)["code"] == 401


def test_one_application_cannot_act_as_another(platform: Platform) -> None:  # protocol.md §2.9
    token = platform.login("mallory")
    victim = platform.login("demo")
    for path, body in (
        ("/Trace/Report", {"AppId": "demo", "Builders": [platform.builder()]}),
        ("/Trace/ReportRaw", {"AppId": "demo", "Builders": [platform.builder()]}),
        ("/Config/GetAll", {"AppId": "demo"}),
        ("/Config/SetAll", {"AppId": "demo", "Configs": {"a": "1"}}),
    ):
        assert platform.post(path, body, token).json()["code"] == 403, path
    assert platform.operations() == {}
    platform.report(victim, platform.builder())
    assert platform.get("/Trace/Tree?id=t1", token).json()["code"] == 404
    assert platform.get("/Trace/Tree?id=t1", victim).json()["data"]["spans"][0]["app"] == "demo"


def test_traces_need_a_token_or_a_login_from_the_same_address(platform: Platform) -> None:
    body = {"AppId": "anyone", "ClientId": "10.0.0.5@1", "Builders": [platform.builder()]}
    assert platform.post("/Trace/Report", body).json()["code"] == 401
    assert platform.server.store.apps.find("anyone") is None
    platform.login()  # another application at the same address does not vouch for this one
    assert platform.post("/Trace/Report", body).json()["code"] == 401
    assert platform.server.store.apps.find("anyone") is None


def test_config_by_application_and_secret(platform: Platform) -> None:  # protocol.md §6.2
    platform.server.store.apps.create("demo", "abc123")
    assert platform.get("/Config/GetAll?appId=demo&secret=abc123").json()["code"] == 0
    for query in ("appId=demo&secret=nope", "appId=demo", "appId=unknown", "appId=demo&secret=ABC123"):
        assert platform.get(f"/Config/GetAll?{query}").json()["code"] == 403, query
    assert platform.data("/Config/GetAll", {"AppId": "fresh", "Secret": "zz"})["configs"] == {}
    assert platform.post("/Config/GetAll", {"AppId": "fresh", "Secret": "other"}).json()["code"] == 403


def test_oauth(platform: Platform) -> None:  # protocol.md §2.10
    platform.server.store.apps.create("demo", "abc123")
    body = {"grant_type": "password", "username": "demo", "password": "abc123", "clientId": "a@1"}
    issued = platform.data("/OAuth/Token", body)
    assert list(issued) == ["access_token", "token_type", "expire_in", "refresh_token", "scope"]
    again = platform.data("/OAuth/Token", {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]})
    assert platform.get("/OAuth/UserInfo", again["access_token"]).json()["data"]["name"] == "demo"
    assert platform.post("/OAuth/Token", {**body, "password": "no"}).json()["code"] == 403
    assert platform.post("/OAuth/Token", {**body, "grant_type": "magic"}).json()["code"] == 500
    assert platform.post("/OAuth/Token", {"grant_type": "refresh_token", "refresh_token": "x"}).json()["code"] == 401


def test_nothing_on_disk_shows_a_secret_and_the_file_is_private(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data") as server:
        server.store.apps.create("demo", "planted-secret-1")
        files = [path for path in (tmp_path / "data").iterdir() if path.is_file()]
        assert files
        for path in files:
            assert path.stat().st_mode & 0o077 == 0, path
            assert b"planted-secret-1" not in path.read_bytes()


def test_a_token_survives_a_restart_of_the_server(tmp_path: Path) -> None:  # protocol.md §12.4
    import requests

    with EmbeddedServer(tmp_path) as server:
        body = {"AppId": "demo", "ClientId": "a@1"}
        token = requests.post(f"{server.url}/App/Login", json=body, timeout=5).json()["data"]["token"]
        key = server.key
    with EmbeddedServer(tmp_path) as server:
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.post(f"{server.url}/App/Ping", json={}, headers=headers, timeout=5).json()["code"] == 0
        assert server.key == key


@pytest.mark.parametrize("name", ["a#b", "a/b", "x" * 51, "a\nb"])
def test_names_that_cannot_be_used(platform: Platform, name: str) -> None:
    reply = platform.post("/App/Login", {"AppId": name})
    assert reply.json()["code"] in (400, 500)


def test_a_newer_schema_is_not_asked_to_shrink(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "stardust.db") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] >= 1
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    db.close()
