"""The clock of a test drives everything: heartbeat, back-off, reports and their age, shields, the memory of commands."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from _kit.faulty_server import FaultyServer, totals
from _kit.hand_clock import HandClock
from _kit.ports import reserved_port

from stardust_auto.environment.identity import Identity
from stardust_auto.export.collector import Collector
from stardust_auto.export.stardust import StardustExporter
from stardust_auto.process.background import Worker
from stardust_auto.session.session import Session
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from pathlib import Path


class Program:
    """A traced program with its session, driven by hand."""

    def __init__(self, port: int, folder: Path) -> None:
        self.clock = HandClock()
        self.worker = Worker(self.clock.monotonic)
        self.worker.start = lambda: False  # type: ignore[method-assign]  # run_due is called by hand
        identity = Identity(f"http://127.0.0.1:{port}", "demo", push=False, cache_dir=str(folder))
        self.session = Session(identity, worker=self.worker, clock=self.clock)
        self.tracer = Tracer(clock=self.clock)
        self.collector = Collector(self.tracer, self.worker, self.clock)
        self.exporter = StardustExporter(self.session, self.collector.apply, clock=self.clock)
        self.collector.add(self.exporter)
        self.collector.start()
        self.made = 0
        self.turns = 0

    def live(self, seconds: float, operations: int = 0) -> None:
        """Let time pass, with ``operations`` calls each minute."""
        end = self.clock.now + seconds
        minute = self.clock.now
        while self.clock.now < end:
            if self.clock.now >= minute:
                minute += 60
                self.made += operations
                for number in range(operations):
                    with self.tracer.new_span(f"op{number}"):
                        pass
            wait = self.worker.run_due()
            self.turns += 1
            self.clock.now += min(max(wait if wait is not None else 60.0, 0.01), 60.0)


def test_an_outage_of_six_hours_in_seconds(tmp_path: Path) -> None:
    port = reserved_port()
    program = Program(port, tmp_path)
    program.live(6 * 3600, operations=10)
    assert program.session.state == "lost"
    assert program.exporter.counts.queued == program.made == 3600
    assert program.turns < 6 * 600  # no busy loop
    with FaultyServer(port) as server:
        program.live(120)
        assert program.session.state == "online"
        assert sum(totals(server.calls).values()) == program.made
        assert (program.exporter.counts.reported, program.exporter.counts.dropped) == (program.made, {})
        healthy = len(server.calls)
        program.live(3600)
        assert len(server.calls) - healthy < 70  # a Ping a minute, nothing to report


def test_what_is_older_than_a_server_keeps_is_dropped_by_the_same_clock(tmp_path: Path) -> None:
    port = reserved_port()
    program = Program(port, tmp_path)
    program.live(120, operations=4)
    program.clock.now += 73 * 3600
    with FaultyServer(port) as server:
        server.clock_offset = 73 * 3600
        program.live(120, operations=1)
        assert program.exporter.counts.dropped == {"too_old": 8}
        assert sum(totals(server.calls).values()) == 2


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_broken_path_costs_a_handful_of_requests_an_hour_and_no_count(tmp_path: Path, status: int) -> None:
    port = reserved_port()
    with FaultyServer(port) as server:
        program = Program(port, tmp_path)
        server.answers["trace/reportraw"] = lambda handler: handler.reply_bytes(b"", status)
        program.live(3600, operations=3)
        assert program.session.state == "online"
        assert len(server.calls) < 60 + 3 * 130
        del server.answers["trace/reportraw"]
        program.live(120)
        assert program.exporter.counts.dropped == {}
        assert program.exporter.counts.reported == program.made
    assert threading.active_count() < 20
