"""Celery: one span for each task that is sent, one for each that is run, in one trace. Never arguments, never results.

A worker process exits through ``os._exit`` without any finalizer, and sends a signal before that: the last calls are reported then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.calls import spanned
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.messages import MessageSpan, open_consume, open_publish, send_along
from stardust_auto.process import end
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.tracer import Tracer

#: Tasks that run in this process at a time. More are the sign that their end is not signalled.
_MOST_RUNNING = 1000


def _patch_app(module: ModuleType, patches: Patches) -> None:
    def begin(tracer: Tracer, parent: Any, _app: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MessageSpan:
        name = args[0] if args else kwargs["name"]
        return open_publish(tracer, parent, str(name), queue=kwargs.get("queue") or "default")

    patches.wrap(module.Celery, "send_task", spanned(patches, begin, lambda _span, _result: None))


def _patch_signals(module: ModuleType, patches: Patches) -> None:
    running: dict[str, tuple[MessageSpan, Token[Any]]] = {}

    def publishing(headers: Any = None, **_details: Any) -> None:
        send_along(patches, current_span.get(), headers)

    def begins(task_id: str = "", task: Any = None, **_details: Any) -> None:
        tracer = patches.tracer or patches.resume()
        parent = current_span.get()
        if tracer is None or task is None or parent is SUPPRESSED or len(running) >= _MOST_RUNNING:
            return
        request = task.request
        headers = getattr(request, "headers", None) or {}  # where custom headers are depends on Celery's version
        span = open_consume(
            tracer,
            parent,
            task.name,
            lambda name: headers.get(name) or getattr(request, name, None),
            retries=request.retries or 0,
        )
        running[task_id] = span, current_span.set(span)

    def fails(task_id: str = "", exception: Any = None, **_details: Any) -> None:
        if task_id in running and isinstance(exception, BaseException):
            running[task_id][0].set_error(exception)

    def ends(task_id: str = "", **_details: Any) -> None:
        span, token = running.pop(task_id, (None, None))
        if span is not None and token is not None:
            current_span.reset(token)
            span.end()

    def process_ends(**_details: Any) -> None:
        end.run()

    handlers: dict[str, Callable[..., None]] = {
        "before_task_publish": publishing,
        "task_prerun": begins,
        "task_failure": fails,
        "task_postrun": ends,
        "worker_process_shutdown": process_ends,
    }
    for name, handler in handlers.items():
        getattr(module, name).connect(_guarded(patches, handler), weak=False, dispatch_uid=f"{__name__}.{name}")


def _guarded(patches: Patches, handler: Callable[..., None]) -> Callable[..., None]:
    """Celery logs what a handler raises; a fault of ours is counted instead."""

    def guarded(**details: Any) -> None:
        try:
            handler(**details)
        except Exception as fault:  # noqa: BLE001 - the integration's own code; counted
            patches.fault(fault)

    return guarded


INTEGRATION = Integration(
    name="celery",
    targets={"celery.signals": _patch_signals, "celery.app.base": _patch_app},
    supports={"celery": (5, 2)},
)
