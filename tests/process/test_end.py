"""The end of a process: phases in order, one budget, each function once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from stardust_auto.process.end import EXIT_BUDGET_SECONDS, Phase, ProcessEnd


def test_phases_run_in_their_order_and_each_function_once() -> None:
    end = ProcessEnd()
    calls: list[Any] = []

    def note(name: str) -> object:
        return lambda seconds: calls.append((name, 0 < seconds <= EXIT_BUDGET_SECONDS))

    for phase in (Phase.CLOSE, Phase.LOG_OUT, Phase.FLUSH, Phase.STOP_TAKING):
        end.register(phase, note(phase.name))  # type: ignore[arg-type]  # a function of seconds
    end.run()
    end.run()
    assert calls == [("STOP_TAKING", True), ("FLUSH", True), ("LOG_OUT", True), ("CLOSE", True)]


def test_one_at_fault_keeps_nobody_from_ending() -> None:
    end = ProcessEnd()
    calls: list[Any] = []

    def faulty(_seconds: float) -> None:
        raise ValueError("no")

    end.register(Phase.FLUSH, faulty)
    end.register(Phase.LOG_OUT, calls.append)
    end.run()
    assert len(calls) == 1


def test_what_is_registered_after_the_end_ends_too() -> None:
    # a library that ends processes asked for it; the process goes on for a while
    end = ProcessEnd()
    calls: list[Any] = []
    end.run()
    end.register(Phase.FLUSH, calls.append)
    end.run()
    assert len(calls) == 1


def test_what_is_unregistered_does_not_run() -> None:
    end = ProcessEnd()
    calls: list[Any] = []
    end.register(Phase.FLUSH, calls.append)
    end.unregister(calls.append)
    end.run()
    assert calls == []


def test_a_forked_child_ends_what_it_registered_itself() -> None:
    code = (
        "import os, sys\nfrom stardust_auto.process import end\n"
        "end.register(end.Phase.FLUSH, lambda seconds: sys.stderr.write(f'{os.getpid() == parent}\\n'))\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "True\n")
    assert os.getpid()
