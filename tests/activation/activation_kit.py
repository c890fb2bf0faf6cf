"""What the tests of this room share besides fixtures."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
#: Whether the agent is active, as a program can find out without importing anything.
PROBE = """
import sys
boot = sys.modules.get("stardust_auto.activation.boot")
print("active" if boot is not None and boot.active_settings() is not None else "absent")
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]
