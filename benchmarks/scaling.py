"""How the cost of tracing grows: with the number of names, with the number of threads, and with spans that nobody takes.

    python benchmarks/scaling.py [--json] [--spans 200000]

* **names**: CPU of one recorded call when 10 to 10,000 names take turns, and the memory of the aggregates. More than 1000 names in a
  period share one, so memory is bounded.
* **threads**: CPU of one recorded call, summed over 1 to 64 threads that record at once; how many found the lock taken and left their
  numbers in the queue; how many were dropped, which the tracer counts; and that made = recorded + dropped (exit code 1 otherwise).
* **backlog**: a process under ``stardust-auto`` makes 200,000 spans while the collector refuses connections: growth of its resident set
  over what it had after warming up, and the time from its last line to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tracemalloc

from stardust_auto.tracing.tracer import Tracer

CALLS = 200_000
LAUNCHER = os.path.join(sysconfig.get_path("scripts"), "stardust-auto")
BACKLOG = """
import resource, sqlite3, sys, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
connection = sqlite3.connect(":memory:")
def calls(count):
    execute = connection.execute
    for number in range(count):
        execute("SELECT ?", (number,)).fetchone()
calls(20_000)
time.sleep(8)  # the first report has been refused, and everything that is loaded late has been
before, start = resident(), time.thread_time()
most = 0.0
for _ in range(20):
    calls(int(sys.argv[1]) // 20)
    time.sleep(0.3)
    most = max(most, resident() - before)
print(before, most, (time.thread_time() - start) / int(sys.argv[1]) * 1e6, time.time())
"""


def names(count):
    """Nanoseconds of CPU for one call, and KiB of memory, with ``count`` names."""
    tracer = Tracer()
    texts = [f"db:shop:Select:table{number}" for number in range(count)]
    now, record = tracer.now, tracer.record
    best = None
    tracemalloc.start()
    for text in texts:
        record(text, now(), None)
    memory = tracemalloc.get_traced_memory()[0] / 1024
    tracemalloc.stop()
    for _ in range(5):
        start = time.thread_time_ns()
        for index in range(CALLS):
            record(texts[index % count], now(), None)
        spent = time.thread_time_ns() - start
        start = time.thread_time_ns()
        for index in range(CALLS):
            texts[index % count], now()
        spent -= time.thread_time_ns() - start
        best = spent if best is None else min(best, spent)
    return best / CALLS, memory


class Queue(type(Tracer()._pending)):
    """Counts how many calls found the lock taken."""

    met = 0

    def append(self, call):
        Queue.met += 1
        super().append(call)


def threads(count):
    """Nanoseconds of CPU for one call with ``count`` threads; calls that found the lock taken, that were dropped, and that are missing."""
    tracer = Tracer()
    Queue.met = 0
    tracer._pending = Queue()
    each = CALLS // count
    spent = [0] * count
    ready = threading.Barrier(count)

    def work(place):
        now, record = tracer.now, tracer.record
        ready.wait()
        start = time.thread_time_ns()
        for _ in range(each):
            record("db:shop:Select:item", now(), None)
        spent[place] = time.thread_time_ns() - start

    workers = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    counted = sum(builder.total for builder in tracer.take())
    dropped = sum(tracer.dropped.values())
    return sum(spent) / (each * count), Queue.met, dropped, each * count - counted - dropped


def backlog(spans):
    """Resident set before, its growth, CPU for a statement, seconds to the end; bare and under the agent."""
    rows = {}
    for kind in ("bare", "traced"):
        with tempfile.TemporaryDirectory() as folder:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("STARDUST")}
            environment |= {"STARDUST_CACHE_DIR": folder, "STARDUST_PERIOD": "1"}
            agent = [LAUNCHER, "--server", "http://127.0.0.1:9", "--app", "backlog"] if kind == "traced" else []
            done = subprocess.run(
                [*agent, sys.executable, "-c", BACKLOG, str(spans)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            ended = time.time()
            before, growth, cost, last = map(float, done.stdout.split())
            rows[kind] = (before, growth, cost, ended - last, len(done.stderr.splitlines()))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    by_names = {count: names(count) for count in (10, 100, 1000, 10_000)}
    by_threads = {count: threads(count) for count in (1, 2, 4, 8, 16, 32, 64)}
    rows = backlog(options.spans) if os.path.exists("/proc/self/statm") else {}
    if options.json:
        print(json.dumps({"names": by_names, "threads": by_threads, "backlog": rows}))
        return
    print(f"{'names':>8}{'ns a call':>12}{'KiB':>10}")
    for count, (cost, memory) in by_names.items():
        print(f"{count:8}{cost:12.0f}{memory:10.0f}")
    print(f"\n{'threads':>8}{'ns a call':>12}{'lock taken':>12}{'dropped':>9}{'missing':>9}")
    for count, (cost, met, dropped, missing) in by_threads.items():
        print(f"{count:8}{cost:12.0f}{met:12}{dropped:9}{missing:9}")
    print(
        f"\n{options.spans} spans, refused{'MiB before':>12}{'growth MiB':>12}{'us a call':>12}{'exit s':>8}{'stderr lines':>14}"
    )
    for kind, (before, growth, cost, end, lines) in rows.items():
        print(f"{kind:>21}{before:12.1f}{growth:12.2f}{cost:12.2f}{end:8.2f}{lines:14}")
    sys.exit(any(missing for *_, missing in by_threads.values()))


if __name__ == "__main__":
    main()
