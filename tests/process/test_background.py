"""The worker, driven by hand with a clock that only the test moves."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from stardust_auto.process.background import Worker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ticker:
    def __init__(self, clock: Clock, *delays: float | None) -> None:
        self.name = "ticker"
        self.clock = clock
        self.delays = list(delays)
        self.times: list[float] = []

    def run(self) -> float | None:
        self.times.append(self.clock.now)
        return self.delays.pop(0) if self.delays else None

    def finish(self, deadline: float) -> None:
        return


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_tasks_run_when_due_in_order(clock: Clock) -> None:
    worker = Worker(clock)
    slow, quick = Ticker(clock, 10, 10), Ticker(clock, 3, 3, 3, 3)
    worker.add(slow)
    worker.add(quick, 1)
    for _ in range(20):
        left = worker.run_due()
        if left is None:
            break
        clock.now += left
    assert slow.times == [1000, 1010, 1020]
    assert quick.times == [1001, 1004, 1007, 1010, 1013]
    assert worker.run_due() is None  # both wait to be woken


def test_a_wake_up_makes_it_sooner_never_later(clock: Clock) -> None:
    worker = Worker(clock)
    task = Ticker(clock, 60, 60, 60)
    worker.add(task)
    worker.run_due()
    worker.schedule(task, 5, sooner=True)
    worker.schedule(task, 50, sooner=True)
    assert worker.run_due() == 5
    clock.now += 5
    assert worker.run_due() == 60
    assert task.times == [1000, 1005]
    clock.now += 60
    worker.run_due()
    assert task.times == [1000, 1005, 1065]  # the time that was planned first is not kept as well


def test_a_wake_up_during_the_run_is_not_lost(clock: Clock) -> None:
    worker = Worker(clock)

    class Waker(Ticker):
        def run(self) -> float | None:
            if not self.times:
                worker.schedule(self, 0.0, sooner=True)
            return super().run()

    task = Waker(clock, 60, 60)
    worker.add(task)
    worker.run_due()
    assert task.times == [1000, 1000]


def test_a_task_that_is_always_due_does_not_starve_the_others(clock: Clock) -> None:
    worker = Worker(clock)
    busy, other = Ticker(clock, *[0.0] * 100), Ticker(clock, 60)
    worker.add(busy)
    worker.add(other)
    assert worker.run_due() == 0
    assert other.times == [1000]
    assert len(busy.times) < 5


def test_a_task_at_fault_is_logged_once_and_tried_again(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(clock)

    class Broken(Ticker):
        def run(self) -> float | None:
            super().run()
            raise ValueError("no")

    task, other = Broken(clock), Ticker(clock, 1)
    worker.add(task)
    worker.add(other)
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        for _ in range(3):
            worker.run_due()
            clock.now += 60
    assert task.times == [1000, 1060, 1120]
    assert caplog.messages == ["ticker failed: ValueError: no"]


def test_removed_tasks_do_not_run(clock: Clock) -> None:
    worker = Worker(clock)
    task = Ticker(clock, 1, 1)
    worker.add(task)
    worker.remove(task)
    worker.schedule(task)
    assert worker.run_due() is None
    assert task.times == []


class Reader:
    name = "reader"

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got: list[bytes] = []
        self.arrived = threading.Event()

    def run(self) -> float | None:
        try:
            self.got.append(self.sock.recv(100))
            self.arrived.set()
        except BlockingIOError:
            return None
        return None

    def finish(self, deadline: float) -> None:
        return


def test_the_thread_wakes_for_sockets_and_ends_without_tasks() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    worker = Worker()
    task = Reader(ours)
    worker.add(task)
    worker.watch(task, ours)
    assert worker.start()
    assert worker.start()  # again does no harm
    theirs.send(b"hello")
    assert task.arrived.wait(5)
    assert task.got == [b"hello"]
    thread = worker._thread
    assert thread is not None
    assert thread.daemon
    worker.remove(task)
    assert thread.ended(30)
    assert not worker.running
    ours.close()
    theirs.close()


@pytest.mark.case("C66", "C67")
def test_without_threads_start_says_so(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """uWSGI without threads, or late in interpreter shutdown."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker = Worker(clock)
    assert worker.start() is False
    assert not worker.running
