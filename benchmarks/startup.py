"""What activation adds to the start of Python: bare, switched off, not configured, configured; interleaved in one run.

    python benchmarks/startup.py [--rounds 40] [--json]

Each figure is the median over all rounds: wall clock and CPU of one process from start to exit, and the
differences to the bare process of the same round. ``launcher`` also counts ``stardust-auto`` itself, which runs before.
Exits with 1 if a budget of performance.md is broken: 2 ms switched off or not configured, 15 ms configured, 3 ms for
``import stardust_auto``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass

from stardust_auto.activation import marks

LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
SERVER = {"STARDUST_SERVER": "http://127.0.0.1:9", "STARDUST_APP_ID": "startup"}
SITE = {"PYTHONPATH": marks.SITE}
#: ``getrusage`` would count the memory of the process that starts ours.
LOOK = (
    "import sys; status = open('/proc/self/status').read();"
    "print(len(sys.modules), status.partition('VmHWM:')[2].split()[0])"
)
EMPTY = [sys.executable, "-c", "pass"]
LIBRARIES = [sys.executable, "-c", "import requests, sqlite3, redis, wsgiref.handlers"]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to start Python, what it is compared with, and the milliseconds that it may add."""

    name: str
    command: list[str]
    env: dict[str, str]
    base: str = ""
    budget: float | None = None


CASES = (
    Case("bare", EMPTY, {}),
    Case("not configured", EMPTY, SITE, "bare", 2.0),
    Case("switched off", EMPTY, {**SITE, **SERVER, "STARDUST_ENABLED": "0"}, "bare", 2.0),
    Case("configured", EMPTY, {**SITE, **SERVER}, "bare", 15.0),
    Case("launcher", [LAUNCHER, *EMPTY], SERVER, "bare"),
    Case("import stardust_auto", [sys.executable, "-c", "import stardust_auto"], {}, "bare", 3.0),
    Case("libraries, bare", LIBRARIES, {}),
    Case("libraries, configured", LIBRARIES, {**SITE, **SERVER}, "libraries, bare"),
)


def environment(extra: dict[str, str]) -> dict[str, str]:
    """A plain shell's variables and ``extra``; byte code is cached, as in any installed environment."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.upper().startswith(("PYTHON", "STARDUST", "STARSERVER"))
    }
    return {**kept, **extra}


def once(case: Case) -> tuple[float, float]:
    """Wall clock and CPU of one process in milliseconds."""
    start = time.perf_counter()
    pid = os.posix_spawn(
        case.command[0],
        case.command,
        environment(case.env),
        file_actions=[(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{case.name}: exit status {os.waitstatus_to_exitcode(status)}")
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def contents(case: Case) -> tuple[int, float]:
    """Modules that are loaded at the end of the program's first line, and the memory in MiB that the process needed until then."""
    command = [*case.command[:-1], f"{case.command[-1]}; {LOOK}"]
    done = subprocess.run(command, env=environment(case.env), check=True, capture_output=True, text=True)
    modules, kilobytes = done.stdout.split()
    return int(modules), int(kilobytes) / 1024


def main() -> int:
    """Measure and print; the exit code says whether every budget held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    walls: dict[str, list[float]] = {case.name: [] for case in CASES}
    cpus: dict[str, list[float]] = {case.name: [] for case in CASES}
    inside = {case.name: contents(case) for case in CASES}
    for case in CASES:
        once(case)  # writes byte code and warms the page cache
    for _ in range(options.rounds):
        for case in CASES:
            wall, cpu = once(case)
            walls[case.name].append(wall)
            cpus[case.name].append(cpu)
    rows = []
    for case in CASES:
        added = [a - b for a, b in zip(walls[case.name], walls[case.base], strict=True)] if case.base else []
        median = statistics.median(added) if added else 0.0
        rows.append(
            {
                "case": case.name,
                "wall_ms": round(statistics.median(walls[case.name]), 2),
                "cpu_ms": round(statistics.median(cpus[case.name]), 2),
                "added_ms": round(median, 2),
                "modules": inside[case.name][0],
                "rss_mib": round(inside[case.name][1], 1),
                "budget_ms": case.budget,
                "held": case.budget is None or median <= case.budget,
            }
        )
    if options.json:
        print(json.dumps({"python": sys.version.split()[0], "rounds": options.rounds, "cases": rows}, indent=1))
    else:
        print(f"Python {sys.version.split()[0]}, {options.rounds} rounds")
        print(f"{'':24}{'wall ms':>9}{'CPU ms':>9}{'added ms':>10}{'budget':>8}{'modules':>9}{'RSS MiB':>9}")
        for row in rows:
            budget = "" if row["budget_ms"] is None else f"{row['budget_ms']:.0f}{'' if row['held'] else ' !'}"
            print(
                f"{row['case']:24}{row['wall_ms']:9.2f}{row['cpu_ms']:9.2f}{row['added_ms']:10.2f}{budget:>8}{row['modules']:9}{row['rss_mib']:9.1f}"
            )
    return 0 if all(row["held"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
