"""Every exporter gets the same periods, and none depends on another, on a session or on a server."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from _kit.hand_clock import HandClock

from stardust_auto.export.collector import Collector, ExportCounts
from stardust_auto.process.background import Worker
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from stardust_auto.tracing.builder import SpanBuilder

#: An exporter that prints. It runs with the tracer, the collector and the worker alone.
ALONE = """
import sys
from stardust_auto.export.collector import Collector, ExportCounts
from stardust_auto.process.background import process_worker
from stardust_auto.tracing.tracer import Tracer

class Printer:
    name = "printer"
    def __init__(self): self.waiting, self.reported = [], 0
    @property
    def counts(self): return ExportCounts(self.reported, sum(b.total for b in self.waiting), {}, 0, 0)
    def start(self): process_worker().add(self)
    def stop(self): process_worker().remove(self)
    def take(self, builders): self.waiting += builders; process_worker().schedule(self)
    def run(self):
        for builder in self.waiting: print(builder.name, builder.total); self.reported += builder.total
        self.waiting = []
    def flush(self, deadline): self.run()
    def finish(self, deadline): self.run()

tracer = Tracer()
collector = Collector(tracer, process_worker())
collector.add(Printer())
collector.start()
for _ in range(3):
    with tracer.new_span("job"): pass
assert collector.flush(5), collector.counts
assert collector.stop(5)
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("stardust_auto.")}
print(sorted(rooms & {"session", "transport", "config"}), "socket" in sys.modules and "websockets" in sys.modules)
"""


def test_an_exporter_runs_without_server_session_and_login() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("job 3\n[] False\n", "")


class Keeper:
    """Keeps what it gets."""

    def __init__(self, name: str, fault: Exception | None = None) -> None:
        self.name = name
        self.fault = fault
        self.periods: list[Sequence[SpanBuilder]] = []

    @property
    def counts(self) -> ExportCounts:
        return ExportCounts(sum(len(period) for period in self.periods), 0, {}, 0, 0)

    def start(self) -> None:
        return

    def stop(self) -> None:
        return

    def take(self, builders: Sequence[SpanBuilder]) -> None:
        if self.fault is not None:
            raise self.fault
        self.periods.append(builders)

    def flush(self, deadline: float) -> None:
        return


def spans(tracer: Tracer, name: str, times: int) -> None:
    for _ in range(times):
        with tracer.new_span(name):
            continue


def test_all_exporters_get_the_same_frozen_periods_and_a_faulty_one_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, tracer = HandClock(), Tracer()
    collector = Collector(tracer, Worker(clock.monotonic), clock)
    exporters = [Keeper("one"), Keeper("faulty", RuntimeError("no")), Keeper("two")]
    for exporter in exporters:
        collector.add(exporter)
    assert collector.run() == 5
    for name in ("a", "b"):
        spans(tracer, name, 2)
        clock.now += 60
        collector.run()
    one, faulty, two = exporters
    assert [[builder.name for builder in period] for period in one.periods] == [["a"], ["b"]]
    assert one.periods[0] is two.periods[0]
    assert isinstance(one.periods[0], tuple)
    assert faulty.periods == []
    assert len(caplog.messages) == 1
    spans(tracer, "c", 1)
    assert not collector.flush(1.0)  # the faulty one has lost it
    assert len(two.periods) == 3


def test_a_flush_from_another_thread_runs_on_the_background_thread() -> None:
    tracer, worker = Tracer(), Worker()
    collector = Collector(tracer, worker)
    keeper = Keeper("one")
    threads: list[str] = []
    keeper.flush = lambda deadline: threads.append(threading.current_thread().name)  # type: ignore[method-assign]
    collector.add(keeper)
    spans(tracer, "a", 1)
    collector.start()
    assert collector.flush(5)
    assert threads == ["stardust"]
    assert collector.stop(5)
    assert len(keeper.periods) == 1
