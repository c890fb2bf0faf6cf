"""The working directory of a newcomer, with the commands that start an example in it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Place:
    """A working directory and the environment of a newcomer."""

    folder: Path
    environ: dict[str, str]

    def command(self, example: str, *words: str, traced: bool = True, summary: bool = False) -> list[str]:
        """The command line of an example."""
        launcher = [str(BIN / "stardust-auto"), "--local", *(["--summary"] if summary else [])] if traced else []
        return [*launcher, sys.executable, str(EXAMPLES / example), *words]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=90, check=False
        )

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run stardustctl in this folder, as in a second terminal."""
        return self.run(str(BIN / "stardustctl"), *words)

    def ctl_json(self, *words: str) -> Any:
        """The answer of stardustctl as JSON."""
        done = self.ctl(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """A program that runs until it is told to end."""
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.terminate()  # not SIGINT: a job in the background of a shell ignores it
                try:
                    process.communicate(timeout=20)
                finally:
                    process.kill()
