"""A finished Redis call handed to the tracer."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.redis.names import RedisCall
from stardust_auto.instrumentation.redis.servers import BY_POOL, names_of
from stardust_auto.process.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from stardust_auto.instrumentation.kit.patches import Patches

#: Set while a cluster's pipeline is on its way: it sends what was redirected once more, one by one, through the client.
IN_CLUSTER_PIPELINE: ContextVar[bool] = ContextVar("stardust_redis_pipeline", default=False)


def current_in_cluster() -> Any:
    """The current span for a command of a cluster's client: none is wanted for those that a pipeline sends again."""
    return SUPPRESSED if IN_CLUSTER_PIPELINE.get() else current_span.get()


def record_command(patches: Patches, client: Any, args: tuple[Any, ...], start: int, parent: Any, error: Any) -> None:
    """One command."""
    try:
        tracer = patches.tracer
        if tracer is not None:
            known = BY_POOL.get(id(getattr(client, "connection_pool", None)))
            names = known[1] if known is not None else names_of(client)
            name = names.name(args)
            tracer.record(name, start, parent, describe_command, (names.address, name), error)
    except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
        patches.fault(fault)


def record_pipeline(
    patches: Patches, client: Any, stack: Any, start: int, parent: Any, result: Any, error: Any
) -> None:
    try:
        tracer = patches.tracer
        if tracer is None:
            return
        known = BY_POOL.get(id(getattr(client, "connection_pool", None)))
        names = known[1] if known is not None else names_of(client)
        if result is None and error is None:
            tracer.record(names["PIPELINE"], start, parent, names.pipeline, stack, None, len(stack))
            return
        failed = [item for item in result if isinstance(item, Exception)] if result is not None else ()
        conflict = type(error).__name__ == "WatchError"  # another client was quicker: the program tries again
        about = names.pipeline.pick(stack, len(failed), conflict)
        error = None if conflict else error or (failed[0] if failed else None)
        tracer.record(names["PIPELINE"], start, parent, names.pipeline, about, error, len(stack))
    except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
        patches.fault(fault)


def cluster_stack(pipeline: Any) -> Any:
    """The queued commands of a cluster's pipeline: kept by its strategy from redis-py 6 on, before by itself under two names."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    for owner, attribute in (
        (strategy, "command_queue"),
        (strategy, "_command_queue"),
        (pipeline, "command_stack"),
        (pipeline, "_command_stack"),
    ):
        stack = getattr(owner, attribute, None)
        if stack is not None:
            return stack
    return None


def sends_anyway(pipeline: Any) -> bool:
    """Whether a pipeline with nothing queued goes to the server all the same: a transaction does after WATCH."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    if strategy is not None:
        return bool(getattr(strategy, "_watching", False) and getattr(strategy, "_pipeline_slots", None))
    if getattr(pipeline, "watching", False) is not True:
        return False
    # A name of asyncio's pipeline; what the other calls so is a method of a client.
    transaction = getattr(pipeline, "is_transaction", None) or vars(pipeline).get("transaction")
    return bool(transaction or getattr(pipeline, "explicit_transaction", False))


def describe_command(address: str, name: str) -> str:
    """The tag of one command: its name holds all that may be told of it."""
    return RedisCall(address, (name.rpartition(":")[2],)).tag()
