"""A subinterpreter gets no thread of the agent: a daemon thread makes its end a fatal error of the whole process."""

from __future__ import annotations

import subprocess
import sys

TASK = """
import sys
sys.path[:] = {path}
from stardust_auto.process.background import process_worker

class Task:
    name = "task"
    def run(self): return 0.1
    def finish(self, deadline): pass

worker = process_worker()
worker.add(Task())
assert (worker.start(), worker.running) == ({running}, {running})
"""
PROGRAM = """
try:
    import _interpreters as interpreters
    other = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    other = interpreters.create(isolated=False)
assert not interpreters.run_string(other, {inner!r})
interpreters.destroy(other)
{outer}
print("end")
"""


def test_a_subinterpreter_gets_no_thread_and_the_main_one_does() -> None:
    inner, outer = TASK.format(path=sys.path, running=False), TASK.format(path=sys.path, running=True)
    program = PROGRAM.format(inner=inner, outer=outer)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
