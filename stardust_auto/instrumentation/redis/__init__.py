"""redis: one span for each command or pipeline that goes to the server; sync, asyncio, cluster.

Only command names are told, never keys and values.
With ``STARDUST_REDIS_KEYS=1`` the tag also names the key, up to its first digit or separator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.calls import leaf
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.redis.pipelines import queued, queued_in_cluster
from stardust_auto.instrumentation.redis.servers import BY_POOL, names_of

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.calls import Outcome, Wrap
    from stardust_auto.instrumentation.kit.patches import Patches

#: A cluster's pipeline sends what was redirected once more, one by one, through the client: those commands belong to it.
_CLUSTER = "redis cluster"


def _command(patches: Patches, kind: str) -> Wrap:
    known = BY_POOL

    def after(state: Any, _result: Any, error: BaseException | None) -> Outcome:
        client, args, _ = state
        try:
            # Budget: what names_of() and name() do for a server and a command that are known (0.2 us of 2).
            names = known[id(client.connection_pool)]
            name = names[args[0]]
        except Exception:  # noqa: BLE001 - a cluster, a new pool, or a call that redis-py refuses
            names, name = names_of(client), ""
        if type(name) is not str or not name:
            name = names.name(args)
        return name, names.describe, (name, args[:2]) if patches.settings.redis_keys else (name,), error, 0

    return leaf(patches, None, after, kind=kind)


def _pipeline(patches: Patches, kind: str) -> Wrap:
    stack_of = queued_in_cluster if kind else queued

    def before(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stack = stack_of(pipeline)
        if stack is None:
            return None
        tolerant = not args[0] if args else not kwargs.get("raise_on_error", True)
        return pipeline, stack, tolerant

    def after(state: Any, result: Any, error: BaseException | None) -> Outcome:
        pipeline, stack, tolerant = state
        names = names_of(pipeline)
        name, size = names["PIPELINE"], len(stack)
        failed = [item for item in result if isinstance(item, Exception)] if tolerant and result is not None else []
        if error is None and not failed:
            return name, names.pipeline, stack, None, size
        conflict = type(error).__name__ == "WatchError"  # another client was quicker; the program tries again
        about = names.pipeline.pick(stack, len(failed), conflict)
        return name, names.pipeline, about, None if conflict else error or failed[0], size

    return leaf(patches, before, after, kind=kind, covers=bool(kind))


def _patch(_module: ModuleType, patches: Patches) -> None:
    for prefix in ("redis", "redis.asyncio"):
        for module_name, client, pipe, kind in (
            ("client", "Redis", "Pipeline", ""),
            ("cluster", "RedisCluster", "ClusterPipeline", _CLUSTER),
        ):
            module = patches.module(f"{prefix}.{module_name}")
            client_class, pipe_class = getattr(module, client, None), getattr(module, pipe, None)
            if client_class is None or pipe_class is None:
                continue
            command = _command(patches, kind)
            patches.wrap(client_class, "execute_command", command)
            patches.wrap(pipe_class, "execute", _pipeline(patches, kind))
            # WATCH and what follows it before MULTI; in a cluster that is done by a part of the pipeline, from redis-py 6 on.
            for holder, method in (
                (pipe_class, "immediate_execute_command"),
                (getattr(module, "TransactionStrategy", None), "_immediate_execute_command"),
            ):
                if holder is not None and method in vars(holder):
                    patches.wrap(holder, method, command)


INTEGRATION = Integration(name="redis", targets={"redis": _patch}, supports={"redis": (4, 2)})
