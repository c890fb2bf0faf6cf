"""Event loops of the program: whether one runs here, and how to wait without blocking it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


def loop_is_running() -> bool:
    """Whether an asyncio loop runs in this thread. A program that never imported asyncio has none."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except (RuntimeError, AttributeError):  # AttributeError: another thread is just importing asyncio
        return False


async def in_thread(function: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """Run ``function`` in a thread of the loop's executor, so that it does not block the loop."""
    import asyncio  # 30 ms, which a program without coroutines does not need

    return await asyncio.to_thread(function, *args, **named)
