"""A finished Redis call handed to the tracer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.redis_names import BY_POOL, command_word, names_of
from stardust_auto.tracing.records import RedisCall

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stardust_auto.instrumentation.patches import Patches


def record_command(patches: Patches, client: Any, args: tuple[Any, ...], start: int, parent: Any, error: Any) -> None:
    """One command."""
    try:
        tracer = patches.tracer
        if tracer is not None:
            known = BY_POOL.get(id(getattr(client, "connection_pool", None)))
            names = known[1] if known is not None else names_of(client)
            tracer.record(names.name(args), start, parent, describe_command, (names.address, args), error)
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
            tracer.record(names["PIPELINE"], start, parent, describe, (names.address, stack), None, len(stack))
            return
        failed = [item for item in result if isinstance(item, Exception)] if result is not None else ()
        conflict = type(error).__name__ == "WatchError"  # another client was quicker: the program tries again
        about = (names.address, stack, len(failed), conflict)
        error = None if conflict else error or (failed[0] if failed else None)
        tracer.record(names["PIPELINE"], start, parent, describe, about, error, len(stack))
    except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
        patches.fault(fault)


def cluster_stack(pipeline: Any) -> Any:
    """The queued commands of a cluster's pipeline (from redis-py 6 on they are kept by its strategy)."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    return pipeline.command_stack if strategy is None else strategy.command_queue


def describe_command(address: str, args: tuple[Any, ...]) -> str:
    """The tag of one command."""
    return describe(address, (args,))


def describe(address: str, commands: Iterable[Any], failed: int = 0, conflict: bool = False) -> str:
    """The tag of a call: address and command names; ``commands`` are argument tuples, or a pipeline's entries."""
    words = []
    for entry in commands:
        args = getattr(entry, "args", None) or entry
        if args and isinstance(args[0], (tuple, list)):
            args = args[0]
        words.append(command_word(tuple(args)))
    text = RedisCall(address, tuple(words), failed).tag()
    return f"{text}\r\nconflict" if conflict else text
