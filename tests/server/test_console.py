"""The console: who gets in, what the pages show, what their forms do."""

from __future__ import annotations

import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from stardust_auto.server.console import i18n
from stardust_auto.server.console.views import _step, age, duration
from stardust_auto.server.guard import host_allowed
from stardust_auto.wire.messages import ConfigVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _kit.server_platform import Platform

ATTACK = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


class Browser:
    """A session without script."""

    def __init__(self, platform: Platform) -> None:
        self.url = platform.url
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Accept-Language"] = "en"

    def get(self, path: str, status: int = 200) -> str:
        reply = self.http.get(self.url + path, timeout=10)
        assert reply.status_code == status, reply.text
        return reply.text

    def submit(
        self, page: str, path: str, status: int = 200, headers: dict[str, str] | None = None, **fields: str
    ) -> str:
        """Send a form of a page, with the token that the page carries."""
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', self.get(page))
        assert token is not None
        data = {"form_token": token[1], **fields}
        reply = self.http.post(self.url + path, data=data, headers=headers, timeout=10)
        assert reply.status_code == status, reply.text
        return reply.text


@pytest.fixture
def browser(platform: Platform) -> Iterator[Browser]:
    """Signed in."""
    opened = Browser(platform)
    reply = opened.http.post(f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=10)
    assert reply.url == f"{platform.url}/console/"
    yield opened
    opened.http.close()


def fill(platform: Platform) -> None:
    start = platform.clock() - 2000
    token = platform.login("demo", "10.0.0.5@1", AppName="Demo shop")
    info = {
        "Id": 77,
        "Name": "python",
        "WorkingSet": 50 * 1024 * 1024,
        "CpuUsage": 0.5,
        "Threads": 9,
        "MachineName": "host1",
    }
    platform.data("/App/Ping", info, token)
    platform.data("/App/PostEvents", [{"Time": start, "Type": "error", "Name": "crash", "Remark": ATTACK}], token)
    good = {"Id": "a", "TraceId": "t1", "StartTime": start, "EndTime": start + 1500, "Tag": ATTACK}
    bad = {
        "Id": "b",
        "ParentId": "a",
        "TraceId": "t1",
        "StartTime": start + 200,
        "EndTime": start + 300,
        "Error": f"Boom: {ATTACK}",
    }
    platform.report(
        token,
        platform.builder("/checkout", Samples=[good]),
        platform.builder("db:" + ATTACK, Samples=[], ErrorSamples=[bad], Errors=1),
    )
    platform.publish("demo", greeting="hello", html=ATTACK)
    platform.admin("PUT", "config/demo", {"items": {"greeting": "welcome", "html": None, "added": "1"}})


class Tags(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in ("script", "style", "iframe", "object", "img", "link") or any(
            name.startswith("on") or name == "style" for name in attributes
        ):
            self.active.append((tag, attributes))


PAGES = [
    "/console/",
    "/console/apps/demo",
    "/console/traces",
    "/console/traces?app=demo&sort=slow",
    "/console/traces/t1",
    "/console/config",
    "/console/config/demo",
    "/console/config/demo?scope=dev",
]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_run_nothing_that_data_brings_along(
    platform: Platform, browser: Browser, path: str, language: str
) -> None:
    fill(platform)
    browser.get(f"/console/language?to={language}&back=/console/")
    reply = browser.http.get(platform.url + path, timeout=10)
    assert reply.status_code == 200
    assert "<script>alert" not in reply.text
    assert "<img src=x" not in reply.text
    assert f'lang="{"zh-CN" if language == "zh" else "en"}"' in reply.text
    tags = Tags()
    tags.feed(reply.text)
    loaded = [attributes.get("src") or attributes.get("href") for _, attributes in tags.active]
    assert loaded == ["/console/static/icon.svg", "/console/static/console.css", "/console/static/console.js"]
    policy = reply.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert reply.headers["Cache-Control"] == "no-store"
    assert "http://" not in re.sub(r"http://127\.0\.0\.1:\d+", "", reply.text)  # nothing from elsewhere


def test_what_the_pages_show(platform: Platform, browser: Browser) -> None:
    assert "No application yet." in browser.get("/console/")
    fill(platform)
    assert "Demo shop" in browser.get("/console/")
    page = browser.get("/console/apps/demo")
    for text in ("10.0.0.5@1", "host1", "50 MB", "50.0 %", "/checkout", "crash"):
        assert text in page
    page = browser.get("/console/traces/t1")
    for text in ("/checkout", "1.50 s", "Boom: &lt;script&gt;", 'class="error"', "<details", "+200 ms"):
        assert text in page
    page = browser.get("/console/config/demo")
    for text in ("<del>hello</del><ins>welcome</ins>", "<ins>1</ins>", "History"):
        assert text in page
    assert (
        "配置"
        in browser.http.get(f"{platform.url}/console/config", headers={"Accept-Language": "zh-CN"}, timeout=5).text
    )
    browser.get("/console/apps/nobody", 404)
    browser.get("/console/traces/nothing", 404)
    browser.get("/console/config/nobody", 404)


def test_a_version_counts_as_used_only_where_an_instance_says_so(platform: Platform, browser: Browser) -> None:
    for number in range(9):
        token = platform.login("demo", f"a@{number}")
        platform.data(
            "/Config/GetAll", {"AppId": "demo", "Version": 0, "UsedKeys": "Greeting", "MissedKeys": "nope"}, token
        )
        if number < 7:
            platform.get("/App/Logout?reason=over", token)
    platform.publish("demo", greeting="hello")
    page = browser.get("/console/config/demo")
    assert "0 / 2 instances use this version" in page
    assert "Missed keys: nope" in page
    platform.data("/Config/GetAll", {"AppId": "demo", "Version": 1}, token)
    page = browser.get("/console/config/demo")
    assert "0 / 2 instances use this version" in page  # it was sent, which says nothing about its use
    assert "has it, does not say whether it uses it" in page
    app = platform.server.store.apps.find("demo")
    assert app is not None
    feedback = platform.server.services.feedback
    feedback.note(app.id, "a@8", "127.0.0.1", ConfigVerdict(1, 2, "greeting: too long"))
    page = browser.get("/console/config/demo")
    assert "0 / 2 instances use this version" in page
    assert "refused it</span>" in page or "refused it: greeting: too long" in page
    feedback.note(app.id, "a@8", "127.0.0.1", ConfigVerdict(2, restart="workers"))
    page = browser.get("/console/config/demo")
    assert "1 / 2 instances use this version" in page
    assert "waits for a restart: workers" in page
    assert "+ 2 earlier instances" in browser.get("/console/apps/demo")


def test_every_text_of_the_templates_is_translated() -> None:
    templates = list((Path(i18n.__file__).parent / "templates").glob("*.html"))
    assert len(templates) > 5
    texts = [path.read_text(encoding="utf-8") for path in templates]
    used = {
        match[1] for text in texts for match in re.finditer(r"""\bt\((?:"([^"]+)"|'([^']+)')\)""", text) if match[1]
    }
    used |= {match[1] for text in texts for match in re.finditer(r"""\bt\('([^']+)'\)""", text)}
    assert len(used) > 50
    assert used - set(i18n._ZH) == set()
    code = "".join(path.read_text(encoding="utf-8") for path in Path(i18n.__file__).parents[1].rglob("*.py"))
    code = code.replace(Path(i18n.__file__).read_text(encoding="utf-8"), "")
    assert {text for text in i18n._ZH if text not in used and f'"{text}"' not in code} == set()


def test_editing_publishing_and_rolling_back(platform: Platform, browser: Browser) -> None:
    page = "/console/config/demo"
    browser.submit("/console/config", "/console/config", app="demo")
    text = browser.submit(page, f"{page}/stage", key="greeting", value="hello\r\nyou", scope="", comment="said first")
    assert "Staged: publish to make it live." in text
    assert "Published and pushed" in browser.submit(page, f"{page}/publish")
    assert platform.admin("GET", "config/demo")["effective"] == {"greeting": "hello\nyou"}
    assert "said first" in browser.get(page)
    browser.submit(page, f"{page}/stage", key="greeting", scope="", action="delete")
    browser.submit(page, f"{page}/publish")
    assert platform.admin("GET", "config/demo")["effective"] == {}
    assert "Roll back to this" in browser.get(page)
    browser.submit(page, f"{page}/rollback", version="2")
    assert platform.admin("GET", "config/demo")["effective"] == {"greeting": "hello\nyou"}
    browser.submit(page, f"{page}/stage", key="a", value="${nowhere}", scope="dev", view="dev")
    text = browser.submit(page, f"{page}/publish", 409)
    assert "not published" in text
    assert "nowhere" in text
    browser.submit(page, f"{page}/discard")
    browser.submit(page, f"{page}/stage", 400, key="", value="x", scope="")
    browser.submit(page, f"{page}/publish", 400, at="yesterday")
    browser.submit(page, f"{page}/rollback", 400, version="x")
    browser.submit(page, f"{page}/settings", quotable="on", quotes="base\nother")
    found = platform.admin("GET", "config/demo")
    assert (found["quotable"], found["is_global"], found["quotes"]) == (True, False, ["base", "other"])


def test_the_policy_form(platform: Platform, browser: Browser) -> None:
    platform.login()
    page = "/console/apps/demo"
    browser.submit(page, page, enabled="on", period="7", max_samples="", excludes="/health*\n/x", vip_clients="")
    app = platform.admin("GET", "apps")[0]
    assert (app["enabled"], app["period"], app["max_samples"], app["excludes"]) == (True, 7, 1, ["/health*", "/x"])
    assert "must be a whole number" in browser.submit(page, page, 400, enabled="on", period="-1")
    browser.submit(page, f"{page}/reset")
    assert platform.admin("GET", "apps")[0]["has_secret"] is False


def test_nobody_gets_in_without_the_key(platform: Platform) -> None:
    fill(platform)
    with requests.Session() as http:
        http.trust_env = False
        for path in PAGES:
            reply = http.get(platform.url + path, timeout=10, allow_redirects=False)
            assert reply.status_code == 303
            assert reply.headers["Location"].startswith("/console/login")
        for path in ("/console/config/demo/publish", "/console/apps/demo", "/console/apps/demo/reset"):
            reply = http.post(platform.url + path, timeout=10, allow_redirects=False)
            assert (reply.status_code, reply.headers["Location"]) == (303, "/console/login")
        for method, path in (("GET", "apps"), ("PUT", "config/demo"), ("POST", "config/demo/publish")):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {platform.login()}"}):
                reply = http.request(method, f"{platform.url}/console/api/{path}", headers=header, timeout=10)
                assert reply.status_code == 401
                assert list(reply.json()) == ["error"]
        reply = http.post(f"{platform.url}/console/login", data={"key": "wrong"}, timeout=10)
        assert reply.status_code == 403
        assert not http.cookies
        for forged in ("x", "9999999999.a.b", ".", "é"):
            cookie = {f"stardust_console_{platform.server.services.port}": forged}
            reply = http.get(f"{platform.url}/console/api/apps", cookies=cookie, timeout=10)
            assert reply.status_code == 401


def test_the_cookie(platform: Platform, browser: Browser) -> None:
    reply = requests.post(
        f"{platform.url}/console/login", data={"key": platform.server.key}, timeout=5, allow_redirects=False
    )
    header = reply.headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/console"):
        assert part in header
    assert platform.server.key not in header
    platform.login()
    assert browser.http.get(f"{platform.url}/console/api/apps", timeout=5).json()[0]["name"] == "demo"
    browser.submit("/console/", "/console/logout")
    assert browser.http.get(f"{platform.url}/console/api/apps", timeout=5).status_code == 401


def test_another_site_cannot_use_the_cookie(platform: Platform, browser: Browser) -> None:
    platform.admin("PUT", "config/demo", {"items": {"a": "1"}})
    page = "/console/config/demo"
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        browser.submit(page, f"{page}/publish", 403, headers)
        reply = browser.http.post(
            f"{platform.url}/console/api/config/demo/publish", json={}, headers=headers, timeout=5
        )
        assert reply.status_code == 403
        reply = browser.http.post(
            f"{platform.url}/console/login", data={"key": platform.server.key}, headers=headers, timeout=5
        )
        assert reply.status_code == 403
    reply = browser.http.post(f"{platform.url}{page}/publish", data={"form_token": "0" * 64}, timeout=5)
    assert reply.status_code == 403
    reply = browser.http.post(f"{platform.url}/console/api/config/demo/publish", data="{}", timeout=5)
    assert reply.status_code == 415  # a form of another site cannot send application/json
    assert platform.admin("GET", "config/demo")["version"] == 1
    own = {"Origin": platform.url, "Sec-Fetch-Site": "same-origin"}
    browser.submit(page, f"{page}/publish", 200, own)
    assert platform.admin("GET", "config/demo")["version"] == 2


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:6600", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:6600", True),
        ("10.1.2.3", True),
        ("evil.example", False),
        ("evil.example:6600", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("star", True),
        ("[::1", True),
    ],
)
def test_host_names(host: str, good: bool) -> None:
    assert host_allowed(host, ("star",)) is good


def test_a_rebound_name_is_refused(platform: Platform) -> None:
    for path in ("/", "/console/login", "/App/Login", "/console/api/apps"):
        reply = platform.get(path, headers={"Host": "evil.example"})
        assert reply.status_code == 403


def test_the_size_of_a_body_is_limited(platform: Platform) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", platform.server.services.port, timeout=10)
    connection.putrequest("POST", "/Trace/ReportRaw")
    connection.putheader("Content-Length", "30000001")
    connection.endheaders()
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("Connection")) == (413, "close")
    connection.close()

    def chunks() -> Iterator[bytes]:
        for _ in range(31):
            yield b"x" * 1_000_000

    token = platform.login()
    headers = {"Authorization": f"Bearer {token}"}
    try:
        status = platform.http.post(
            f"{platform.url}/Trace/ReportRaw", data=chunks(), headers=headers, timeout=20
        ).status_code
    except requests.ConnectionError:
        status = 413  # the server closed while we were still sending
    assert status == 413
    assert platform.data("/App/Ping", {}, token)["period"] == 60


def test_headers_about_the_address_are_not_believed(platform: Platform) -> None:
    headers = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "X-Remote-Ip": "6.6.6.6"}
    assert platform.get("/Api?state=1", headers=headers).json()["data"]["userHost"] == "127.0.0.1"
    platform.post("/App/Login", {"AppId": "demo"}, headers=headers)
    assert platform.admin("GET", "apps")[0]["instances"][0]["ip"] == "127.0.0.1"


def test_the_language_link_stays_here(platform: Platform, browser: Browser) -> None:
    for back in ("https://evil.example", "//evil.example", "/console/\\evil", "/elsewhere", "/console//evil.example"):
        reply = browser.http.get(
            f"{platform.url}/console/language", params={"to": "zh", "back": back}, timeout=5, allow_redirects=False
        )
        assert reply.headers["Location"] == "/console/"


def test_files_of_the_package_only(platform: Platform) -> None:
    assert "color-scheme" in platform.get("/console/static/console.css").text
    assert platform.get("/console/static/console.js").headers["Content-Type"].startswith("text/javascript")
    for name in ("..%2fpages.py", "pages.py", "..%2f..%2f__init__.py"):
        assert platform.get(f"/console/static/{name}").status_code == 404


def test_numbers_for_people() -> None:
    assert [duration(value) for value in (0, 7, 7.25, 1000, 59_999, 120_000)] == [
        "0 ms",
        "7 ms",
        "7.2 ms",
        "1.00 s",
        "60.00 s",
        "2.0 min",
    ]
    assert [age(value) for value in (-5, 999, 61_000, 7_200_000, 200_000_000)] == ["0 s", "0 s", "1 min", "2 h", "2 d"]
    assert [_step(total) for total in (0.7, 1, 6, 11, 26, 212, 1500, 99_999)] == [0.2, 0.2, 2, 5, 10, 50, 500, 20_000]


def test_a_client_that_leaves_within_its_body_is_no_error(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", platform.server.services.port), 10) as client:
        client.sendall(b"POST /App/Ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        client.shutdown(socket.SHUT_WR)
        while client.recv(1000):
            continue
    assert platform.get("/").status_code < 500
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
