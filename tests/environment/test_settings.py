"""The variables of the agent: aliases, types, and one clear line for each mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stardust_auto.environment.settings import VARIABLES, AgentSettings, program_name
from stardust_auto.errors import EnvironmentVariableError


def test_nothing_set_means_not_configured():
    settings = AgentSettings.from_environ({})
    assert not settings.configured
    assert (settings.servers, settings.secret, settings.period) == ((), None, None)
    assert settings.instrumented("redis")


def test_every_variable():
    settings = AgentSettings.from_environ(
        {
            "STARDUST_SERVER": "http://a:6600/, https://b.example.com",
            "STARDUST_APP_ID": "shop",
            "STARDUST_SECRET": "hunter2",
            "STARDUST_SCOPE": "prod",
            "STARDUST_CLIENT_ID": "10.0.0.1@7",
            "STARDUST_ENABLED": "yes",
            "STARDUST_TRACE_ENABLED": "off",
            "STARDUST_CONFIG_ENABLED": "0",
            "STARDUST_PUSH_ENABLED": "FALSE",
            "STARDUST_INSTRUMENT": "on",
            "STARDUST_INSTRUMENT_REDIS": "off",
            "STARDUST_EXCLUDES": "/health*; /metrics",
            "STARDUST_PERIOD": "5",
            "STARDUST_MAX_SAMPLES": "0",
            "STARDUST_MAX_ERRORS": "3",
            "STARDUST_TIMEOUT": "250",
            "STARDUST_PROPAGATE_TO": "*.corp",
            "STARDUST_CACHE_DIR": "/var/cache/x",
            "STARDUST_LOG_LEVEL": "INFO",
            "STARDUST_AUTO": "1",
        }
    )
    assert settings.servers == ("http://a:6600", "https://b.example.com")
    assert (settings.app_id, settings.secret, settings.scope, settings.client_id) == (
        "shop",
        "hunter2",
        "prod",
        "10.0.0.1@7",
    )
    assert (settings.enabled, settings.trace_enabled, settings.config_enabled, settings.push_enabled) == (
        True,
        False,
        False,
        False,
    )
    assert (settings.instrumented("redis"), settings.instrumented("sqlite3")) == (False, True)
    assert (settings.excludes, settings.propagate_to) == (("/health*", "/metrics"), ("*.corp",))
    assert (settings.period, settings.max_samples, settings.max_errors, settings.timeout) == (5, 0, 3, 250)
    assert (settings.cache_dir, settings.log_level, settings.auto) == ("/var/cache/x", "info", True)
    assert settings.sources["servers"] == "STARDUST_SERVER"


@pytest.mark.parametrize("spelling", ["StarServer", "starserver", "STARSERVER"])
def test_names_of_the_platform_in_any_case(spelling):
    assert AgentSettings.from_environ({spelling: "http://a"}).servers == ("http://a",)
    assert AgentSettings.from_environ({spelling: "http://a", "STARDUST_SERVER": "http://b"}).servers == ("http://b",)


def test_list_syntax_of_the_platform():
    # protocol.md §8.3: [name=][weight*]url[#token=...]
    assert AgentSettings.from_environ({"STARDUST_SERVER": "main=3*http://a:1#token=x,http://b"}).servers == (
        "http://a:1",
        "http://b",
    )


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("STARDUST_SERVER", "localhost:6600", ["STARDUST_SERVER='localhost:6600'", "http://127.0.0.1:6600"]),
        ("STARDUST_SERVER", "http://", ["scheme and a host"]),
        ("STARDUST_SERVER", "ftp://a", ["scheme and a host"]),
        ("STARDUST_SERVER", "http://a:99999", ["1 to 65535"]),
        ("StarServer", "nope", ["StarServer='nope'"]),
        ("STARDUST_PERIOD", "soon", ["STARDUST_PERIOD='soon'", "1 to 86400", "seconds"]),
        ("STARDUST_PERIOD", "0", ["1 to 86400"]),
        ("STARDUST_PERIOD", "1" * 400, ["1 to 86400"]),
        ("STARDUST_MAX_SAMPLES", "-1", ["0 to 1000"]),
        ("STARDUST_ENABLED", "maybe", ["STARDUST_ENABLED='maybe'", "true", "off"]),
        ("STARDUST_INSTRUMENT_REDIS", "maybe", ["STARDUST_INSTRUMENT_REDIS='maybe'"]),
        ("STARDUST_APP_ID", "a#b", ["without '#'"]),
        ("STARDUST_APP_ID", "x" * 51, ["at most 50"]),
        ("STARDUST_LOG_LEVEL", "loud", ["debug", "critical"]),
    ],
)
def test_a_bad_value_is_one_line(name, value, parts):
    with pytest.raises(EnvironmentVariableError) as caught:
        AgentSettings.from_environ({name: value})
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    for part in parts:
        assert part in text
    assert caught.value.__cause__ is None


def test_credentials_in_an_address_are_not_shown():
    with pytest.raises(EnvironmentVariableError) as caught:
        AgentSettings.from_environ({"STARDUST_SERVER": "ftp://me:hunter2@host"})
    assert "hunter2" not in str(caught.value)


def test_the_secret_is_never_shown_and_nothing_can_be_changed():
    settings = AgentSettings.from_environ({"STARDUST_SECRET": "hunter2", "STARDUST_SERVER": "http://a"})
    assert "hunter2" not in repr(settings)
    with pytest.raises(AttributeError):
        settings.secret = "other"  # type: ignore[misc] # what is tested
    with pytest.raises(AttributeError):
        del settings.secret
    with pytest.raises(TypeError, match="colour"):
        AgentSettings(colour="red")


def test_overrides_win_and_none_does_not():
    settings = AgentSettings.from_environ({"STARDUST_APP_ID": "env"}, app_id="mine", scope=None)
    assert (settings.app_id, settings.scope) == ("mine", "")
    assert settings.sources["app_id"] == "argument"


def test_empty_and_blank_values_count_as_not_set():
    assert AgentSettings.from_environ({"STARDUST_PERIOD": "", "STARDUST_SERVER": "  "}).configured is False


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/shop/orders.py"], "orders"),
        (["/srv/shop/manage.py"], "shop"),
        (["/srv/shop/app.py"], "shop"),
        (["/usr/bin/gunicorn"], "gunicorn"),
        (["/srv/pkg/__main__.py"], "pkg"),
        (["-c"], "python"),
        ([""], "python"),
        (["/srv/a#b.py"], "a_b"),
        (["/srv/" + "x" * 99 + ".py"], "x" * 50),
    ],
)
def test_default_application_name(monkeypatch, argv, name):
    monkeypatch.setattr(sys, "argv", argv)
    assert program_name() == name


def test_readme_lists_every_variable():
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    for readme in ("README.md", "README.zh-CN.md"):
        text = root.joinpath(readme).read_text(encoding="utf-8")
        missing = [variable.name for variable in VARIABLES if variable.name not in text]
        assert not missing, f"{readme} does not mention {missing}"


def test_reading_the_environment_imports_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules); import stardust_auto.environment.settings as e; e.AgentSettings.from_environ({});"
        "print(sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    ours = (
        "errors",
        "environment",
        "environment.settings",
        "environment.variable",
        "environment.platform_files",
        "environment.files",
        "environment.dotenv",
    )
    allowed = {"__future__", "stardust_auto", *(f"stardust_auto.{module}" for module in ours)}
    assert set(eval(out)) <= allowed


def test_limits_and_intervals_reach_those_who_keep_them():
    from stardust_auto.config import ConfigClient
    from stardust_auto.environment.identity import Identity
    from stardust_auto.session.session import Session
    from stardust_auto.tracing.builder import TracePolicy
    from stardust_auto.tracing.tracer import Tracer

    settings = AgentSettings.from_environ(
        {
            "STARDUST_SERVER": "http://127.0.0.1:9",
            "STARDUST_MAX_TAG_LENGTH": "20",
            "STARDUST_MAX_NAMES": "10",
            "STARDUST_HEARTBEAT": "7",
            "STARDUST_MAX_SAMPLES": "1000",
        }
    )
    tracer = Tracer.from_settings(settings)
    tracer.apply(TracePolicy(max_tag_length=500))
    for number in range(30):
        tracer.record(f"db:x:Select:t{number}", tracer.now(), None, lambda: "x" * 100)
    builders = tracer.take()
    assert len(builders) == 11
    assert {len(sample.tag) for builder in builders for sample in builder.samples} == {20}
    session = Session(Identity.from_settings(settings, "app"))
    assert session.connection.period == 7
    assert ConfigClient("http://127.0.0.1:9", "app").refresh_interval == 60


def test_the_interval_of_configuration_is_the_operators(monkeypatch):
    from stardust_auto.config import ConfigClient

    monkeypatch.setenv("STARDUST_CONFIG_PERIOD", "9")
    assert ConfigClient("http://127.0.0.1:9", "app").refresh_interval == 9
    assert ConfigClient("http://127.0.0.1:9", "app", refresh_interval=3).refresh_interval == 3
