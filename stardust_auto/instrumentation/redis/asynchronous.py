"""The wrappers of ``redis.asyncio``: what those of ``redis.py`` do, awaited."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.redis.record import (
    IN_CLUSTER_PIPELINE,
    cluster_stack,
    current_in_cluster,
    record_command,
    record_pipeline,
    sends_anyway,
)
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from stardust_auto.instrumentation.kit.patches import Patches

_current: Any = current_span.get


def async_command(patches: Patches, plain: Any) -> Any:
    current = current_in_cluster if plain.__module__.endswith("cluster") else _current

    @functools.wraps(plain)
    async def execute_command(self: Any, /, *args: Any, **options: Any) -> Any:
        tracer = patches.tracer
        parent = current()
        if tracer is None or parent is SUPPRESSED:
            return await plain(self, *args, **options)
        start = tracer.now()
        try:
            result = await plain(self, *args, **options)
        except BaseException as error:  # also asyncio.CancelledError: the span ends where the task does
            record_command(patches, self, args, start, parent, error)
            raise
        record_command(patches, self, args, start, parent, None)
        return result

    return execute_command


def async_pipeline(patches: Patches, plain: Any) -> Any:
    in_cluster = plain.__module__.endswith("cluster")

    @functools.wraps(plain)
    async def execute(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        tracer = patches.tracer
        parent = _current()
        if (
            tracer is None
            or parent is SUPPRESSED
            or not ((stack := cluster_stack(self) if in_cluster else self.command_stack) or sends_anyway(self))
        ):
            return await plain(self, *args, **kwargs)
        start = tracer.now()
        token = IN_CLUSTER_PIPELINE.set(True) if in_cluster else None
        try:
            result = await plain(self, *args, **kwargs)
        except BaseException as error:
            record_pipeline(patches, self, stack, start, parent, None, error)
            raise
        finally:
            if token is not None:
                IN_CLUSTER_PIPELINE.reset(token)
        tolerant = not args[0] if args else not kwargs.get("raise_on_error", True)
        record_pipeline(patches, self, stack, start, parent, result if tolerant else None, None)
        return result

    return execute
