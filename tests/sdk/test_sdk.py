"""The SDK's names, alone and in an activated process, on the embedded server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
import time
from typing import TYPE_CHECKING

import pytest
import requests

import stardust_auto
from stardust_auto import ConfigClient, Span, SpanBuilder, StardustClient, StardustTracer
from stardust_auto.errors import EnvironmentVariableError
from stardust_auto.process.background import process_worker
from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith(("STARDUST", "STARSERVER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(period=1) as running:
        yield running


class Admin:
    """What a person does in the console."""

    def __init__(self, server: EmbeddedServer, app: str) -> None:
        self.base = f"{server.url}/console/api"
        self.app = app
        self.headers = {"Authorization": f"Bearer {server.key}"}

    def counts(self) -> dict[str, tuple[int, int]]:
        reply = requests.get(f"{self.base}/apps/{self.app}/operations", headers=self.headers, timeout=10)
        return {row["name"]: (row["total"], row["errors"]) for row in reply.json()} if reply.ok else {}

    def publish(self, values: dict[str, str | None]) -> None:
        requests.put(
            f"{self.base}/config/{self.app}", json={"scope": "", "items": values}, headers=self.headers, timeout=10
        ).raise_for_status()
        requests.post(
            f"{self.base}/config/{self.app}/publish", json={}, headers=self.headers, timeout=10
        ).raise_for_status()


@pytest.fixture
def admin(server: EmbeddedServer) -> Admin:
    return Admin(server, "sdk")


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_spans_arrive_when_the_client_stops(server: EmbeddedServer, admin: Admin) -> None:
    client = StardustClient(server=server.url, app_id="sdk", enable_config=False)
    client.start()
    with client.new_span("job:import") as span:
        span.tag = "batch 7"
        span.value = 40
    with pytest.raises(KeyError), client.new_span("job:import"):
        raise KeyError("x")
    with client.new_span("job:import") as span:
        span.set_error(ValueError("noted"))
    client.stop()
    assert admin.counts()["job:import"] == (3, 2)


def test_usable_before_start_and_as_a_context_manager(server: EmbeddedServer, admin: Admin) -> None:
    client = StardustClient(server=server.url, app_id="sdk", enable_config=False)
    with client.new_span("early"):
        pass
    with client:
        pass
    assert admin.counts() == {"early": (1, 0)}


def test_stop_twice_and_start_again(server: EmbeddedServer, admin: Admin) -> None:
    client = StardustClient(server=server.url, app_id="sdk", enable_config=False)
    client.stop()
    for _ in range(2):
        client.start()
        client.start()
        with client.new_span("again"):
            pass
        client.stop()
        client.stop()
    assert admin.counts() == {"again": (2, 0)}


def test_trace_every_kind_of_function(server: EmbeddedServer, admin: Admin) -> None:
    tracer = StardustTracer(server.url, "sdk")

    @tracer.trace("plain")
    def plain(x: int) -> int:
        return x + 1

    @tracer.trace("async")
    async def asynchronous(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @tracer.trace("generator")
    def generator(n: int) -> Iterator[int]:
        yield from range(n)

    tracer.start()
    assert plain(1) == 2
    assert asyncio.run(asynchronous(1)) == 2
    assert list(generator(3)) == [0, 1, 2]
    tracer.stop()
    assert admin.counts() == {"plain": (1, 0), "async": (1, 0), "generator": (1, 0)}


def test_the_tracers_limits_can_be_read_and_set() -> None:
    tracer = StardustTracer("http://127.0.0.1:9", "sdk")
    assert (tracer.period, tracer.max_samples, tracer.max_errors) == (60, 1, 10)
    tracer.period, tracer.max_samples, tracer.max_errors = 5, 3, 4
    assert (tracer.tracer.period, tracer.tracer.max_samples, tracer.tracer.max_errors) == (5, 3, 4)


def test_settings_are_read_and_followed(server: EmbeddedServer, admin: Admin) -> None:
    changes: list[object] = []
    with StardustClient(server=server.url, app_id="sdk") as client:
        assert client.get_config("greeting", "hello") == "hello"

        @client.on_config_change
        def changed(*args: object) -> None:
            changes.append(args)

        admin.publish({"greeting": "hi", "size": "7", "fast": "true"})
        until(lambda: client.get_config("greeting") == "hi")
        assert client.get_config_int("size", 1) == 7
        assert client.get_config_int("missing", 3) == 3
        assert client.get_config_bool("fast") is True
        assert client.get_all_configs() == {"greeting": "hi", "size": "7", "fast": "true"}
        assert client.config_version >= 1
        until(lambda: len(changes) == 1)
    assert client.get_config("greeting") == "hi"  # readable after the end, too


def test_parts_that_are_switched_off(server: EmbeddedServer, admin: Admin) -> None:
    with StardustClient(server=server.url, app_id="sdk", enable_trace=False, enable_config=False) as client:
        assert (client.tracer, client.config, client.config_version) == (None, None, 0)
        for call in (lambda: client.new_span("nothing"), lambda: client.trace("nothing")):
            with pytest.raises(RuntimeError, match="enable_trace"):
                call()
        for read in (
            lambda: client.get_config("x"),
            lambda: client.get_config_int("x"),
            lambda: client.get_config_bool("x"),
            client.get_all_configs,
            lambda: client.on_config_change(print),
        ):
            with pytest.raises(RuntimeError, match="enable_config"):
                read()
    assert admin.counts() == {}


def test_what_the_operator_switches_off_does_nothing_and_raises_nothing(
    server: EmbeddedServer, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARDUST_TRACE_ENABLED", "0")
    monkeypatch.setenv("STARDUST_CONFIG_ENABLED", "0")
    with StardustClient(server=server.url, app_id="sdk") as client:
        with client.new_span("nothing") as span:
            span.tag = "x"
        assert client.get_config("x", "default") == "default"
        assert client.config_version == 0
    assert admin.counts() == {}


def test_a_missing_key_is_empty_text(server: EmbeddedServer) -> None:
    client = StardustClient(server=server.url, app_id="sdk")
    assert client.get_config("missing") == ""
    assert client.get_config("missing", None) is None


def test_the_official_attributes_and_no_secret_in_a_repr(server: EmbeddedServer) -> None:
    client = StardustClient(server.url, "sdk", "planted-secret-7", "prod", client_id="10.0.0.9@77")
    tracer = client.tracer
    assert tracer is not None
    for one in (client, tracer):
        assert (one.server, one.app_id, one.secret, one.client_id) == (
            server.url,
            "sdk",
            "planted-secret-7",
            "10.0.0.9@77",
        )
        assert "planted-secret-7" not in repr(one)
        assert "planted-secret-7" not in repr(vars(one))
    assert client.scope == "prod"
    assert (tracer.app_name, tracer.timeout, tracer.max_tag_length, tracer.excludes) == ("sdk", 5000, 1024, ())
    assert isinstance(tracer, StardustTracer)


def test_a_span_can_be_given_its_parent(server: EmbeddedServer) -> None:
    tracer = StardustTracer(server.url, "sdk")
    with tracer.new_span("outer"), tracer.new_span("inner", "00f067aa0ba902b7") as inner:
        assert inner.parent_id == "00f067aa0ba902b7"


def test_the_module_names_of_the_official_sdk() -> None:
    from stardust_auto import client, config_client, tracer

    assert client.StardustClient is StardustClient
    assert config_client.ConfigClient is ConfigClient
    assert (tracer.Span, tracer.SpanBuilder, tracer.StardustTracer) == (Span, SpanBuilder, StardustTracer)


def test_the_tracer_has_awaited_twins(server: EmbeddedServer, admin: Admin) -> None:
    async def main() -> None:
        async with StardustTracer(server.url, "sdk") as tracer:
            with tracer.new_span("in a loop"):
                pass
            assert await tracer.aflush(5)

    asyncio.run(main())
    with StardustTracer(server.url, "sdk") as tracer, tracer.new_span("plain"):
        pass
    assert admin.counts() == {"in a loop": (1, 0), "plain": (1, 0)}


def test_without_a_server() -> None:
    client = StardustClient(app_id="sdk", enable_config=False)
    with client.new_span("fine"):
        pass
    with pytest.raises(ValueError, match="STARDUST_SERVER"):
        client.start()


@pytest.mark.parametrize("server", ["127.0.0.1:6600", "", "ftp://h", ["http://a", "nonsense"]])
def test_a_server_that_cannot_be_one(server: str) -> None:
    with pytest.raises((ValueError, EnvironmentVariableError), match=r"scheme|at least one"):
        StardustClient(server=server, app_id="sdk")


def test_what_is_not_passed_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", "http://h:1")
    monkeypatch.setenv("STARDUST_APP_ID", "from-env")
    monkeypatch.setenv("STARDUST_PERIOD", "7")
    tracer = StardustTracer()
    assert (tracer.session.account.app_id, tracer.period) == ("from-env", 7)


def test_a_server_that_is_away_costs_a_second_at_most() -> None:
    client = StardustClient(server="http://127.0.0.1:9", app_id="sdk", enable_config=False)
    start = time.monotonic()
    client.start()
    assert time.monotonic() - start < 0.2
    with client.new_span("lost"):
        pass
    client.stop()
    assert time.monotonic() - start < 1.8


def run(code: str, *launcher: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("PYTHON", "STARDUST"))}
    command = [sys.executable, "-c", code]
    if launcher:
        command = [os.path.join(sysconfig.get_path("scripts"), "stardust-auto"), *launcher, *command]
    return subprocess.run(command, env={**kept, **env}, capture_output=True, text=True, timeout=60, check=False)


def test_an_activated_process_shares_one_session_and_tracer(
    server: EmbeddedServer, admin: Admin, tmp_path: Path
) -> None:
    code = (
        "import sqlite3, threading\nfrom stardust_auto import StardustClient, StardustTracer\n"
        "sqlite3.connect(':memory:').execute('select 1').fetchall()\n"
        "from stardust_auto.agent import get_tracer\n"
        "client = StardustClient(enable_config=False); client.start()\n"
        "other = StardustTracer(app_id='other')\n"
        "with client.new_span('outer'): pass\n"
        "client.stop()\n"
        "with client.new_span('later'): pass\n"
        "print(client.tracer.tracer is get_tracer(), other.tracer is get_tracer(), end=' ')\n"
        "print(*{t.name for t in threading.enumerate()} - {'MainThread', 'stardust'})"
    )
    done = run(code, "--server", server.url, "--app", "sdk", STARDUST_CACHE_DIR=str(tmp_path))
    assert (done.stdout, done.stderr) == ("True False \n", "")
    assert admin.counts() == {"db:memory:Select": (1, 0), "outer": (1, 0), "later": (1, 0)}
    apps = requests.get(f"{admin.base}/apps", headers=admin.headers, timeout=10).json()
    assert [(app["name"], len(app["instances"])) for app in apps] == [("sdk", 1)]


def test_the_sdk_without_stop_still_reports_at_exit(server: EmbeddedServer, admin: Admin, tmp_path: Path) -> None:
    code = (
        "from stardust_auto import StardustTracer\n"
        f"tracer = StardustTracer({server.url!r}, 'sdk'); tracer.start()\n"
        "with tracer.new_span('last'): pass\n"
        "import time; deadline = time.monotonic() + 30\n"
        "while tracer.session.state != 'online' and time.monotonic() < deadline: time.sleep(0.01)"
    )
    done = run(code, STARDUST_CACHE_DIR=str(tmp_path))
    assert (done.stderr, done.returncode) == ("", 0)
    assert admin.counts() == {"last": (1, 0)}


def test_threads_end_with_the_client(server: EmbeddedServer) -> None:
    with StardustClient(server=server.url, app_id="sdk"):
        assert process_worker().running
    until(lambda: not process_worker().running)


def test_public_names() -> None:
    assert set(stardust_auto.__all__) <= set(dir(stardust_auto))
    assert all(getattr(stardust_auto, name) is not None for name in stardust_auto.__all__)
    assert all(isinstance(one, type) for one in (ConfigClient, Span, SpanBuilder, StardustClient, StardustTracer))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        stardust_auto.nonsense  # noqa: B018 - the access is the test


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert stardust_auto.__version__ == version("stardust-auto")


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, json, stardust_auto; print(json.dumps([name for name in sys.modules if 'stardust' in name]))"
    assert json.loads(run(code).stdout) == ["stardust_auto"]
