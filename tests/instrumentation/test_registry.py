"""Hooks and patches, and the switches around them. Imports happen in fresh interpreters."""

from __future__ import annotations

import importlib
import inspect
import logging
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import types
import unittest.mock
from contextlib import contextmanager
from typing import Any
from wsgiref import handlers

import pytest
import requests

from stardust_auto import instrumentation
from stardust_auto.instrumentation.kit import outbound
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.patches import FAULT_WINDOW_NS, FIRST_PAUSE_NS, MAX_FAULTS
from stardust_auto.instrumentation.registry import registry
from stardust_auto.instrumentation.targets import TARGET_MODULES

SETUP = """
import sys, threading
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.registry import registry
from stardust_auto.tracing.tracer import Tracer
tracer = Tracer(keep_totals=True)
def install(**settings):
    registry.install(lambda: tracer, AgentSettings(**settings))
def state(module):
    (one,) = [one for one in registry.states() if one.module == module]
    return one
"""


def fresh(code, **modules):
    """Run ``code`` in an interpreter of its own; ``modules`` are importable there. Returns its output."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for name, text in modules.items():
            path = Path(folder, *name.split("__dot__"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text(textwrap.dedent(text))
        program = f"{SETUP}\nsys.path.insert(0, {folder!r})\n{textwrap.dedent(code)}"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


@pytest.mark.case("I1")
def test_a_hook_runs_once_after_the_module_is_complete():
    out = fresh(
        """
        calls = []
        registry._targets["slowmodule"] = "slow"
        registry._integration = lambda name, target: Integration(name, {target: lambda module, patches: calls.append(module.COMPLETE)}, {})
        install()
        threads = [threading.Thread(target=__import__, args=("slowmodule",)) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(calls)
        """,
        slowmodule="import time; time.sleep(0.05); COMPLETE = True",
    )
    assert out == ["[True]"]


@pytest.mark.case("I2", "I3")
def test_modules_imported_before_are_patched_at_once():
    out = fresh(
        """
        import sqlite3
        from requests import get
        from requests.sessions import Session
        install()
        print(state("sqlite3").state, state("requests").state, hasattr(Session.send, "__wrapped__"))
        """
    )
    assert out == ["hooked", "hooked", "True"]


@pytest.mark.case("I4")
def test_reload_is_patched_again_once(trace):
    import wsgiref.handlers

    module: Any = wsgiref.handlers
    before = module.BaseHandler
    importlib.reload(module)
    try:
        assert module.BaseHandler is not before
        assert module.BaseHandler.run.__wrapped__
        assert not hasattr(module.BaseHandler.run.__wrapped__, "__wrapped__")
        importlib.reload(module)
        assert not hasattr(module.BaseHandler.run.__wrapped__, "__wrapped__")
    finally:
        module.BaseHandler = before


@pytest.mark.case("I5")
def test_an_import_error_is_unchanged_and_the_hook_not_used_up():
    out = fresh(
        """
        calls = []
        registry._targets["shaky"] = "shaky"
        registry._integration = lambda name, target: Integration(name, {target: lambda module, patches: calls.append(target)}, {})
        install()
        import builtins
        for attempt in range(2):
            builtins.attempt = attempt
            try:
                import shaky
            except ImportError as error:
                print(repr(str(error)).replace(" ", "_"), error.__context__)
        print(calls.count("shaky"))
        """,
        shaky="import builtins\nif not builtins.attempt: raise ImportError('not yet')",
    )
    assert out == ["'not_yet'", "None", "1"]


@pytest.mark.case("I6")
def test_loaders_are_the_originals():
    out = fresh(
        """
        install()
        import inspect, pkgutil, sqlite3, requests
        for module in (sqlite3, requests):
            print(type(module.__loader__).__name__, type(module.__spec__.loader).__name__, module.__loader__ is module.__spec__.loader)
        print(len(inspect.getsource(requests)) > 100, pkgutil.get_data("requests", "api.py") is not None)
        import importlib.resources
        print(importlib.resources.files("requests").joinpath("api.py").is_file())
        """
    )
    assert out == ["SourceFileLoader", "SourceFileLoader", "True"] * 2 + ["True"] * 3


@pytest.mark.case("I7")
def test_lazy_modules():
    out = fresh(
        """
        install()
        import importlib.util
        spec = importlib.util.find_spec("sqlite3")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["sqlite3"] = module
        spec.loader.exec_module(module)
        module.connect(":memory:").execute("SELECT 1")
        print("fine")
        """
    )
    assert out == ["fine"]


@pytest.mark.case("I8")
def test_submodule_first():
    out = fresh(
        """
        install()
        from requests.sessions import Session
        from redis.asyncio.client import Pipeline
        from urllib3.connectionpool import HTTPConnectionPool
        print(*(hasattr(one, "__wrapped__") for one in (Session.send, Pipeline.execute, HTTPConnectionPool.urlopen)))
        """
    )
    assert out == ["True"] * 3


@pytest.mark.case("I9")
def test_a_failing_hook_never_reaches_the_import():
    out = fresh(
        """
        registry._targets["victim"] = "broken"
        def broken(module, patches): raise ZeroDivisionError("ours")
        registry._integration = lambda name, target: Integration(name, {target: broken}, {})
        install()
        import victim
        print(victim.VALUE, state("victim").state, state("victim").reason.replace(" ", "_"))
        """,
        victim="VALUE = 7",
    )
    assert out == ["7", "failed", "ZeroDivisionError:_ours"]


@pytest.mark.case("I10")
def test_twice_is_once_and_restore_gives_the_same_objects(traced_block):
    owners = [(requests.Session, "send"), (sqlite3, "connect"), (handlers.BaseHandler, "run"), (importlib, "reload")]
    originals = [vars(owner)[name] for owner, name in owners]
    with traced_block():
        wrappers = [vars(owner)[name] for owner, name in owners]
        with traced_block():
            assert [vars(owner)[name] for owner, name in owners] == wrappers
    assert all(vars(owner)[name] is original for (owner, name), original in zip(owners, originals, strict=True))


@pytest.mark.case("I10")
def test_wrapped_by_somebody_else_on_top(trace, web, monkeypatch):
    ours = requests.Session.send

    def theirs(self, *args, **kwargs):
        return ours(self, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "send", theirs)
    assert instrumentation.disable("requests")
    assert requests.Session.send is theirs  # left as it is
    (state,) = [one for one in instrumentation.states() if one.module == "requests"]
    assert state.covered == (("requests.sessions:Session.send", __name__),)
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(web.url).text == "ok"
    assert web.headers("traceparent") != []
    assert [name for name in trace.names if "requests" in name] == []  # and silent
    monkeypatch.undo()
    assert instrumentation.enable("requests")
    assert instrumentation.disable("requests")
    assert not hasattr(requests.Session.send, "__wrapped__")
    assert instrumentation.enable("requests")


@pytest.mark.case("I11")
def test_metadata_of_patched_callables(same):
    def probe():
        found = []
        for owner, name in ((requests.Session, "send"), (handlers.BaseHandler, "run"), (importlib, "reload")):
            function = getattr(owner, name)
            found.append(
                (
                    str(inspect.signature(function)),
                    function.__name__,
                    function.__qualname__,
                    function.__module__,
                    function.__doc__,
                    type(function),
                    pickle.loads(pickle.dumps(function)) is function,
                    len(inspect.getsource(function)),
                )
            )
        return found

    same(probe)


@pytest.mark.case("I12")
def test_autospec(same):
    def probe():
        with unittest.mock.patch.object(requests.Session, "send", autospec=True) as send:
            session: Any = requests.Session()
            session.send("request", timeout=1)
            try:
                session.send()
            except TypeError as error:
                return send.call_args == unittest.mock.call(session, "request", timeout=1), str(error)

    same(probe)


@pytest.mark.case("I14")
def test_switched_off_is_untouched(traced_block):
    send = requests.Session.send
    with traced_block(integrations={"requests": False}):
        assert requests.Session.send is send
        (state,) = [one for one in registry.states() if one.module == "requests"]
        assert (state.state, state.attributes) == ("off", ())
    with traced_block(instrument=False, integrations={"sqlite3": True}):
        assert requests.Session.send is send
        assert type(sqlite3.connect) is not type(len)


@pytest.mark.case("I14")
def test_switched_off_by_a_later_installation(traced_block):
    send = requests.Session.send
    with traced_block(), traced_block(integrations={"requests": False}):
        assert requests.Session.send is send


@pytest.mark.case("I14")
def test_a_target_is_never_imported_by_us():
    out = fresh(
        """
        install()
        print(sorted(name for name in sys.modules if name.partition(".")[0] in
              ("requests", "urllib3", "redis", "sqlite3", "flask", "django", "werkzeug", "waitress", "gunicorn", "cheroot")))
        """
    )
    assert out == ["[]"]


@pytest.mark.case("I15")
def test_an_unsupported_version_is_untouched():
    out = fresh(
        """
        install()
        import requests
        print(state("requests").state, state("requests").reason.replace(" ", "_"), state("requests").version, hasattr(requests.send, "x"))
        """,
        requests="__version__ = '2.3.0'\ndef send(): ...",
    )
    assert out == ["unsupported", "version_2.3.0_is_older_than_2.20", "2.3.0", "False"]


@pytest.mark.case("I16")
def test_no_target_costs_no_wrapt():
    out = fresh(
        "import stardust_auto.instrumentation.targets as t; print('wrapt' in sys.modules, len(t.TARGET_MODULES))"
    )
    assert out == ["False", str(len(TARGET_MODULES))]


def test_disable_and_enable(trace, web):
    plain = vars(requests.Session)["send"].__wrapped__
    with requests.Session() as session:
        session.trust_env = False
        session.get(web.url)
        assert instrumentation.disable("requests")
        assert instrumentation.disable("urllib3")
        assert requests.Session.send is plain
        session.get(web.url)
        assert instrumentation.enable("requests")
        assert instrumentation.enable("urllib3")
        session.get(web.url)
    assert [bool(header) for header in web.headers("traceparent")] == [True, False, True]
    assert len(trace.names) == 2
    assert not instrumentation.disable("nonsense")
    assert not instrumentation.enable("nonsense")


class Broken:
    def __getitem__(self, url):
        raise ZeroDivisionError("ours")


@contextmanager
def broken_names(traced_block, monkeypatch):
    """Requests that meet a fault of ours, and a clock that moves when told."""
    now = [0]
    monkeypatch.setattr(outbound, "HTTP_NAMES", Broken())
    with traced_block() as trace, requests.Session() as session:
        trace.tracer.now = lambda: now[0]
        session.mount("mock://", Answering())

        def get(times, step_ns=1):
            for _ in range(times):
                now[0] += step_ns
                assert session.get("mock://x/").status_code == 204
            (state,) = [one for one in registry.states() if one.module == "requests"]
            return state

        yield get


def test_a_fault_of_our_own_skips_the_call_and_nothing_else(traced_block, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "stardust_auto"), broken_names(traced_block, monkeypatch) as get:
        state = get(10 * MAX_FAULTS, step_ns=FAULT_WINDOW_NS // 10)
        assert (state.state, state.faults) == ("hooked", 10 * MAX_FAULTS)
        registry.enable("requests")
    assert not caplog.records


def test_a_rate_of_faults_switches_an_integration_off_for_a_time(traced_block, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "stardust_auto"), broken_names(traced_block, monkeypatch) as get:
        state = get(MAX_FAULTS + 10)
        assert (state.state, state.faults) == ("paused", MAX_FAULTS)
        assert state.reason == "its own code failed: ZeroDivisionError: ours"
        assert get(1, step_ns=FIRST_PAUSE_NS).state == "hooked"  # that call was a fault, too
        get(MAX_FAULTS)
        assert get(1, step_ns=FIRST_PAUSE_NS).state == "paused"  # twice as long
        registry.enable("requests")
        assert get(1).faults == 1
        registry.enable("requests")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in lines] == [
        "integration requests is off for 60 s",
        "integration requests is on again",
        "integration requests is off for 120 s",
    ]


class Answering(requests.adapters.BaseAdapter):
    def send(self, request, *_args, **_kwargs):
        response = requests.Response()
        response.status_code, response.raw, response._content = 204, unittest.mock.Mock(spec=[]), b""
        return response

    def close(self):
        return


def test_states_tell_what_a_doctor_needs(trace):
    states = {state.module: state for state in registry.states()}
    assert set(states) >= set(TARGET_MODULES)
    assert states["requests"].version == requests.__version__
    assert states["requests"].attributes[0] == "requests.sessions:Session.send"
    assert states["sqlite3"].attributes[0] == "sqlite3:connect"
    assert states["eventlet.wsgi"].state == "waiting"


def test_third_party_integration(traced_block, monkeypatch):
    import importlib.metadata

    module: Any = types.ModuleType("thirdparty")
    module.work = lambda: "plain"

    def make(plain):
        return lambda: f"traced {plain()}"

    provider: Any = types.ModuleType("thirdparty_stardust")
    provider.INTEGRATION = Integration(
        "thirdparty", {"thirdparty": lambda target, patches: patches.wrap(target, "work", make)}, {}
    )
    monkeypatch.setitem(sys.modules, "thirdparty_stardust", provider)
    monkeypatch.setitem(sys.modules, "thirdparty", module)
    entry = importlib.metadata.EntryPoint(
        "thirdparty", "thirdparty_stardust:INTEGRATION", "stardust_auto.instrumentation"
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    with traced_block():
        assert module.work() == "traced plain"
        assert instrumentation.disable("thirdparty")
        assert module.work() == "plain"
        registry.enable("thirdparty")
    assert module.work() == "plain"
    registry._targets.pop("thirdparty")
    registry._foreign.clear()
