"""Secrets planted in calls of the real libraries: none of them is in a sample (instrumentation review D5, D6)."""

from __future__ import annotations

import contextlib
import sqlite3
from wsgiref.util import setup_testing_defaults

import pytest
import redis
import requests

from stardust_auto.instrumentation.registry import registry
from stardust_auto.instrumentation.wsgi.application import traced_application

SECRET = "hunter2"


def sent(trace):
    return [text for span in trace.spans for text in (span.name, span.tag, span.error)]


@pytest.mark.parametrize(
    "statement",
    [
        'INSERT INTO t VALUES (NULL, "hunter2")',
        'SELECT * FROM t WHERE a = :param OR a = "hunter2"',
        'SELECT max(1, "hunter2")',
        'SELECT lower("hunter2") || "hunter2"',
        'SELECT "hunter2"',
        "SELECT 'hunter2' /* hunter2 */ -- hunter2",
        "PRAGMA key=hunter2",
        "PRAGMA rekey(hunter2)",
        "SELECT 'hunter2",
        "SELECT 1 FROM t WHERE 'x' 'hunter2'",
        "INSERT INTO missing VALUES ('hunter2')",
    ],
)
def test_sqlite3(trace, statement):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a, b)")
        with contextlib.suppress(sqlite3.Error):
            connection.execute(statement, {"param": SECRET} if ":param" in statement else ())
        with contextlib.suppress(sqlite3.Error):
            connection.executemany(statement, [{"param": SECRET}] * 2)
    assert len(trace.spans) > 2
    assert [text for text in sent(trace) if SECRET in text] == []


def test_redis_commands_and_pipelines_that_fail(trace, store):
    with redis.Redis(port=store) as client:
        client.set("key:hunter2", "hunter2")
        client.lpush("list", "hunter2")
        with contextlib.suppress(redis.ResponseError):
            client.hset("list", "hunter2", "hunter2")
        with contextlib.suppress(redis.ResponseError), client.pipeline() as pipeline:
            pipeline.hset("list", "hunter2", "a) of b hunter2")
            pipeline.execute()
        with contextlib.suppress(redis.ResponseError):
            client.execute_command("NO.SUCH", "hunter2", "hunter2")
    assert {"ex:ResponseError"} <= {span.name for span in trace.spans}
    assert [text for text in sent(trace) if SECRET in text] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a?v2&sig=hunter2",
        "http://127.0.0.1:9/a?$filter=hunter2",
        "http://127.0.0.1:9/a?hunter2",
        "http://127.0.0.1:9/a?a='hunter2')hunter2",
        "http://me:hunter2@127.0.0.1:9/a#hunter2",
        "http://127.0.0.1:9/a;jsessionid=hunter2",
    ],
)
def test_requests_that_fail(trace, web, url):
    for target in (url, url.replace("127.0.0.1:9", web.url.partition("//")[2])):
        with contextlib.suppress(requests.ConnectionError):
            requests.get(
                target, headers={"Authorization": "Bearer hunter2", "X": SECRET}, cookies={"c": SECRET}, timeout=5
            )
    assert len(trace.spans) > 1
    assert [text for text in sent(trace) if SECRET in text] == []


def test_requests_that_are_answered(trace):
    def app(environ, start_response):
        local = SECRET  # noqa: F841 - a variable of a frame
        raise ValueError(f"cannot log in: passphrase={SECRET}")

    environ = {"PATH_INFO": "/login", "QUERY_STRING": "token=hunter2&hunter2", "HTTP_COOKIE": "a=hunter2"}
    setup_testing_defaults(environ)
    with pytest.raises(ValueError, match="cannot log in"):
        traced_application(registry.patches("wsgi"), app)(environ, lambda *_: None)
    assert len(trace.spans) == 2
    assert [text for text in sent(trace) if SECRET in text] == []
