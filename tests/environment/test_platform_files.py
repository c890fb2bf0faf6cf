"""What the platform's own files and the StarAgent of the machine say, and in which order (protocol.md §8.1)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stardust_auto.environment import platform_files, star_agent
from stardust_auto.environment.platform_files import FileError, read
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.environment.star_agent import AgentInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
STAR_CONFIG = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<StarSetting>
  <!--Debug switch. <Server>http://comment</Server>-->
  <Debug>false</Debug>
  <!--Address-->
  <Server>http://star-config:6600</Server>
  <AppKey>ConfigApp</AppKey>
  <Secret>a&lt;b&amp;c</Secret>
  <TracerPeriod>60</TracerPeriod>
</StarSetting>
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def app_settings(name: str = "appsettings.json", **values: object) -> None:
    with open(name, "w", encoding="utf-8") as file:
        json.dump(values, file)


def star_config(text: str = STAR_CONFIG, name: str = "Config/Star.config") -> None:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)


def test_the_order_of_the_platform() -> None:
    star_config()
    settings = AgentSettings.from_environ({})
    assert settings.servers == ("http://star-config:6600",)
    assert (settings.app_id, settings.secret) == ("ConfigApp", "a<b&c")
    assert settings.sources == {
        "servers": "Config/Star.config: Server",
        "app_id": "Config/Star.config: AppKey",
        "secret": "Config/Star.config: Secret",
    }
    app_settings(StarServer="http://app", StarAppId="Shop", StarSecret="s1", Logging={"LogLevel": {}})
    settings = AgentSettings.from_environ({})
    assert (settings.servers, settings.app_id, settings.secret) == (("http://app",), "Shop", "s1")
    assert settings.sources["servers"] == "appsettings.json: StarServer"
    app_settings("appsettings.Development.json", starserver="http://dev", StarAppId="")
    settings = AgentSettings.from_environ({})
    # appsettings.json is not asked any more: a server is known. Star.config fills in the rest.
    assert (settings.servers, settings.app_id, settings.secret) == (("http://dev",), "ConfigApp", "a<b&c")
    settings = AgentSettings.from_environ({"StarServer": "http://env", "STARDUST_APP_ID": "configapp"})
    assert (settings.servers, settings.app_id, settings.secret) == (("http://env",), "configapp", "a<b&c")
    assert settings.sources["servers"] == "StarServer"
    settings = AgentSettings.from_environ({}, servers=("http://argument",), app_id="mine", secret="own")
    assert (settings.servers, settings.app_id, settings.secret) == (("http://argument",), "mine", "own")


def test_the_secret_of_a_file_is_for_its_own_application() -> None:
    app_settings(StarServer="http://app", StarAppId="Shop", StarSecret="s1")
    settings = AgentSettings.from_environ({"STARDUST_APP_ID": "other"})
    assert (settings.servers, settings.app_id, settings.secret) == (("http://app",), "other", None)
    assert "s1" not in repr(AgentSettings.from_environ({}))


def test_what_dotnet_reads_is_read() -> None:
    with open("appsettings.json", "w", encoding="utf-8-sig") as file:
        file.write('{ // "StarServer": "http://no"\n/* {{ */ "StarServer": "http://a//b, /*x*/", "x": [1, 2,], }')
    assert read("appsettings.json") == [("servers", "http://a//b, /*x*/", "StarServer")]
    star_config("<Star><Server>http://b</Server><AppKey /></Star>", "Star.config")
    assert read("Star.config") == [("servers", "http://b", "Server")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("appsettings.json", b'{"StarServer": "http://hunter2"', "it is not JSON: Expecting ',' delimiter, line 1"),
        ("appsettings.json", b"[1]", "it is not a JSON object"),
        ("appsettings.json", b"[" * 100_000, "it is not JSON"),
        ("appsettings.json", b"\xff\x00\xd8", "it is not UTF-8 text"),
        ("appsettings.json", b" " * 300_000, "it is larger than 256 KiB"),
        ("Star.config", b"<Star><Server>http://hunter2</Server>", "it is not one complete XML element"),
        ("Star.config", b"", "it is not one complete XML element"),
        (
            "Star.config",
            b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x><Server>&e;</Server></x>',
            "it has a document type, which is not read",
        ),
    ],
)
def test_a_broken_file_is_one_line_and_no_fault(name: str, content: bytes, reason: str) -> None:
    with open(name, "wb") as file:
        file.write(content)
    settings = AgentSettings.from_environ({})
    assert not settings.configured
    (problem,) = settings.problems
    assert problem.startswith(f"{name} in the working directory is not used: {reason}")
    assert "\n" not in problem
    assert "hunter2" not in problem


def test_a_value_that_cannot_be_used_names_the_file() -> None:
    app_settings(StarServer="localhost:6600", StarAppId="a#b", StarSecret="hunter2")
    settings = AgentSettings.from_environ({})
    assert [problem.partition("=")[0] for problem in settings.problems] == [
        "appsettings.json: StarServer",
        "appsettings.json: StarAppId",
    ]
    assert "hunter2" not in "".join(settings.problems)


def test_what_is_no_file_of_ours() -> None:
    os.mkdir("appsettings.json")
    os.mkfifo("Star.config")
    assert not platform_files.present()
    assert AgentSettings.from_environ({}).problems == ()
    star_config()
    os.chmod("Config/Star.config", 0o666)
    assert AgentSettings.from_environ({}).problems == (
        "Config/Star.config in the working directory is not used: every user may write to it",
    )


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:/*<>!-&;Server\n ', max_size=60).map(str.encode))
def test_any_content(content: bytes) -> None:
    for name in ("appsettings.json", "Star.config"):
        with open(name, "wb") as file:
            file.write(content)
        try:
            found = read(name)
        except FileError as error:
            found = [("servers", str(error), "")]
        assert all("\n" not in text for _, text, key in found if not key)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A StarAgent on the agent's port of these tests; the packets that it was sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(star_agent, "AGENT_PORT", sock.getsockname()[1])
        monkeypatch.setattr(star_agent, "_last", None)
        asked: list[bytes] = []
        body = b'{"Server":"http://agent:6600","Code":"node7"}'
        payload = b"\x04Info" + len(body).to_bytes(4, "little") + body

        def serve() -> None:
            while True:
                request, who = sock.recvfrom(2048)
                if request == b"end":
                    return
                asked.append(request)
                sock.sendto(b"\x81\x01" + len(payload).to_bytes(2, "little") + payload, who)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        sock.sendto(b"end", sock.getsockname())
        thread.join()


def test_the_agent_is_asked_only_on_request_and_once(agent: list[bytes]) -> None:
    assert AgentSettings.from_environ({}).servers == ()
    assert AgentSettings.from_environ({"STARDUST_DISCOVER": "1", "STARDUST_SERVER": "http://env"}).node_code is None
    assert agent == []
    for _ in range(2):
        settings = AgentSettings.from_environ({"STARDUST_DISCOVER": "1"})
        assert (settings.servers, settings.node_code) == (("http://agent:6600",), "node7")
        assert settings.sources["servers"] == "StarAgent"
    assert len(agent) == 1


def test_the_agent_comes_after_appsettings_and_before_star_config(agent: list[bytes]) -> None:
    star_config()
    settings = AgentSettings.from_environ({"STARDUST_DISCOVER": "1"})
    assert (settings.servers, settings.app_id) == (("http://agent:6600",), "ConfigApp")
    app_settings(StarServer="http://app")
    assert AgentSettings.from_environ({"STARDUST_DISCOVER": "1"}).servers == ("http://app",)


def test_a_silent_agent_takes_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(star_agent, "AGENT_PORT", sock.getsockname()[1])
        monkeypatch.setattr(star_agent, "_last", None)
        started = time.monotonic()
        for _ in range(3):
            assert not AgentSettings.from_environ({"STARDUST_DISCOVER": "1"}).configured
        assert time.monotonic() - started < 1.5
    assert repr(AgentInfo("http://a", "n")) == "AgentInfo(server='http://a', code='n', version='')"


PROGRAM = """
import sys
from stardust_auto.agent import active_options
settings = active_options()
print(settings and (settings.servers, settings.app_id, settings.sources["servers"]))
"""


def launch(code: str = PROGRAM, **env: str) -> subprocess.CompletedProcess[str]:
    """The launcher in this folder, without a server in the environment."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("STARDUST", "STAR", "PYTHON"))}
    return subprocess.run(
        [LAUNCHER, sys.executable, "-c", code],
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_under_the_launcher() -> None:
    done = launch()
    assert (done.stdout, done.stderr.partition(":")[0]) == ("None\n", "stardust-auto")
    assert "no server is known" in done.stderr
    app_settings(StarServer="http://127.0.0.1:9", StarAppId="Shop")
    done = launch()
    assert (done.stdout, done.stderr) == ("(('http://127.0.0.1:9',), 'Shop', 'appsettings.json: StarServer')\n", "")
    done = launch(STARDUST_SERVER="http://127.0.0.1:8")
    assert (done.stdout, done.stderr) == ("(('http://127.0.0.1:8',), '', 'STARDUST_SERVER')\n", "")
    with open("appsettings.json", "w") as file:
        file.write("{")
    done = launch()
    assert done.stdout == "None\n"
    (unused,) = done.stderr.splitlines()
    assert unused.startswith("stardust-auto: appsettings.json in the working directory is not used: it is not JSON")
    app_settings()
    with open(".env", "w") as file:
        file.write("STARDUST_SERVER=http://127.0.0.1:7")
    done = launch()
    assert (done.stdout, done.stderr) == ("(('http://127.0.0.1:7',), '', '.env: STARDUST_SERVER')\n", "")


def test_without_files_nothing_is_imported_for_them() -> None:
    done = launch(
        "import sys; print([m for m in ('json', 're', 'socket', 'stardust_auto.environment.star_agent') if m in sys.modules])"
    )
    assert done.stdout == "[]\n"
