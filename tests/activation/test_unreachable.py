"""The process and a server that is away, comes back, or is only there by IPv6."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import requests
from _kit.activation_kit import LAUNCHER, QUERIES, Run, counted, until
from _kit.ports import reserved_port

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.case("X5")
@pytest.mark.parametrize("away", ["refusing", "hanging"])
@pytest.mark.parametrize("wait", [0, 1.5])
def test_exit_with_a_server_that_is_away(
    request: pytest.FixtureRequest, run: Run, python: str, away: str, wait: float
) -> None:
    # the same output and exit code, and at most a second from the program's end to that of its process
    url = request.getfixturevalue(away)
    code = (
        QUERIES + f"import time, sys; queries('one'); time.sleep({wait}); print('out'); print(time.time()); sys.exit(3)"
    )
    before = run([python, "-c", code])
    after = run([LAUNCHER, "--server", url, python, "-c", code])
    ended = time.time()
    (out, at), (plain, _) = after.stdout.split(), before.stdout.split()
    assert (out, after.stderr, after.returncode) == (plain, before.stderr, before.returncode) == ("out", "", 3)
    assert ended - float(at) < 1.0 + 0.7  # a loaded machine is in it


@pytest.mark.case("X2")
def test_counts_arrive_when_the_server_is_back(clean: dict[str, str], python: str, tmp_path: Path) -> None:
    """Down at the start, there, killed in the middle, back again."""
    port = reserved_port()
    code = (
        QUERIES
        + "import sys, logging; logging.basicConfig(format='%(name)s %(message)s', stream=sys.stderr, level='INFO')\n"
        "for line in sys.stdin:\n    queries(line.strip()); print('did', line.strip(), flush=True)"
    )
    child = subprocess.Popen(
        [LAUNCHER, "--server", f"http://127.0.0.1:{port}", "--app", "life", python, "-c", code],
        env={**clean, "STARDUST_PERIOD": "1"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def work(name: str) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(name + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == f"did {name}\n"

    def total(name: str) -> int:
        reply = requests.get(
            f"http://127.0.0.1:{port}/console/api/apps/life/operations",
            headers={"Authorization": f"Bearer {running.key}"},
            timeout=10,
        )
        rows = reply.json() if reply.ok else []
        return sum(row["total"] for row in rows if row["name"] == f"db:{name}:Select")

    work("down")
    assert child.stderr is not None
    lines = [child.stderr.readline()]
    data = tmp_path / "data"
    with EmbeddedServer(data, port=port, period=1) as running:
        until(lambda: total("down") == 5, 40)
        work("up")
        until(lambda: total("up") == 5, 40)
        lines.append(child.stderr.readline())
    lines.append(child.stderr.readline())  # it has noticed, whatever is in between
    work("away")
    with EmbeddedServer(data, port=port, period=1) as running:
        until(lambda: total("away") == 5, 60)
        child.stdin.close()
        lines += child.stderr.readlines()
        assert child.wait(10) == 0
        assert [total(name) for name in ("down", "up", "away")] == [5, 5, 5]
    # One line for each change of state: away, there, away, there.
    assert len(lines) == 4, lines
    assert all(line.startswith("stardust_auto.") for line in lines)


@pytest.mark.case("X5")
@pytest.mark.parametrize("away", ["refusing", "hanging"])
def test_what_the_end_takes_with_it_is_said_to_those_who_log(
    request: pytest.FixtureRequest, run: Run, python: str, away: str
) -> None:
    # lost, and not in silence
    url = request.getfixturevalue(away)
    code = "import logging; logging.basicConfig(format='%(message)s', level='WARNING'); queries('one')"
    done = run([LAUNCHER, "--server", url, "--app", "life", python, "-c", QUERIES + code])
    lines = [line for line in done.stderr.splitlines() if "the process ends" in line]
    assert lines == ["the process ends with 5 calls that are not reported"]
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.case("R30")
def test_the_random_numbers_of_the_program_stay(run: Run, refusing: str, python: str) -> None:
    # also while we wait for a random time
    code = (
        "import random, threading; random.seed(7); queries('one'); from stardust_auto.agent import current\n"
        "pause = threading.Event(); agent = current()\n"
        "while agent and agent.session.state != 'lost': pause.wait(0.01)\n"
        "print(random.random())"
    )
    plain = run([python, "-c", QUERIES + code])
    traced = run([LAUNCHER, "--server", refusing, "--app", "life", python, "-c", QUERIES + code])
    assert (traced.stdout, traced.stderr) == (plain.stdout, plain.stderr)


def test_nothing_is_said_when_all_has_arrived(run: Run, server: EmbeddedServer, python: str) -> None:
    code = "import logging; logging.basicConfig(level='WARNING'); queries('one'); online()"
    done = run([LAUNCHER, "--server", server.url, "--app", "life", python, "-c", QUERIES + code])
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert counted(server, "life") == {"db:one:Select": 5}


@pytest.mark.case("X22")
def test_a_server_that_is_there_by_ipv6_only(run: Run, python: str) -> None:
    # login, push and reports
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with EmbeddedServer(host="::1", period=1) as server:
        assert server.url.startswith("http://[::1]:")
        code = (
            "queries('one'); online(); from stardust_auto.agent import current; import time\n"
            "deadline = time.monotonic() + 30\n"
            "while not current().session.status.push and time.monotonic() < deadline: time.sleep(0.01)\n"
            "print(current().session.status.push)"
        )
        done = run([LAUNCHER, "--server", server.url, "--app", "life", python, "-c", QUERIES + code])
        assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
        assert counted(server, "life") == {"db:one:Select": 5}
