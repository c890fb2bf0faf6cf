"""What our thread costs in the background: CPU of a process under ``stardust-auto`` that its main thread did not use.

    python benchmarks/background.py [--json] [--seconds 10]

The server asks for a report and a heartbeat every second, so that a short run sees many; with the platform's own 60 s an hour has 60 of
each. Rows: nothing to report any more (a heartbeat and an empty period), then spans of 1, 50 and 500 names. The difference of a row to the
first is what reporting costs, by the span and by the report. Loading our parts and logging in is measured before and stands by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile

from stardust_auto.server import EmbeddedServer

LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
HEARTBEATS_OF_AN_HOUR = 60
PROGRAM = """
import sqlite3, sys, time
names, seconds = int(sys.argv[1]), float(sys.argv[2])
others = lambda: time.process_time() - time.thread_time()
connection = sqlite3.connect(":memory:")
for number in range(max(names, 1)):
    connection.execute(f"create table t{number} (x)")
texts = [f"select x from t{number}" for number in range(names)]
time.sleep(8)  # loaded, logged in, first report sent
loaded, calls, start = others(), 0, time.monotonic()
while time.monotonic() < start + seconds:
    for text in texts:
        for _ in range(2000 // names):
            connection.execute(text)
            calls += 1
    time.sleep(0.05)
print(loaded, others() - loaded, calls, time.monotonic() - start)
"""


def measure(server, names, seconds):
    """Seconds of CPU to load and log in, milliseconds a period afterwards, spans in a period."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STARDUST")}
        environment["STARDUST_CACHE_DIR"] = folder
        command = [LAUNCHER, "--server", server.url, "--app", f"background{names}", sys.executable, "-c", PROGRAM]
        done = subprocess.run(
            [*command, str(names), str(seconds)], env=environment, capture_output=True, text=True, check=True
        )
    loaded, used, calls, lasted = map(float, done.stdout.split())
    return loaded, used / lasted * 1000, calls / lasted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with EmbeddedServer(period=1) as server:
        rows = {names: measure(server, names, options.seconds) for names in (0, 1, 50, 500)}
    if options.json:
        print(json.dumps(rows))
        return
    idle = rows[0][1]
    print(f"nothing to report: {idle:.2f} ms a heartbeat, {idle * HEARTBEATS_OF_AN_HOUR / 1000:.2f} s an hour")
    print(f"{'names':>6}{'load s':>8}{'ms a period':>13}{'spans a period':>16}{'us a span':>11}{'ms a report':>13}")
    for names, (loaded, cost, spans) in rows.items():
        each = (cost - idle) * 1000 / spans if spans else 0.0
        print(f"{names:6}{loaded:8.3f}{cost:13.2f}{spans:16.0f}{each:11.3f}{cost - idle:13.2f}")


if __name__ == "__main__":
    main()
