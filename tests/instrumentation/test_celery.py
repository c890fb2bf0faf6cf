"""Celery with a real worker on a broker in memory: a task that is sent and run is two spans of one trace."""

from __future__ import annotations

import contextlib

import celery
import pytest
from celery.contrib.testing.worker import start_worker

from stardust_auto.process.context import current_span


def shop_app():
    app = celery.Celery("shop", broker="memory://", backend="cache+memory://")
    app.conf.worker_hijack_root_logger = False

    @app.task(name="shop.pack", shared=False)
    def pack(order):
        return order, type(current_span.get()).__name__

    @app.task(name="shop.boom", shared=False)
    def boom(secret):
        raise ZeroDivisionError("boom")

    @app.task(name="shop.again", bind=True, max_retries=1, shared=False)
    def again(self):
        if not self.request.retries:
            raise self.retry(countdown=0)
        return self.request.retries

    return app, pack, boom, again


@contextlib.contextmanager
def working(app):
    with start_worker(app, perform_ping_check=False, pool="solo", loglevel="critical"):
        yield


def messages(trace):
    return [span for span in trace.spans if span.name.startswith("mq:")]


def test_a_task_is_two_spans_of_one_trace(trace):
    app, pack, _, _ = shop_app()
    with working(app), trace.tracer.new_span("page") as page:
        assert pack.delay("secret").get(timeout=20) == ["secret", "MessageSpan"]
    add, consume = trace.named("mq:shop.pack:Add"), trace.named("mq:shop.pack:Consume")
    assert (add.trace_id, add.parent_id) == (page.trace_id, page.span_id)
    assert (consume.trace_id, consume.parent_id) == (page.trace_id, add.id)
    assert (add.tag, consume.tag) == ("Add shop.pack\r\nqueue: default", "Consume shop.pack\r\nretries: 0")


def test_an_error_and_a_retry(trace):
    app, _, boom, again = shop_app()
    with working(app):
        with pytest.raises(ZeroDivisionError):
            boom.delay("secret").get(timeout=20)
        assert again.delay().get(timeout=20) == 1
    assert trace.named("mq:shop.boom:Consume").error.startswith("ZeroDivisionError: boom")
    runs = [span for span in messages(trace) if span.name == "mq:shop.again:Consume"]
    assert [(span.tag.partition("\r\n")[2], span.error) for span in runs] == [("retries: 0", ""), ("retries: 1", "")]
    assert len({span.trace_id for span in messages(trace) if "again" in span.name}) == 1
    assert not any("secret" in span.tag + span.error for span in trace.spans)


def test_a_publish_that_fails_is_recorded_and_raised_as_it_is(trace):
    app, pack, _, _ = shop_app()
    app.conf.broker_url = "amqp://127.0.0.1:1//"
    with pytest.raises(Exception, match="refused") as caught:
        pack.apply_async(("x",), retry=False)
    assert trace.named("mq:shop.pack:Add").error.startswith(type(caught.value).__name__)


def test_without_propagation_and_when_off(traced_block):
    app, pack, _, _ = shop_app()
    with traced_block(propagate_to=("none",)) as trace, working(app):
        pack.delay(1).get(timeout=20)
    assert len({span.trace_id for span in messages(trace)}) == 2
    with traced_block(integrations={"celery": False}) as trace, working(app):
        pack.delay(1).get(timeout=20)
    assert messages(trace) == []
