"""Start, disk copy and process life."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _kit.config_center import ScriptedCenter, failure, wait_for
from pydantic import BaseModel, SecretStr, ValidationError, field_validator

from stardust_auto import live
from stardust_auto.config import (
    ConfigClient,
    ConfigUnavailableError,
    InvalidSettingsError,
    MemoryClient,
    StardustConfigDict,
    StardustSettings,
)
from stardust_auto.config.remote.cache import Copy, DiskCache
from stardust_auto.config.remote.snapshot import make_snapshot
from stardust_auto.process.background import process_worker

if TYPE_CHECKING:
    from stardust_auto.config.typed.settings import OnUnavailable


class Shop(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    a: str = "default"


class Needs(StardustSettings):
    class Db(BaseModel, frozen=True):
        host: str
        port: int = 1
        user: str

    model_config = StardustConfigDict(env_prefix="SHOP_")
    db: Db
    api_key: SecretStr
    level: str = "info"


def run_python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def cache_of(tmp_path: Path, **changes: Any) -> DiskCache:
    facts: dict[str, Any] = {"servers": ("http://a",), "app_id": "shop", "scope": "prod", "folder": tmp_path, **changes}
    return DiskCache(**facts)


@pytest.mark.case("C60")
def test_a_start_without_the_center_uses_the_copy(center: ScriptedCenter) -> None:
    center.version, center.values = 7, {"a": "stored"}
    center.client().refresh()
    client = center.client()
    center.script += [failure(500, "down")] * 2
    handle = live(Shop, client=client, start_timeout=0.3)
    assert handle.current.a == "stored"
    status = handle.status
    assert (status.state, status.origin, status.version) == ("STALE", "disk", 7)
    assert status.age is not None
    assert status.age < 60
    center.version, center.values = 8, {"a": "fresh"}
    center.script.clear()
    client.run()
    assert handle.current.a == "fresh"
    assert (handle.status.origin, handle.status.state) == ("server", "VALID")
    client.stop()


@pytest.mark.case("C61")
def test_one_error_lists_every_missing_field_with_both_names() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        live(Needs).start()
    error = caught.value
    assert [(problem.path, problem.env, problem.key) for problem in error.missing] == [
        ("db.host", "SHOP_DB__HOST", "db:host"),
        ("db.user", "SHOP_DB__USER", "db:user"),
        ("api_key", "SHOP_API_KEY", "api_key"),
    ]
    assert str(error) == (
        "Needs: 3 problems\n"
        '  db.host: missing, set SHOP_DB__HOST or "db:host" in Stardust\n'
        '  db.user: missing, set SHOP_DB__USER or "db:user" in Stardust\n'
        '  api_key: missing, set SHOP_API_KEY or "api_key" in Stardust\n'
        "  (no Stardust server is configured: STARDUST_SERVER)"
    )


@pytest.mark.case("C61")
def test_settings_alone_lists_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB__HOST", "h")
    with pytest.raises(ValidationError) as caught:
        Needs()  # type: ignore[call-arg]  # fields come from the sources
    assert [error["loc"] for error in caught.value.errors()] == [("db", "user"), ("api_key",)]
    assert 'db.user\n  missing, set SHOP_DB__USER or "db:user" in Stardust' in str(caught.value)


_GOOD, _OTHER = {"a": "server"}, {"a": "disk"}


@pytest.mark.case("C61")
@pytest.mark.parametrize(
    ("policy", "answers", "copy", "expected"),
    [
        ("cache-then-defaults", True, True, "server"),
        ("cache-then-defaults", False, True, "disk"),
        ("cache-then-defaults", False, False, "default"),
        ("cache", True, False, "server"),
        ("cache", False, True, "disk"),
        ("cache", False, False, ConfigUnavailableError),
        ("fail", True, False, "server"),
        ("fail", False, True, ConfigUnavailableError),
        ("fail", False, False, ConfigUnavailableError),
    ],
)
def test_the_policies(policy: OnUnavailable, answers: bool, copy: bool, expected: str | type[Exception]) -> None:
    client = MemoryClient(_GOOD if answers else None)
    if copy:
        client.use_disk_copy(_OTHER)
    handle = live(Shop, client=client, on_unavailable=policy, start_timeout=0)
    if isinstance(expected, str):
        assert handle.current.a == expected
    else:
        with pytest.raises(expected, match="no configuration from Stardust"):
            handle.start()
        client.publish(_GOOD)  # it is back: the next read works
        assert handle.current.a == "server"


@pytest.mark.case("C61")
def test_the_policy_may_stand_in_the_class() -> None:
    class Careful(Shop):
        model_config = StardustConfigDict(stardust_on_unavailable="fail", stardust_start_timeout=0)

    with pytest.raises(ConfigUnavailableError):
        live(Careful, client=MemoryClient()).start()


def test_invalid_content_at_the_start_falls_back_to_the_copy_or_is_told() -> None:
    class Number(StardustSettings):
        n: int = 0

    client = MemoryClient({"n": "word"}, version=9)
    with pytest.raises(InvalidSettingsError, match='n from Stardust memory v9 key "n"'):
        live(Number, client=client).start()  # it has never had a valid state: it does not start on defaults
    client.use_disk_copy({"n": "5"}, version=8)
    handle = live(Number, client=client)
    assert handle.current.n == 5
    assert (handle.status.version, handle.status.rejected_version) == (8, 9)
    client.publish({"n": "6"})
    assert (handle.current.n, handle.status.rejected_version) == (6, None)


@pytest.mark.case("C62")
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text('"text"'),
        lambda path: path.write_text(path.read_text().replace('"schema": 2', '"schema": 99')),
        lambda path: path.write_text(path.read_text().replace("value", "tampered")),
        lambda path: path.write_text(path.read_text().replace('"version": 3', '"version": {}')),
        lambda path: path.write_text(path.read_text().replace('"version": 3', '"other": 3')),
        lambda path: path.write_text(path.read_text().replace('"version": 3', '"version": 1e400')),
        lambda path: path.write_text(path.read_text().replace('"version": 3', '"version": ' + "[" * 100_000)),
        lambda path: path.write_text(path.read_text().replace('"pending": null', '"pending": {"seen": 1}')),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_copy_is_ignored(damage: Any, tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    cache = cache_of(tmp_path)
    assert cache.store(Copy(make_snapshot({"k": "value"}, version=3, scope="prod")))
    damage(cache.path)
    assert cache.load() is None
    assert cache.load() is None
    assert len(lines.records) == 1
    assert "cannot be read" in lines.text
    assert "value" not in lines.text
    assert "tampered" not in lines.text


@pytest.mark.case("C62")
@pytest.mark.parametrize(
    "other", [{"servers": ("http://b",)}, {"app_id": "shop2"}, {"scope": "dev"}, {"servers": ("http://a", "http://b")}]
)
def test_a_copy_is_never_used_for_another(other: dict[str, Any], tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.store(Copy(make_snapshot({"k": "value"}, version=3, scope="prod")))
    foreign = cache_of(tmp_path, **other)
    assert foreign.load() is None
    foreign.path.write_bytes(cache.path.read_bytes())  # even under its name
    assert foreign.load() is None
    loaded = cache.load()
    assert loaded is not None
    held = loaded.held
    assert (dict(held.values), held.version, held.origin) == ({"k": "value"}, 3, "disk")


@pytest.mark.case("C62")
def test_a_disk_that_cannot_be_written_is_a_warning(
    tmp_path: Path, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    cache = cache_of(tmp_path / "file")
    assert not cache.store(Copy(make_snapshot({"k": "value"})))
    assert not cache.store(Copy(make_snapshot({"k": "value"})))
    assert len(lines.records) == 1
    good = cache_of(tmp_path)
    good.store(Copy(make_snapshot({"k": "old"})))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not good.store(Copy(make_snapshot({"k": "new"})))
    monkeypatch.undo()
    assert "No space left on device" in lines.text
    loaded = good.load()
    assert loaded is not None
    assert loaded.held.values["k"] == "old"
    assert [path.name for path in good.path.parent.iterdir()] == [good.path.name]  # no temporary file is left


@pytest.mark.case("C63")
def test_the_copy_belongs_to_the_user_alone(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.store(Copy(make_snapshot({"k": "value"})))
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700


@pytest.mark.case("C63")
def test_processes_that_write_at_once_or_die_leave_a_whole_copy(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.store(Copy(make_snapshot({"k": "start" * 10_000})))
    code = f"""
        from stardust_auto.config.remote.cache import Copy, DiskCache
        from stardust_auto.config.remote.snapshot import make_snapshot
        cache = DiskCache(("http://a",), "shop", "prod", {str(tmp_path)!r})
        print("ready", flush=True)
        number = 0
        while True:
            number += 1
            assert cache.store(Copy(make_snapshot({{"k": str(number % 10) * 50_000}})))
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for _ in range(50):
        loaded = cache.load()
        assert loaded is not None
        assert len(set(loaded.held.values["k"])) in (1, 4)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert cache.load() is not None


@pytest.mark.case("C64")
def test_a_copy_that_a_newer_class_refuses_is_passed_over(lines: pytest.LogCaptureFixture) -> None:
    class Newer(StardustSettings):
        n: int = 1

    client = MemoryClient()
    client.use_disk_copy({"n": "word"})
    handle = live(Newer, client=client, start_timeout=0)
    assert handle.current.n == 1
    assert handle.status.origin == "defaults"
    assert "refused" in lines.text
    with pytest.raises(InvalidSettingsError):
        live(Newer, client=client, on_unavailable="cache", start_timeout=0).start()


@pytest.mark.case("C64")
def test_the_last_accepted_set_is_kept_beside_refused_content(center: ScriptedCenter) -> None:
    class Number(StardustSettings):
        n: int = 0

    center.values = {"n": "5"}
    client = center.client()
    handle = live(Number, client=client)
    client.run()
    assert handle.current.n == 5
    center.version, center.values = 2, {"n": "word"}
    client.run()
    assert handle.status.rejected_version == 2
    fresh = center.client()
    center.script += [failure(500, "down")] * 2
    fresh.start()
    good = fresh.last_good()
    assert good is not None
    assert (fresh.snapshot.values, fresh.snapshot.version) == ({"n": "word"}, 2)
    assert (good.values, good.version) == ({"n": "5"}, 1)
    again = live(Number, client=fresh, start_timeout=0)
    assert again.current.n == 5
    assert (again.status.version, again.status.rejected_version) == (1, 2)
    fresh.stop()
    client.stop()


_FORK = """
    import logging, os, sys, time
    from pydantic import BaseModel
    from stardust_auto import live
    from stardust_auto.config import StardustConfigDict, StardustSettings

    class Shop(StardustSettings):
        model_config = StardustConfigDict(stardust_app="shop", stardust_start_timeout=5)
        a: str = "default"

    config = live(Shop)
"""


def _center_code(center: ScriptedCenter, body: str) -> str:
    return textwrap.dedent(_FORK) + textwrap.dedent(body)


@pytest.mark.case("C65")
@pytest.mark.parametrize("started", ["before", "after", "locked"])
def test_a_forked_child_keeps_the_values_and_gets_new_ones(center: ScriptedCenter, started: str) -> None:
    center.values = {"a": "one"}
    code = _center_code(
        center,
        f"""
        started = {started!r}
        if started != "before":
            assert config.current.a == "one"
        if started == "locked":
            import threading
            holding = threading.Event()
            def hold():
                with config._loader._judging, config._loader._lock, config.client._lock:
                    holding.set()
                    time.sleep(30)
            threading.Thread(target=hold, daemon=True).start()
            holding.wait()
        pid = os.fork()
        if pid == 0:
            assert config.current.a == "one", config.current
            config.client.refresh_interval = 0.05
            print("child ready", flush=True)
            deadline = time.monotonic() + 10
            while config.current.a != "two":
                assert time.monotonic() < deadline, config.status
                time.sleep(0.01)
            print("child saw two", flush=True)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status))
        """,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "STARDUST_SERVER": center.url, "STARDUST_PUSH_ENABLED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "child ready\n"
    center.version, center.values = 2, {"a": "two"}
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("child saw two\n", 0)


@pytest.mark.case("C66")
def test_without_threads_reads_pull_by_themselves(center: ScriptedCenter) -> None:
    center.values = {"a": "one"}
    code = _center_code(
        center,
        """
        import threading
        def refuse(self):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        assert config.current.a == "one"
        config.client.refresh_interval = 0.0
        print("read", flush=True)
        sys.stdin.readline()
        print(config.current.a, flush=True)
        """,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "STARDUST_SERVER": center.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "read\n"
    center.version, center.values = 2, {"a": "two"}
    output, _ = process.communicate("go\n", timeout=30)
    assert (output, process.returncode) == ("two\n", 0)


@pytest.mark.case("C67")
def test_the_end_of_the_process_is_quiet_and_quick(center: ScriptedCenter) -> None:
    code = _center_code(center, "print(config.current.a)\n")
    result = run_python(code, STARDUST_SERVER=center.url)
    assert (result.stdout, result.stderr, result.returncode) == ("default\n", "", 0)
    code = _center_code(
        center,
        """
        import atexit
        atexit.register(lambda: print(config.current.a, config.status.state))
        """,
    )
    result = run_python(code, STARDUST_SERVER=center.url)
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)


@pytest.mark.case("C67")
def test_start_close_start(center: ScriptedCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", center.url)
    monkeypatch.setenv("STARDUST_APP_ID", "shop")
    monkeypatch.setenv("STARDUST_PUSH_ENABLED", "0")
    center.values = {"a": "one"}
    handle = live(Shop)
    handle.close()
    assert handle.start().a == "one"
    handle.close()
    assert handle.status.state == "OFF"
    center.version, center.values = 2, {"a": "two"}
    asked = len(center.requests)
    assert handle.current.a == "one"  # still readable, and nobody is asked
    assert len(center.requests) == asked
    assert handle.start().a == "two"
    handle.close()
    handle.close()
    assert wait_for(lambda: not process_worker().running)


@pytest.mark.case("C69")
def test_import_and_live_do_nothing(center: ScriptedCenter) -> None:
    code = _center_code(
        center,
        """
        import threading
        assert threading.active_count() == 1
        assert "requests" not in sys.modules and "websockets" not in sys.modules
        assert logging.getLogger().handlers == []
        @config.on_change(lambda s: s.a)
        def changed(old: str, new: str) -> None: ...
        print(repr(config), config.status.state)
        """,
    )
    result = run_python(code, STARDUST_SERVER=center.url)
    assert (result.stdout, result.stderr) == ("Live(Shop, not loaded) OFF\n", "")
    assert center.requests == []
    assert center.logins == 0
    assert not Path(os.environ["STARDUST_CACHE_DIR"]).exists()


def test_without_a_server_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    monkeypatch.setenv("SHOP_A", "env")
    handle = live(Shop)
    assert handle.current.a == "env"
    assert threading.active_count() == before
    assert (handle.status.state, handle.status.origin) == ("OFF", "defaults")
    assert handle.wait_ready(0)


@pytest.mark.parametrize("variable", ["STARDUST_ENABLED", "STARDUST_CONFIG_ENABLED"])
def test_switched_off_means_no_center(center: ScriptedCenter, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("STARDUST_SERVER", center.url)
    monkeypatch.setenv(variable, "0")
    assert live(Shop).current.a == "default"
    assert center.requests == []


def test_a_bad_variable_of_ours_is_one_line_and_the_program_runs(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STARDUST_SERVER", "star.example.com:6600")
    assert live(Shop).current.a == "default"
    assert Shop().a == "default"
    (record,) = lines.records
    assert record.message.startswith("STARDUST_SERVER='star.example.com:6600' cannot be used: ")


def test_a_dead_server_costs_the_start_its_time_limit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", "http://127.0.0.1:9")
    handle = live(Shop, start_timeout=0.3)
    start = time.monotonic()
    assert handle.current.a == "default"
    assert handle.current.a == "default"
    assert time.monotonic() - start < 2
    assert not handle.wait_ready(0.05)
    handle.close()


def test_wait_ready(center: ScriptedCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", center.url)
    monkeypatch.setenv("STARDUST_PUSH_ENABLED", "0")
    handle = live(Shop)
    assert handle.wait_ready(5)
    assert handle.status.state == "VALID"
    handle.close()
    invalid = live(Needs)
    assert not invalid.wait_ready(1)
    invalid.close()


def test_settings_alone_reads_the_center(center: ScriptedCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", center.url)
    monkeypatch.setenv("STARDUST_PUSH_ENABLED", "0")
    center.values = {"a": "remote"}
    assert Shop().a == "remote"
    assert Shop(a="argument").a == "argument"
    assert len(center.requests) == 1
    assert Shop.model_validate({"a": "given"}).a == "given"


def test_the_class_names_its_center(center: ScriptedCenter) -> None:
    class Other(StardustSettings):
        model_config = StardustConfigDict(stardust_app="other", stardust_server=center.url, stardust_scope="prod")
        a: str = ""

    center.values = {"a": "remote"}
    handle = live(Other)
    assert handle.current.a == "remote"
    assert center.requests[0]["Scope"] == "prod"
    assert isinstance(handle.client, ConfigClient)
    assert handle.client.app_id == "other"
    handle.close()


def test_the_copy_holds_the_map_and_nothing_else(center: ScriptedCenter) -> None:
    center.values = {"a": "remote"}
    center.client().refresh()
    (path,) = Path(os.environ["STARDUST_CACHE_DIR"], "config").iterdir()
    data = json.loads(path.read_text())
    assert data["held"]["values"] == {"a": "remote"}
    assert (data["accepted"], data["pending"]) == (None, None)
    assert not re.search(r"s3cret|token", path.read_text())


@pytest.mark.case("C51")
def test_the_command_line_is_parsed_by_the_reader(center: ScriptedCenter) -> None:
    code = _center_code(
        center,
        """
        class Arguments(StardustSettings):
            model_config = StardustConfigDict(cli_parse_args=True, stardust_app="shop")
            level: str = "info"

        print(live(Arguments).current.level)
        """,
    )
    for arguments, output, returncode in ((["--level", "debug"], "debug\n", 0), (["--nothing"], "", 2)):
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "STARDUST_SERVER": center.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (result.stdout, result.returncode) == (output, returncode)
        assert ("unrecognized arguments" in result.stderr) == bool(returncode)


def test_an_unexpected_error_of_the_first_build_reaches_the_reader(
    center: ScriptedCenter, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    class Broken(StardustSettings):
        value: int = 1

        @field_validator("value")
        @classmethod
        def divide(cls, value: int) -> int:
            return 1 // value

    monkeypatch.setenv("STARDUST_SERVER", center.url)
    monkeypatch.setenv("STARDUST_PUSH_ENABLED", "0")
    center.values = {"value": "0"}
    handle = live(Broken)
    start = time.monotonic()
    with pytest.raises(
        InvalidSettingsError, match=r"a validator failed with ZeroDivisionError \(.*test_startup.py:\d+\)"
    ):
        handle.start()
    assert time.monotonic() - start < 2
    assert [record for record in lines.records if record.levelno >= logging.WARNING] == []
    handle.close()


def test_the_environment_says_where_the_center_is(center: ScriptedCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Placed(StardustSettings):
        model_config = StardustConfigDict(
            stardust_server="http://127.0.0.1:9", stardust_scope="prod", stardust_app="own", stardust_start_timeout=5
        )
        a: str = ""

    monkeypatch.setenv("STARDUST_SERVER", center.url)
    monkeypatch.setenv("STARDUST_SCOPE", "dev")
    monkeypatch.setenv("STARDUST_APP_ID", "process")
    monkeypatch.setenv("STARDUST_PUSH_ENABLED", "0")
    handle = live(Placed)
    handle.start()
    assert (center.requests[0]["Scope"], center.requests[0]["AppId"]) == ("dev", "own")
    handle.close()


def test_settings_alone_waits_for_a_dead_server_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(Shop):
        model_config = StardustConfigDict(stardust_start_timeout=0.4)

    monkeypatch.setenv("STARDUST_SERVER", "http://127.0.0.1:9")
    start = time.monotonic()
    for _ in range(10):
        assert Quick().a == "default"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("", "settings Number v2 refused, keeping v1: n from "),
        (
            "logging.basicConfig(format='LOG %(levelname)s %(name)s %(message)s')",
            "LOG ERROR stardust_auto.config.live.loader settings Number v2 refused",
        ),
        ("logging.getLogger('stardust_auto').propagate = False", ""),
        ("logging.getLogger('stardust_auto').setLevel(100)", ""),
        ("logging.lastResort = None", ""),
    ],
)
def test_a_refusal_is_seen_also_where_logging_is_not_configured(setup: str, expected: str) -> None:
    code = f"""
        import logging
        import stardust_auto.session.session  # as in a program with a center
        from stardust_auto import live
        from stardust_auto.config import MemoryClient, StardustSettings
        {setup}
        class Number(StardustSettings):
            n: int = 0
        client = MemoryClient({{"n": "1"}})
        live(Number, client=client).start()
        client.publish({{"n": "word"}})
    """
    result = run_python(code)
    assert (result.stdout, result.returncode) == ("", 0)
    assert result.stderr.startswith(expected)
    assert result.stderr.count("\n") == bool(expected)
