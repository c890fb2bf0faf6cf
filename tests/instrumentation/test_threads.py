"""What a thread or a pool runs belongs to the span that was current when it was handed over, and to no other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import inspect
import multiprocessing.pool
import pickle
import subprocess
import sys
import threading
import types
import weakref
from typing import Any

import pytest

from stardust_auto import instrumentation
from stardust_auto.process.context import SUPPRESSED, current_span, suppressed
from stardust_auto.tracing.span import LINGER_NS, SpanContext


def run_in(target, *args):
    thread = threading.Thread(target=target, args=args)
    thread.start()
    thread.join()


def under(trace, name):
    """The names of the spans directly below the span ``name``."""
    parent = trace.named(name)
    return [span.name for span in trace.spans if span.parent_id == parent.id and span.trace_id == parent.trace_id]


def call(trace, name="inner"):
    with trace.tracer.new_span(name):
        return current_span.get()


def test_a_thread_goes_on_with_the_span_it_was_started_in(trace):
    with trace.tracer.new_span("outer"):
        run_in(call, trace)
    run_in(call, trace, "alone")
    assert under(trace, "outer") == ["inner"]
    assert trace.named("alone").parent_id == ""


def test_what_goes_along_is_an_immutable_reference(trace):
    seen = []
    with trace.tracer.new_span("outer") as span:
        run_in(lambda: seen.append(current_span.get()))
    assert type(seen[0]) is SpanContext
    assert (seen[0].trace_id, seen[0].span_id, seen[0].flag) == (span.trace_id, span.span_id, span.flag)
    with pytest.raises(AttributeError):
        seen[0].flag = 0


def test_a_subclass_keeps_its_run_and_its_start(trace):
    class Worker(threading.Thread):
        def run(self):
            call(trace)

        def start(self):
            super().start()

    with trace.tracer.new_span("outer"):
        worker = Worker()
        worker.start()
        worker.join()
    assert under(trace, "outer") == ["inner"]
    assert [name for name in vars(worker) if "stardust" in name] == []
    assert Worker.run is vars(Worker)["run"]


def test_an_error_in_a_thread_reaches_its_hook_as_before(same):
    def probe():
        seen: list[Any] = []

        def hook(args):
            seen.append((args.exc_type, len(inspect.getinnerframes(args.exc_traceback))))

        plain, threading.excepthook = (
            threading.excepthook,
            hook,
        )
        try:
            run_in(lambda: 1 / 0)
        finally:
            threading.excepthook = plain
        with pytest.raises(RuntimeError) as twice:
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
            thread.start()
        return seen, str(twice.value)

    same(probe)


def test_a_pool_gives_each_call_its_own_span_and_its_workers_none(trace):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with trace.tracer.new_span("first"):
            assert pool.submit(call, trace, "one").result() is not None
            assert list(pool.map(lambda _: call(trace, "mapped").name, [1])) == ["mapped"]
        assert pool.submit(current_span.get).result() is None  # nothing is left for whoever comes next
        with trace.tracer.new_span("second"):
            pool.submit(call, trace, "two").result()
        pool.submit(call, trace, "three").result()
    assert under(trace, "first") == ["one", "mapped"]
    assert under(trace, "second") == ["two"]
    assert trace.named("three").parent_id == ""


def test_a_pool_behaves_as_before(same):
    def probe():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = [pool.submit(divmod, 7, 2).result(), pool.submit(dict, fn=1, parent=2).result()]
            errors = []
            submit: Any = pool.submit
            tasks: list[Any] = [lambda: submit(), lambda: submit(int, "x").result(), lambda: submit(fn=int)]
            for task in tasks:
                try:
                    task()
                except Exception as error:
                    errors.append((type(error), str(error)))
            signature = str(inspect.signature(pool.submit))
        with pytest.raises(RuntimeError) as late:
            pool.submit(int)
        names = [concurrent.futures.ThreadPoolExecutor.submit.__qualname__, threading.Thread.start.__qualname__]
        same_object = pickle.loads(pickle.dumps(threading.Thread.start)) is threading.Thread.start
        return results, errors, signature, str(late.value), names, same_object

    same(probe)


def test_asyncio_carries_it_to_threads_and_back(trace):
    async def main():
        loop = asyncio.get_running_loop()
        with trace.tracer.new_span("outer"):
            await asyncio.to_thread(call, trace, "to_thread")
            await loop.run_in_executor(None, call, trace, "executor")
        return await loop.run_in_executor(None, current_span.get)

    assert asyncio.run(main()) is None
    assert under(trace, "outer") == ["to_thread", "executor"]


def test_a_worker_that_a_request_started_serves_others_later(trace):
    """A pool of the older kind makes its workers once: after a while they no longer belong to whoever made them."""
    clock = trace.tracer.now
    with trace.tracer.new_span("first"):
        pool = multiprocessing.pool.ThreadPool(1)
        pool.apply(call, (trace, "soon"))
    try:
        trace.tracer.now = lambda: clock() + 2 * LINGER_NS
        pool.apply(call, (trace, "later"))
    finally:
        pool.terminate()
        pool.join()
    assert under(trace, "first") == ["soon"]
    assert trace.named("later").parent_id == ""


def test_a_thread_of_a_request_that_is_not_sampled_joins_its_decision(traced_block):
    from stardust_auto.tracing.builder import TracePolicy

    with traced_block() as trace:
        tracer = trace.tracer
        tracer._operator = TracePolicy(max_samples=1, max_errors=10)
        tracer.max_samples = 1
        for number in range(3):
            span = tracer.begin("/work", None)
            token = current_span.set(span)
            run_in(lambda: tracer.record("db:thread", tracer.now(), current_span.get()))
            current_span.reset(token)
            span.finish("503" if number == 2 else None)
        failed = next(span for span in trace.spans if span.error)
        assert [span.name for span in trace.spans if span.trace_id == failed.trace_id] == ["/work", "db:thread"]
        assert len(trace.spans) == 4


def test_our_own_traffic_stays_out_of_sight_in_its_threads(trace):
    seen = []
    with suppressed():
        run_in(lambda: seen.append(current_span.get()))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(current_span.get).result())
    assert seen == [SUPPRESSED, SUPPRESSED]


def test_nothing_is_kept_of_a_thread_that_ended_or_never_started(trace):
    class Refused(threading.Thread):
        pass

    with trace.tracer.new_span("outer"):
        thread = Refused(target=int)
        thread.start()
        thread.join()
    gone = weakref.ref(thread)
    del thread
    gc.collect()
    assert gone() is None


def test_switched_off_by_name(traced_block):
    plain = threading.Thread.start
    with traced_block(integrations={"threads": False}) as trace:
        assert threading.Thread.start is plain
        with trace.tracer.new_span("outer"):
            run_in(call, trace)
        assert trace.named("inner").parent_id == ""


def test_disable_puts_the_originals_back(trace):
    wrapped: Any = threading.Thread.start
    assert instrumentation.disable("threads")
    try:
        assert threading.Thread.start is wrapped.__wrapped__
        assert concurrent.futures.ThreadPoolExecutor.submit.__code__.co_filename.endswith("thread.py")
    finally:
        instrumentation.enable("threads")


def test_a_context_that_is_handed_on_by_hand_works_as_always(same):
    def probe():
        variable = contextvars.ContextVar("variable", default=0)
        variable.set(5)
        context = contextvars.copy_context()
        seen = []
        run_in(context.run, lambda: seen.append(variable.get()))
        run_in(lambda: seen.append(variable.get()))
        return seen

    same(probe)


GEVENT = """
from gevent import monkey
monkey.patch_all()
import threading
from stardust_auto.environment.settings import AgentSettings
from stardust_auto.instrumentation.registry import registry
from stardust_auto.tracing.tracer import Tracer
tracer = Tracer(keep_totals=True)
registry.install(lambda: tracer, AgentSettings())
(state,) = [one for one in registry.states() if one.module == "threading"]
with tracer.new_span("outer") as outer:
    thread = threading.Thread(target=lambda: tracer.begin("inner").end())
    thread.start()
    thread.join()
inner = next(span for span in tracer.history() if span.name == "inner")
print(state.state, len(state.attributes), inner.parent_id == outer.id)
"""


def test_a_thread_goes_on_with_the_span_under_gevent():
    done = subprocess.run([sys.executable, "-c", GEVENT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["hooked", "2", "True"], done.stderr


def test_threads_that_cannot_be_followed_are_reported(trace):
    class Odd:
        pass

    from stardust_auto.instrumentation.threads import INTEGRATION

    with pytest.raises(AttributeError, match="_bootstrap_inner"):
        wrap: Any = INTEGRATION.targets["threading"]
        wrap(types.SimpleNamespace(Thread=Odd), None)
