"""What redis-py has queued in a pipeline: under a name of its own in each client and version."""

from __future__ import annotations

from typing import Any


def queued(pipeline: Any) -> Any:
    """The queued commands of a pipeline, as redis-py keeps them; ``None`` if nothing would be sent."""
    stack = pipeline.command_stack
    return stack if stack or _sends_anyway(pipeline) else None


def queued_in_cluster(pipeline: Any) -> Any:
    """As :func:`queued`, for a cluster's pipeline: its strategy has them from redis-py 6 on, before that it has them itself."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    stack = None
    for owner, attribute in (
        (strategy, "command_queue"),
        (strategy, "_command_queue"),
        (pipeline, "command_stack"),
        (pipeline, "_command_stack"),
    ):
        stack = getattr(owner, attribute, None)
        if stack is not None:
            break
    return stack if stack or _sends_anyway(pipeline) else None


def _sends_anyway(pipeline: Any) -> bool:
    """Whether a pipeline with nothing queued goes to the server all the same: a transaction does after WATCH."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    if strategy is not None:
        return bool(getattr(strategy, "_watching", False) and getattr(strategy, "_pipeline_slots", None))
    if getattr(pipeline, "watching", False) is not True:
        return False
    # A name of asyncio's pipeline; what the other calls so is a method of a client.
    transaction = getattr(pipeline, "is_transaction", None) or vars(pipeline).get("transaction")
    return bool(transaction or getattr(pipeline, "explicit_transaction", False))
