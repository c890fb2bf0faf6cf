"""Whatever a task raises, and whatever the thread dies of, the background work goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from stardust_auto.process import background
from stardust_auto.process.background import Worker
from stardust_auto.process.clock import Clock


class Faulty:
    name = "faulty"

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.runs = 0

    def run(self) -> float | None:
        self.runs += 1
        raise self.error

    def finish(self, deadline: float) -> None:
        return


class Signal:
    """Sets an event whenever it runs."""

    name = "signal"

    def __init__(self) -> None:
        self.ran = threading.Event()

    def run(self) -> float | None:
        self.ran.set()
        return None

    def finish(self, deadline: float) -> None:
        return


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [SystemExit("restart"), KeyboardInterrupt(), asyncio.CancelledError(), Silent(), ValueError("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_task_may_raise_anything(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    faulty, other = Faulty(error), Signal()
    with caplog.at_level(logging.WARNING, "stardust_auto"):
        worker.add(faulty)
        assert worker.start()
        worker.add(other)
        assert other.ran.wait(20)
    assert faulty.runs == 1
    assert worker.running
    assert type(error).__name__ in (worker.status.last_fault or "")
    assert len(caplog.messages) == 1
    for task in (faulty, other):
        worker.remove(task)


def test_a_job_that_raises_is_false_and_the_thread_goes_on() -> None:
    worker = Worker()
    keep = Signal()
    worker.add(keep)
    worker.start()

    def leave() -> None:
        raise SystemExit(3)

    assert worker.run(leave, 20) is False
    assert worker.run(lambda: None, 20) is True
    worker.remove(keep)


@pytest.mark.parametrize("error", [SystemExit(), MemoryError(), ValueError("select")], ids=lambda e: type(e).__name__)
def test_a_thread_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(background, "Backoff", lambda *_, **__: _Now())
    worker = Worker()
    waits = worker._wait
    faults = [error]

    def wait(*arguments: object) -> None:
        if faults:
            raise faults.pop()
        waits(*arguments)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(worker, "_wait", wait)
    task = Signal()
    worker.add(task, 0.2)
    assert worker.start()
    assert task.ran.wait(20)
    status = worker.status
    assert (status.state, status.deaths) == ("running", 1)
    assert status.last_fault is not None
    assert status.last_fault.startswith(type(error).__name__)
    worker.remove(task)


class _Now:
    """A back-off without waiting."""

    def __init__(self) -> None:
        self.failures = 0

    def failed(self) -> float:
        self.failures += 1
        return 0.0

    def succeeded(self) -> None:
        self.failures = 0


def test_a_thread_that_the_system_refuses_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "Backoff", lambda *_, **__: _Now())
    refused = [RuntimeError("can't start new thread")]
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if refused:
            raise refused.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    worker = Worker()
    task = Signal()
    worker.add(task)
    assert worker.start() is False
    assert worker.state is background.State.IDLE
    assert worker.start() is True
    assert task.ran.wait(20)
    worker.remove(task)


def test_no_thread_is_asked_for_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(thread: threading.Thread) -> None:
        asked.append(thread)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker = Worker()
    assert [worker.start() for _ in range(1000)] == [False] * 1000
    assert len(asked) == 1


def test_the_state_follows_the_work() -> None:
    worker = Worker()
    assert worker.status == background.WorkerStatus("idle", (), 0, None)
    task = Signal()
    worker.add(task)
    worker.start()
    assert task.ran.wait(20)
    assert worker.state is background.State.RUNNING
    worker.pause_for_fork()
    assert (worker.state, worker.running) == (background.State.PAUSED, False)
    assert worker.start() is True  # when the fork is over
    assert not worker.running
    task.ran.clear()
    worker.schedule(task)
    worker.resume_after_fork()
    assert task.ran.wait(20)
    worker.end()
    worker.remove(task)
    deadline = Clock().monotonic() + 20
    while worker.running and Clock().monotonic() < deadline:
        time.sleep(0.01)
    assert worker.start() is False
