"""The public test kit."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from stardust_auto import StardustClient
from stardust_auto.agent import current
from stardust_auto.instrumentation import states
from stardust_auto.testing import CountingClock, capture, memory_server

if TYPE_CHECKING:
    from pathlib import Path


def queries(count: int) -> None:
    connection = sqlite3.connect(":memory:")
    for _ in range(count):
        connection.execute("select 1").fetchall()
    connection.close()


def test_calls_are_counted_by_name_and_by_kind() -> None:
    with capture() as captured:
        queries(3)
        assert captured.calls("db") == 3
    assert captured.calls("db:memory:Select") == 3
    assert captured.calls("db:memory") == 3
    assert captured.calls("redis") == 0
    assert not captured.errors


def test_ids_and_times_are_the_same_in_every_run() -> None:
    def once() -> list[tuple[str, str, str, int, int]]:
        with capture() as captured:
            with captured.tracer.new_span("outer"):
                queries(2)
            return [(s.name, s.id, s.parent_id, s.start_time, s.duration_ns) for s in captured.spans]

    first = once()
    assert first == once()
    assert [name for name, *_ in first] == ["outer", "db:memory:Select", "db:memory:Select"]
    assert first[0][1] == "0000000000000001"
    assert {parent for _, _, parent, *_ in first[1:]} == {first[0][1]}


def test_tree_and_errors() -> None:
    with capture() as captured:
        tracer = captured.tracer
        with pytest.raises(sqlite3.OperationalError), tracer.new_span("outer"), tracer.new_span("inner"):
            sqlite3.connect(":memory:").execute("select nonsense")
    assert captured.tree() == "outer\n  inner\n    db:memory:Select"
    assert [sample.name for sample in captured.errors] == ["outer", "inner", "db:memory:Select"]
    assert captured.totals["ex:OperationalError"].total == 1


def test_an_integration_may_be_left_alone_and_names_excluded() -> None:
    with capture(sqlite3=False) as captured:
        queries(1)
    assert captured.spans == []
    with capture(excludes=["db:*"]) as captured:
        queries(1)
    assert captured.spans == []


def test_everything_is_put_back() -> None:
    before = sqlite3.connect
    with capture():
        assert sqlite3.connect is not before
    assert sqlite3.connect is before
    assert current() is None
    assert not [one for one in states() if one.state == "hooked"]


def test_captures_one_after_the_other_and_nested() -> None:
    with capture() as outer:
        queries(1)
        with capture() as inner:
            queries(2)
        queries(1)
    assert (outer.calls("db"), inner.calls("db")) == (2, 2)


def test_the_sdk_is_captured_too() -> None:
    with capture() as captured, StardustClient(app_id="", enable_config=False).new_span("job"):
        pass
    assert captured.names == ["job"]


def test_the_clock_can_be_moved() -> None:
    clock = CountingClock(step=0)
    start, wall = clock.monotonic_ns(), clock.wall_ns()
    clock.advance(1.5)
    assert (clock.monotonic_ns() - start, clock.wall_ns() - wall) == (1_500_000_000, 1_500_000_000)


def test_a_server_in_memory() -> None:
    with memory_server(period=2) as server, urllib.request.urlopen(server.url + "/console/") as reply:
        assert reply.status == 200


def test_fixtures_for_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sqlite3, urllib.request\n"
        "def test_one_query(stardust_capture):\n"
        "    sqlite3.connect(':memory:').execute('select 1')\n"
        "    assert stardust_capture.calls('db') == 1\n"
        "def test_server(stardust_server):\n"
        "    assert urllib.request.urlopen(stardust_server.url + '/console/').status == 200\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "stardust_auto.pytest_plugin", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1].startswith("2 passed"), done.stdout


def test_the_kit_does_without_pytest() -> None:
    code = (
        "import sys\nfrom stardust_auto.testing import capture\n"
        "with capture() as captured: pass\nprint(captured.names, 'pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[] False\n", "")
