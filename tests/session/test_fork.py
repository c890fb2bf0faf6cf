"""A forked child is another instance: own login, own thread, nothing of its parent's queue."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from _kit.faulty_server import FaultyServer, totals

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PROGRAM = """
import os, sys, threading, time
from stardust_auto.environment.identity import Identity
from stardust_auto.export.collector import Collector
from stardust_auto.export.stardust import StardustExporter
from stardust_auto.session.session import Session
from stardust_auto.tracing.builder import SpanBuilder

ready = []

class Source:
    period = 60
    def take(self):
        taken = ready[:]
        ready.clear()
        return taken
    def apply(self, policy): pass

def end():
    reporter.stop(1.0)
    session.stop(1.0)

def count(name, total):
    builder = SpanBuilder(name)
    builder.total = total
    ready.append(builder)

session = Session.acquire(Identity(sys.argv[1], "demo", push=True, cache_dir=sys.argv[2]))
source = Source()
reporter = Collector(source, session.worker)
exporter = StardustExporter(session, reporter.apply)
reporter.add(exporter)

def wait_online():
    deadline = time.monotonic() + 10
    while session.state != "online" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.state == "online", session.status

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(body: str, server: FaultyServer, tmp_path: Path) -> None:
    code = PROGRAM + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, server.url, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_child_reports_for_itself(server: FaultyServer, tmp_path: Path) -> None:
    run(
        """
        reporter.start()
        wait_online()
        parent_id = session.account.client_id
        count("parent", 5)
        exporter._keep(source.take())   # as while the server was away
        assert reporter.unsent == 5

        def work():
            assert session.state == "new" and reporter.unsent == 0
            assert [t.name for t in threading.enumerate()] == ["MainThread"]
            count("child", 3)
            reporter.start()
            wait_online()
            assert session.account.client_id != parent_id
            assert reporter.flush(5)
            assert session.stop(2)

        in_child(work)
        in_child(lambda: in_child(work))     # a double fork
        assert session.account.client_id == parent_id and session.state == "online"
        assert reporter.flush(5) and session.stop(2)
        """,
        server,
        tmp_path,
    )
    assert totals(server.calls) == {"parent": 5, "child": 6}
    assert server.count("app/login") == 3
    assert len({call.body["ClientId"] for call in server.of("app/login")}) == 3
    assert len(server.sockets) >= 1


@pytest.mark.case("X11")
def test_fork_while_the_thread_holds_the_locks(server: FaultyServer, tmp_path: Path) -> None:
    import threading

    hold = threading.Event()

    def held(handler: Any) -> None:
        hold.wait(20)
        handler.reply(1)

    server.answers["my/path"] = held
    run(
        """
        reporter.start()
        wait_online()
        stuck = threading.Thread(target=lambda: session.worker.run(lambda: session.call("my/path"), 1), daemon=True)
        stuck.start()
        time.sleep(0.3)                      # the background thread is inside the call, with the lock
        exporter._lock.acquire()

        def work():
            count("child", 1)
            reporter.start()
            wait_online()
            assert reporter.flush(5) and session.stop(2)

        in_child(work)
        """,
        server,
        tmp_path,
    )
    hold.set()
    assert totals(server.calls) == {"child": 1}


def test_fork_before_start_and_in_a_thread(server: FaultyServer, tmp_path: Path) -> None:
    run(
        """
        def work():
            count("child", 1)
            reporter.start()
            wait_online()
            assert reporter.flush(5) and session.stop(2)

        in_child(work)
        thread = threading.Thread(target=in_child, args=(work,))
        thread.start()
        thread.join()
        assert session.state == "new" and threading.active_count() == 1
        """,
        server,
        tmp_path,
    )
    assert totals(server.calls) == {"child": 2}


@pytest.mark.case("X16")
def test_nothing_keeps_the_interpreter_from_ending(server: FaultyServer, tmp_path: Path) -> None:
    """No stop() at all: a daemon thread in the middle of its work must not hang or print."""
    run("reporter.start(); wait_online()", server, tmp_path)
    run("reporter.start()", server, tmp_path)


@pytest.mark.case("X5")
def test_stop_at_exit(server: FaultyServer, tmp_path: Path) -> None:
    """As the agent does it: counted a moment before the end, with the thread and without."""
    run(
        """
        import atexit
        atexit.register(end)
        reporter.start()
        wait_online()
        count("late", 7)
        """,
        server,
        tmp_path,
    )
    assert totals(server.calls) == {"late": 7}
    assert server.count("app/logout") == 1


def test_a_short_program_reports_at_exit(server: FaultyServer, tmp_path: Path) -> None:
    """It ends before the first login is through: the login, the Ping and the report fit into the budget."""
    run(
        """
        import atexit
        atexit.register(end)
        count("short", 1)
        reporter.start()
        """,
        server,
        tmp_path,
    )
    assert totals(server.calls) == {"short": 1}


def test_a_chosen_client_id_is_not_shared_by_the_children(server: FaultyServer, tmp_path: Path) -> None:
    run(
        """
        session = Session(Identity(sys.argv[1], "demo", client_id="chosen", push=False, cache_dir=sys.argv[2]))
        assert session.account.client_id == "chosen"

        def work():
            assert session.account.client_id == f"chosen-{os.getpid()}"

        in_child(work)
        assert session.account.client_id == "chosen"
        """,
        server,
        tmp_path,
    )
