"""The doctor names the cause of each broken set-up; and it changes nothing of what it examines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stardust_auto.activation.install import site_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _kit.ctl import Result

    from stardust_auto.server import EmbeddedServer


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of the tests may be busy."""
    monkeypatch.setattr("stardust_auto.ctl.doctor.LIMIT_SECONDS", 60.0)


class Doctor:
    """The doctor on a set-up, and what it says is broken."""

    def __init__(self, ctl: Callable[..., Result]) -> None:
        self._ctl = ctl

    def bad(self, *words: str) -> dict[str, str]:
        result = self._ctl("doctor", "--json", *words)
        found = {one["topic"]: one["text"] for one in result.json["findings"] if one["grade"] == "bad"}
        assert result.code == (1 if found else 0)
        return found


@pytest.fixture
def doctor(shop: Callable[..., Result]) -> Doctor:
    return Doctor(shop)


def web_server(status: int) -> tuple[ThreadingHTTPServer, int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"hi")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]


@pytest.fixture
def other() -> Iterator[str]:
    """Some other web server."""
    server, port = web_server(200)
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def test_a_dead_server(doctor: Doctor) -> None:
    assert "does not answer (connection refused)" in doctor.bad("--server", "http://127.0.0.1:9")["server"]


def test_some_other_web_server(doctor: Doctor, other: str) -> None:
    text = doctor.bad("--server", other)["server"]
    assert "is some other web server (HTTP 200 to /Api, BaseHTTP" in text


def test_a_port_that_is_silent(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        bad = doctor.bad("--server", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer (no answer in time)" in bad["server"]
        assert time.monotonic() - began < 15  # 5 on a machine that does nothing else


def test_a_name_that_nobody_knows(doctor: Doctor) -> None:
    assert "nobody.invalid is unknown here" in doctor.bad("--server", "http://nobody.invalid:6600")["dns"]


@pytest.mark.parametrize("status", [0, 407, 502])
def test_a_proxy_that_lets_nothing_through(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    server, port = web_server(status) if status else (None, 9)
    monkeypatch.setenv("HTTP_PROXY", f"http://joe:planted@127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.delenv("no_proxy", raising=False)
    bad = doctor.bad("--server", "http://star.example:6600")
    if server is not None:
        server.shutdown()
        server.server_close()
    text = bad.get("proxy") or bad["server"]
    assert "planted" not in text
    assert ("HTTP_PROXY" in text and "NO_PROXY" in text) or "HTTP 502" in text


@pytest.mark.parametrize("flag", ["-I", "-E"])
def test_an_interpreter_that_does_not_see_the_launcher(doctor: Doctor, flag: str) -> None:
    assert "-I and -E hide PYTHONPATH" in doctor.bad("--", sys.executable, flag, "app.py")["activation"]


def test_an_interpreter_without_site(doctor: Doctor) -> None:
    bad = doctor.bad("--", sys.executable, "-S", "app.py")
    assert bad["activation"] == "-S keeps Python from reading any start-up file: nothing can activate the agent"
    assert "agent" not in bad


@pytest.mark.parametrize("first", ["exec python -I app.py", "env -i PATH=/bin python app.py"])
def test_a_wrapper_that_hides_the_environment(doctor: Doctor, tmp_path: Path, first: str) -> None:
    script = tmp_path / "start"
    script.write_text(f"#!/bin/sh\n{first}\n")
    script.chmod(0o755)
    assert first[-20:] in doctor.bad("--", str(script))["command"]


@pytest.mark.parametrize(
    ("name", "value", "topic", "text"),
    [
        ("STARDUST_ENABLED", "0", "activation", "STARDUST_ENABLED is off"),
        ("STARDUST_TRACE_ENABLED", "0", "tracing", "STARDUST_TRACE_ENABLED is off: nothing is traced"),
        ("STARDUST_EXCLUDES", "/health,*", "rules", "STARDUST_EXCLUDES has '*'"),
        ("STARDUST_SEVER", "http://x", "STARDUST_SEVER", "STARDUST_SERVER is meant?"),
        ("STARDUST_INSTRUMENT_SQLITE", "0", "STARDUST_INSTRUMENT_SQLITE", "STARDUST_INSTRUMENT_SQLITE3 is meant?"),
        ("STARDUST_PERIOD", "often", "STARDUST_PERIOD", "STARDUST_PERIOD"),
    ],
)
def test_a_variable_that_is_wrong_is_named_once(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, name: str, value: str, topic: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    bad = doctor.bad("--", sys.executable, "app.py")
    assert text in bad[topic]
    assert len([one for one in bad.values() if text in one]) == 1


def test_an_address_that_is_none(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", "star:6600:1")
    assert any("STARDUST_SERVER" in text for text in doctor.bad().values())


def test_an_integration_that_is_off(ctl: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_INSTRUMENT_REDIS", "0")
    rows = {row["library"]: row for row in ctl("doctor", "--json").json["libraries"]}
    assert rows["redis"]["state"] == "off"


def test_a_wrong_secret_and_a_missing_one(
    doctor: Doctor, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.store.apps.create("shop", "the-right-one")
    assert "needs its secret" in doctor.bad()["login"]
    monkeypatch.setenv("STARDUST_SECRET", "planted-wrong")
    text = doctor.bad()["login"]
    assert "is refused with STARDUST_SECRET: wrong secret" in text
    assert "planted" not in text
    monkeypatch.setenv("STARDUST_SECRET", "the-right-one")
    assert "login" not in doctor.bad()


def test_a_cache_folder_that_cannot_be_written(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(blocked / "cache"))
    assert str(blocked) in doctor.bad()["cache"]


def test_a_file_that_hides_a_library(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise SystemExit('never run')\n")
    (tmp_path / "app.py").write_text("import redis\n")
    text = doctor.bad("--", sys.executable, str(tmp_path / "app.py"))["redis"]
    assert f"{tmp_path / 'redis'}.py hides the library" in text


def test_an_asgi_server_is_named_where_it_is_not_traced(doctor: Doctor) -> None:
    from stardust_auto.instrumentation.targets import TARGETS

    uvicorn = str(Path(sys.executable).with_name("uvicorn"))
    bad = doctor.bad("--", uvicorn, "app:app")
    assert ("asgi" in bad) == ("asgi" not in TARGETS.values())


def test_no_server_at_all(ctl: Callable[..., Result]) -> None:
    assert "none is configured" in Doctor(ctl).bad()["server"]


def test_a_misspelt_application_is_not_created(
    doctor: Doctor, shop: Callable[..., Result], server: EmbeddedServer
) -> None:
    server.store.apps.create("shop", "s3cret-of-the-shop")
    result = shop("doctor", "--json", "--app", "Shop_x")
    login = next(one for one in result.json["findings"] if one["topic"] == "login")
    assert login["text"] == "'Shop_x' is not known yet: its first login registers it"
    assert [app.name for app in server.store.apps.all()] == ["shop"]


def test_a_damaged_start_up_file_and_a_sitecustomize_of_ours(doctor: Doctor, ctl: Callable[..., Result]) -> None:
    folder = Path(site_folder())
    pth, site = folder / "stardust_auto.pth", folder / "sitecustomize.py"
    if pth.exists() or site.exists():
        pytest.skip("this environment has start-up files already")
    try:
        pth.write_text("# cut off\n")
        assert f"{pth} is damaged" in doctor.bad()["installed"]
        pth.unlink()
        assert ctl("install", "--sitecustomize", "--json").json == [{"path": str(site), "action": "written"}]
        findings = ctl("doctor", "--json").json["findings"]
        assert f"{site}: also active without launcher" in [one["text"] for one in findings]
        assert ctl("uninstall", "--json").json[-1] == {"path": str(site), "action": "removed"}
        site.write_text("# of somebody else\n")
        assert "not ours" in ctl("install", "--sitecustomize").err
        assert ctl("uninstall").code == 0
        assert site.exists()
    finally:
        pth.unlink(missing_ok=True)
        site.unlink(missing_ok=True)


def test_a_running_process(shop: Callable[..., Result], server: EmbeddedServer, own_place: Path) -> None:
    program = own_place / "worker.py"
    program.write_text(
        "import sqlite3, sys, time\n"
        "sqlite3.connect(':memory:').execute('select 1')\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    launcher = str(Path(sys.executable).with_name("stardust-auto"))
    environ = os.environ | {"STARDUST_SERVER": server.url, "STARDUST_APP_ID": "worker"}
    with subprocess.Popen([launcher, sys.executable, str(program)], env=environ, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found: dict[str, Any] = {}
            deadline = time.monotonic() + 20
            while "ping" not in found and time.monotonic() < deadline:
                result = shop("doctor", "--json", "--pid", str(process.pid))
                found = {one["topic"]: one for one in result.json["findings"]}
            assert found["process"]["grade"] == "ok"
            assert "worker" in found["ping"]["text"]
            assert found["activation"]["grade"] == "ok"
        finally:
            process.kill()
    result = shop("doctor", "--pid", "999999999")
    assert (result.code, result.err) == (2, "stardustctl: there is no process 999999999\n")


WITHOUT_TYPER = """
import sys
sys.modules["typer"] = sys.modules["rich"] = None
from stardust_auto.ctl import doctor, main
doctor.LIMIT_SECONDS = 60.0  # the machine of a test is busy
sys.exit(main())
"""


def test_the_core_package_alone_has_install_uninstall_and_doctor(server: EmbeddedServer) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environ = os.environ | {"STARDUST_SERVER": server.url, "STARDUST_APP_ID": "shop"}
        command = [sys.executable, "-c", WITHOUT_TYPER, *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    done = run("doctor", "--json", "--", sys.executable, "app.py")
    assert {one["topic"]: one["grade"] for one in json.loads(done.stdout)["findings"]}["login"] == "ok", done.stderr
    assert "no problem" in run("doctor").stdout
    assert "{install,uninstall,doctor}" in run("--help").stdout
    assert run("--version").stdout.startswith("stardustctl 0.")
    assert run("traces").returncode == 2
