"""Bringing in the integrations while another thread imports: neither waits for the other."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import builtins, sys, threading
from stardust_auto.agent import install as agent
from stardust_auto.activation import boot
from stardust_auto.environment.settings import AgentSettings

builtins.importing, builtins.installing = threading.Event(), threading.Event()

def instrument(settings):
    installing.set()
    import shared          # half imported by the main thread, as asyncio may be when wrapt asks for it

def work():
    assert importing.wait(10)
    import a_target

agent.instrument = instrument
sys.meta_path.insert(0, boot.TargetFinder(["a_target"], AgentSettings()))
worker = threading.Thread(target=work, daemon=True)
worker.start()
import shared
worker.join()
import a_target
left = [finder for finder in sys.meta_path if isinstance(finder, boot.TargetFinder)]
print(type(a_target.__spec__.loader).__name__, a_target.LOADER, len(left))
"""


def test_a_thread_that_imports_a_target_does_not_lock_out_one_that_imports_what_we_need(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(
        "importing.set()\nassert installing.wait(10)\nimport time\ntime.sleep(0.2)\nimport another\n"
    )
    (tmp_path / "another.py").write_text("")
    (tmp_path / "a_target.py").write_text("LOADER = type(__loader__).__name__\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout) == (0, "SourceFileLoader SourceFileLoader 0\n"), done.stderr
