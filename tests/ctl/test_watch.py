"""``config watch``: publications as they happen, without sleeping until they do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _kit.ctl import Result

from contextlib import contextmanager


@contextmanager
def watching(*words: str) -> Iterator[Iterator[dict[str, object]]]:
    """``config watch`` as a process of its own; yields its events."""
    command = [sys.executable, "-m", "stardust_auto.ctl", "config", "watch", *words, "--interval", "0.1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield map(json.loads, process.stdout)
        assert process.wait(timeout=30) == 0


def test_keys_that_change(shop: Callable[..., Result]) -> None:
    shop("config", "set", "a=1", "--publish")
    with watching("--changes", "1") as events:
        assert next(events)["outcome"] == "watching"
        shop("config", "set", "a=2", "password=planted", "--publish")
        event = next(events)
    assert event["outcome"] == "published"
    assert event["changes"] == {"a": {"old": "1", "new": "2"}, "password": {"old": None, "new": "***"}}


def test_versions_that_the_program_accepts_or_refuses(shop: Callable[..., Result], program: str) -> None:
    shop("config", "set", "discount=5", "--publish")
    with watching(program, "--changes", "3") as events:
        assert next(events)["outcome"] == "watching"
        shop("config", "set", "discount=20", "--publish")
        accepted = next(events)
        assert (accepted["outcome"], accepted["changes"]) == ("accepted", {"discount": {"old": "5", "new": "20"}})
        shop("config", "set", "discount=150", "--publish")
        refused = next(events)
        assert refused["outcome"] == "refused"
        assert "less than or equal to 90" in str(refused["reason"])
        shop("config", "rollback")
        assert next(events)["outcome"] == "accepted"
