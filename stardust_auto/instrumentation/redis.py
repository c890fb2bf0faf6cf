"""redis: one span for each command or pipeline that goes to the server; sync, asyncio, cluster.

Only command names are looked at, never keys and values. The wrappers are leaves: nothing runs below them, so no context is set.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.redis_names import describe, names_of
from stardust_auto.instrumentation.registry import Integration
from stardust_auto.tracing.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.patches import Patches

    Ended = Callable[[Any, tuple[Any, ...], Any, int, Any, Any, Any], None]


def _command_ended(patches: Patches) -> Ended:
    def ended(
        client: Any, args: tuple[Any, ...], _stack: Any, start: int, parent: Any, _result: Any, error: Any
    ) -> None:
        try:
            tracer = patches.tracer
            if tracer is not None:
                names = names_of(client)
                tracer.record(names.name(args), start, parent, describe, (names.address, (args,)), error)
        except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
            patches.fault(fault)

    return ended


def _pipeline_ended(patches: Patches) -> Ended:
    def ended(
        client: Any, _args: tuple[Any, ...], stack: Any, start: int, parent: Any, result: Any, error: Any
    ) -> None:
        try:
            tracer = patches.tracer
            if tracer is None:
                return
            names = names_of(client)
            failed = [item for item in result if isinstance(item, Exception)] if type(result) is list else ()
            conflict = type(error).__name__ == "WatchError"  # another client was quicker: the program tries again
            about = (names.address, stack, len(failed), conflict)
            error = None if conflict else error if error is not None or not failed else failed[0]
            tracer.record(names["PIPELINE"], start, parent, describe, about, error, len(stack))
        except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
            patches.fault(fault)

    return ended


def _stack_of(pipeline: Any) -> Any:
    """The queued commands: a list that the pipeline replaces, and does not empty, when it is done."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    return pipeline.command_stack if strategy is None else strategy.command_queue


def _no_stack(_client: Any) -> Any:
    return True


def _sync(patches: Patches, ended: Ended, stack_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    get_current: Callable[[], Any] = current_span.get

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            tracer = patches.tracer
            parent = get_current()
            if tracer is None or parent is SUPPRESSED or not (stack := stack_of(self)):
                return plain(self, *args, **kwargs)
            start = tracer.now()
            try:
                result = plain(self, *args, **kwargs)
            except BaseException as error:
                ended(self, args, stack, start, parent, None, error)
                raise
            ended(self, args, stack, start, parent, result, None)
            return result

        return call

    return make


def _async(patches: Patches, ended: Ended, stack_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    get_current: Callable[[], Any] = current_span.get

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        async def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            tracer = patches.tracer
            parent = get_current()
            if tracer is None or parent is SUPPRESSED or not (stack := stack_of(self)):
                return await plain(self, *args, **kwargs)
            start = tracer.now()
            try:
                result = await plain(self, *args, **kwargs)
            except BaseException as error:  # also asyncio.CancelledError: the span ends where the task does
                ended(self, args, stack, start, parent, None, error)
                raise
            ended(self, args, stack, start, parent, result, None)
            return result

        return call

    return make


def _patch(_module: ModuleType, patches: Patches) -> None:
    command, pipeline = _command_ended(patches), _pipeline_ended(patches)
    for prefix, make in (("redis", _sync), ("redis.asyncio", _async)):
        for module_name, client, pipe in (
            ("client", "Redis", "Pipeline"),
            ("cluster", "RedisCluster", "ClusterPipeline"),
        ):
            module = patches.module(f"{prefix}.{module_name}")
            client_class, pipe_class = getattr(module, client, None), getattr(module, pipe, None)
            if client_class is None or pipe_class is None:
                continue
            patches.wrap(client_class, "execute_command", make(patches, command, _no_stack))
            patches.wrap(pipe_class, "execute", make(patches, pipeline, _stack_of))
            if "immediate_execute_command" in vars(pipe_class):
                patches.wrap(pipe_class, "immediate_execute_command", make(patches, command, _no_stack))


INTEGRATION = Integration(name="redis", targets={"redis": _patch}, supports={"redis": (4, 2)})
