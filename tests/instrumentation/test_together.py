"""Libraries on top of the traced ones, in processes of their own: the same output plain and traced, and the spans that are due."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from stardust_auto.instrumentation.registry import registry
from stardust_auto.instrumentation.wsgi.application import under_spans

PRELUDE = """
import atexit, json, sys
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.instrumentation.registry import registry
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.tracing.tracer import Tracer
tracer = Tracer(TracePolicy(max_samples=1000, max_errors=1000), keep_totals=True)
registry.install(lambda: tracer, AgentSettings())
def tell():
    faults = [state.integration for state in registry.states() if state.faults]
    print(json.dumps([[one.name for one in tracer.history()], faults, tracer.dropped]), file=sys.stderr)
atexit.register(tell)
"""


def run(code, *args):
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def both(code, *args, first=""):
    """The names of the spans of ``code``; its output must be the same plain and traced. ``first``: what comes before the agent."""
    code = textwrap.dedent(code)
    plain, quiet = run(first + code, *args)
    traced, told = run(first + PRELUDE + code, *args)
    assert traced == plain
    assert plain
    names, faults, dropped = json.loads(told.splitlines()[-1])
    assert told.splitlines()[:-1] == quiet.splitlines()
    assert (faults, dropped) == ([], {"pending": 0, "fault": 0})
    return names


@pytest.mark.case("R25")
def test_requests_in_greenlets(web):  # sockets of gevent, one context for each greenlet
    names = both(
        """
        import sys, gevent, requests
        from stardust_auto.process.context import current_span
        def get(number):
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"{sys.argv[1]}/items/{number}").text, current_span.get()
        jobs = [gevent.spawn(get, number) for number in range(5)]
        print([job.get() for job in jobs], current_span.get())
        """,
        web.url,
        first="from gevent import monkey; monkey.patch_all()\n",
    )
    assert names == [f"{web.url}/items"] * 5
    assert len({header for header in web.headers("traceparent") if header}) == 5


@pytest.mark.case("S31")
def test_djangos_database_layer():
    names = both(
        """
        import django
        from django.conf import settings
        settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, INSTALLED_APPS=[])
        django.setup()
        from django.db import connection, models, transaction
        class Item(models.Model):
            name = models.CharField(max_length=20)
            class Meta:
                app_label = "shop"
        with connection.schema_editor() as editor:
            editor.create_model(Item)
        with transaction.atomic():
            Item.objects.create(name="one")
            Item.objects.bulk_create([Item(name="two"), Item(name="three")])
        try:
            with transaction.atomic():
                Item.objects.create(name="four")
                raise KeyError
        except KeyError:
            pass
        print(list(Item.objects.order_by("id").values_list("name", flat=True)), Item.objects.filter(name__regex="^t").count())
        try:
            connection.cursor().execute("SELECT nothing FROM nowhere")
        except Exception as error:
            print(type(error), error, type(error.__cause__))
        """
    )
    assert names.count("db:memory:Select:shop_item") == 2
    assert names.count("db:memory:Insert:shop_item") == 3
    assert "db:memory:Select:nowhere" in names


@pytest.mark.case("S31")
def test_threads_of_a_pool_with_a_connection_each(tmp_path):
    names = both(
        """
        import os, sqlite3, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        local = threading.local()
        def work(number):
            if not hasattr(local, "connection"):
                local.connection = sqlite3.connect(sys.argv[1], timeout=30)
            with local.connection:
                local.connection.execute("CREATE TABLE IF NOT EXISTS item (id INTEGER)")
                local.connection.execute("INSERT INTO item VALUES (?)", (number,))
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, range(20)))
        print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*), sum(id) FROM item").fetchall())
        os.remove(sys.argv[1])
        """,
        str(tmp_path / "shop.db"),
    )
    assert names.count("db:shop.db:Insert:item") >= 20
    assert names[-1] == "db:shop.db:Select:item"


@pytest.mark.case("D26")
def test_a_cache_on_top_of_redis(store):  # django's own; one command for each call, nothing twice
    names = both(
        """
        import sys
        from django.conf import settings
        settings.configure()
        from django.core.cache.backends.redis import RedisCache
        cache = RedisCache(f"redis://127.0.0.1:{sys.argv[1]}/0", {})
        cache.clear()
        cache.set_many({"a": 1, "b": 2})
        print(cache.get_many(["a", "b", "c"]), cache.get("a"), cache.incr("a"), cache.delete("b"), cache.get("b", "gone"))
        """,
        str(store),
    )
    commands = [name.rpartition(":")[2] for name in names]
    assert commands == ["FLUSHDB", "PIPELINE", "MGET", "GET", "EXISTS", "INCRBY", "DEL", "GET"]


@pytest.mark.case("W14")
def test_the_validator_on_both_sides_finds_nothing(trace):
    def lists(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"a", b"b"]

    def pieces(environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"w")
        yield b"a"
        yield b"b"

    def fails(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"oops"]

    for app in (lists, pieces, fails):
        environ = {"PATH_INFO": f"/{app.__name__}", "SCRIPT_NAME": "", "QUERY_STRING": ""}
        setup_testing_defaults(environ)
        written: list[bytes] = []
        outside = validator(under_spans(registry.patches("wsgi"), validator(app)))
        body: Any = outside(environ, lambda status, headers, exc_info=None, write=written.append: write)
        try:
            written.extend(body)
        finally:
            body.close()
        assert written
    assert trace.names == ["/lists", "/pieces", "/fails"]
    assert trace.named("/fails").error == "Http Error 500 Oops"
