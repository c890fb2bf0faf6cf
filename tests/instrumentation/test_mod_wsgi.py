"""An application as mod_wsgi has it: a script that is run by its path, in a module of an odd name, and called from C.

The real server is compiled with its Apache and is no part of these tests; what it does from C is done here in the same order.
"""

from __future__ import annotations

import hashlib
import sys
import types
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

BARE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(application is KEPT).encode()]
KEPT = application
"""
FLASK = """
import flask
application = flask.Flask(__name__)
application.get("/items/<int:number>")(lambda number: "True")
"""


class Apache:
    """What the C code of mod_wsgi does."""

    def __init__(self):
        module: Any = types.ModuleType("mod_wsgi")
        module.event_callbacks = []
        module.subscribe_events = module.event_callbacks.append
        self.module = module

    def load(self, path):
        name = f"_mod_wsgi_{hashlib.md5(str(path).encode(), usedforsecurity=False).hexdigest()}"
        script = types.ModuleType(name)
        script.__file__ = str(path)
        sys.modules[name] = script
        exec(compile(path.read_text(), str(path), "exec"), vars(script))
        return script

    def request(self, script, path):
        environ = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        event = {"application_object": script.application, "request_environ": environ, "request_data": {}}
        for callback in self.module.event_callbacks:
            event.update(callback("request_started", **event) or {})
        calls = []
        body = event["application_object"](environ, lambda *args: calls.append(args))
        seen = [args[0] for args in calls], b"".join(body)
        if hasattr(body, "close"):
            body.close()
        for callback in self.module.event_callbacks:
            assert callback("request_finished", request_data={}) is None
        return seen


@pytest.fixture
def apache(monkeypatch):
    server = Apache()
    monkeypatch.setitem(sys.modules, "mod_wsgi", server.module)
    before = set(sys.modules)
    yield server
    for name in {name for name in sys.modules if name.startswith("_mod_wsgi_")} - before:
        del sys.modules[name]


@pytest.mark.case("W30")
@pytest.mark.parametrize(("text", "name"), [(BARE, "/items"), (FLASK, "/items/<int:number>")], ids=["bare", "flask"])
def test_a_script_of_mod_wsgi(apache, traced_block, tmp_path, text, name):
    script = apache.load(_written(tmp_path, text))
    with traced_block() as trace:
        seen = [apache.request(script, "/items/1") for _ in range(3)]
        assert trace.names == [name] * 3
        assert trace.faults() == ({}, {"pending": 0, "fault": 0})
    assert seen == [(["200 OK"], b"True")] * 3
    assert apache.request(script, "/items/1") == (["200 OK"], b"True")
    assert trace.names == [name] * 3, "switched off"


@pytest.mark.case("W30")
def test_an_older_mod_wsgi_has_no_events(apache, traced_block, tmp_path):
    del apache.module.subscribe_events
    bare, flask = (apache.load(_written(tmp_path / kind, text)) for kind, text in (("a", BARE), ("b", FLASK)))
    with traced_block() as trace:
        for script in (bare, flask):
            assert apache.request(script, "/items/1") == (["200 OK"], b"True")
        assert trace.names == ["/items/<int:number>"]


def _written(folder, text):
    folder.mkdir(exist_ok=True)
    path = folder / "shop.wsgi"
    path.write_text(text)
    return path
