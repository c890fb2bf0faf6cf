"""redis: one span for each command or pipeline that goes to the server; sync, asyncio, cluster.

Only command names are looked at, never keys and values. The wrappers are leaves: nothing of the program runs below them, so no context is
set. What happens on the way of every command stands in one function: each further one would cost a tenth of what the whole may cost.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.redis.asynchronous import async_command, async_pipeline
from stardust_auto.instrumentation.redis.record import (
    IN_CLUSTER_PIPELINE,
    cluster_stack,
    current_in_cluster,
    describe_command,
    record_command,
    record_pipeline,
    sends_anyway,
)
from stardust_auto.instrumentation.redis.servers import BY_POOL
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.patches import Patches

_current: Any = current_span.get


def _command(patches: Patches, plain: Any) -> Any:
    current = current_in_cluster if plain.__module__.endswith("cluster") else _current

    @functools.wraps(plain)
    def execute_command(self: Any, /, *args: Any, **options: Any) -> Any:
        tracer = patches.tracer
        parent = current()
        if tracer is None or parent is SUPPRESSED:
            return plain(self, *args, **options)
        start = tracer.now()
        try:
            result = plain(self, *args, **options)
        except BaseException as error:
            record_command(patches, self, args, start, parent, error)
            raise
        try:
            # What record_command() does for a server and a command that are known, without the further calls.
            names: Any = BY_POOL[id(self.connection_pool)][1]
            name = names[args[0]]
        except Exception:  # noqa: BLE001 - whatever it is, the long way knows what to do
            names = name = None
        if names is not None and type(name) is str:
            tracer.record(name, start, parent, describe_command, (names.address, name))
        else:
            record_command(patches, self, args, start, parent, None)
        return result

    return execute_command


def _pipeline(patches: Patches, plain: Any) -> Any:
    in_cluster = plain.__module__.endswith("cluster")

    @functools.wraps(plain)
    def execute(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        tracer = patches.tracer
        parent = _current()
        if (
            tracer is None
            or parent is SUPPRESSED
            or not ((stack := cluster_stack(self) if in_cluster else self.command_stack) or sends_anyway(self))
        ):
            return plain(self, *args, **kwargs)
        start = tracer.now()
        token = IN_CLUSTER_PIPELINE.set(True) if in_cluster else None
        try:
            result = plain(self, *args, **kwargs)
        except BaseException as error:
            record_pipeline(patches, self, stack, start, parent, None, error)
            raise
        finally:
            if token is not None:
                IN_CLUSTER_PIPELINE.reset(token)
        if not args and not kwargs and (known := BY_POOL.get(id(getattr(self, "connection_pool", None)))) is not None:
            # What record_pipeline() does for a server that is known, without the further call.
            names = known[1]
            tracer.record(names["PIPELINE"], start, parent, names.pipeline, stack, None, len(stack))
            return result
        tolerant = not args[0] if args else not kwargs.get("raise_on_error", True)
        record_pipeline(patches, self, stack, start, parent, result if tolerant else None, None)
        return result

    return execute


def _patch(_module: ModuleType, patches: Patches) -> None:
    for prefix, command, pipeline in (
        ("redis", _command, _pipeline),
        ("redis.asyncio", async_command, async_pipeline),
    ):
        for module_name, client, pipe in (
            ("client", "Redis", "Pipeline"),
            ("cluster", "RedisCluster", "ClusterPipeline"),
        ):
            module = patches.module(f"{prefix}.{module_name}")
            client_class, pipe_class = getattr(module, client, None), getattr(module, pipe, None)
            if client_class is None or pipe_class is None:
                continue
            patches.wrap(client_class, "execute_command", functools.partial(command, patches))
            patches.wrap(pipe_class, "execute", functools.partial(pipeline, patches))
            # WATCH and what follows it before MULTI; in a cluster that is done by a part of the pipeline, from redis-py 6 on.
            for holder, method in (
                (pipe_class, "immediate_execute_command"),
                (getattr(module, "TransactionStrategy", None), "_immediate_execute_command"),
            ):
                if holder is not None and method in vars(holder):
                    patches.wrap(holder, method, functools.partial(command, patches))


INTEGRATION = Integration(name="redis", targets={"redis": _patch}, supports={"redis": (4, 2)})
