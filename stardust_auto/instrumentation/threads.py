"""Threads and thread pools: what they run belongs to the span that was current when it was handed over.

The span goes along as an immutable reference to it. A pool's worker has it for one call and nothing between two; no thread inherits it from
the call that happened to start the worker. ``asyncio.to_thread`` and ``loop.run_in_executor`` come through here too. Nothing is attached to
a thread, its ``run`` is left alone, and while no span is current a call costs one look at the context.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.process.context import current_span
from stardust_auto.tracing.span import handoff_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches

_current: Any = current_span.get


def _under(parent: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = current_span.set(parent)
    try:
        return function(*args, **kwargs)
    finally:
        current_span.reset(token)


def _submit(patches: Patches, plain: Any) -> Any:
    @functools.wraps(plain)
    def submit(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        parent = _current()
        if parent is None or not args or (patches.tracer or patches.resume()) is None:
            return plain(self, *args, **kwargs)
        token = current_span.set(None)  # a worker that is started for this call also makes those of others
        try:
            return plain(self, _under, handoff_context(parent), *args, **kwargs)
        finally:
            current_span.reset(token)

    return submit


def _patch_threading(module: ModuleType, patches: Patches) -> None:
    # gevent: monkey-patching puts a subclass in the place of ``Thread``. ``_bootstrap_inner`` is what a new thread runs first.
    thread = next((cls for cls in module.Thread.__mro__ if {"start", "_bootstrap_inner"} <= vars(cls).keys()), None)
    if thread is None:
        raise AttributeError("threading.Thread has no _bootstrap_inner: what threads run begins traces of its own")
    handed_over: dict[int, Any] = {}

    def make_start(plain: Any) -> Any:
        @functools.wraps(plain)
        def start(self: Any) -> Any:
            parent = _current()
            if parent is None or (patches.tracer or patches.resume()) is None:
                return plain(self)
            key = id(self)
            handed_over[key] = handoff_context(parent)
            try:
                return plain(self)
            finally:
                handed_over.pop(key, None)  # start() returns when the thread runs; or it could not be started

        return start

    def make_first(plain: Any) -> Any:
        @functools.wraps(plain)
        def _bootstrap_inner(self: Any) -> Any:
            parent = handed_over.get(id(self)) if handed_over else None
            if parent is not None:
                current_span.set(parent)  # ends with the thread
            return plain(self)

        return _bootstrap_inner

    patches.wrap(thread, "start", make_start)
    patches.wrap(thread, "_bootstrap_inner", make_first)


def _patch_pool(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.ThreadPoolExecutor, "submit", functools.partial(_submit, patches))


INTEGRATION = Integration(
    name="threads",
    targets={"threading": _patch_threading, "concurrent.futures.thread": _patch_pool},
    supports={},
)
