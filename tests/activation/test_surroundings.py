"""Where the agent lives beside others: a second launcher, gevent, sub-interpreters, ``os._exit``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import LAUNCHER, QUERIES, Run, counted

if TYPE_CHECKING:
    from stardust_auto.server import EmbeddedServer


@pytest.mark.case("L4", "L23")
def test_launchers_inside_each_other_count_each_call_once(run: Run, server: EmbeddedServer, python: str) -> None:
    code = QUERIES + "queries('one'); online()"
    done = run([LAUNCHER, "--server", server.url, "--app", "life", LAUNCHER, "--summary", "--", python, "-c", code])
    assert counted(server, "life") == {"db:one:Select": 5}
    assert done.stderr.count("slowest trace") == 1


GEVENT = "import gevent, gevent.monkey; gevent.monkey.patch_all()\n"


@pytest.mark.case("X18")
@pytest.mark.parametrize("first", ["queries('one')", "gevent.spawn(queries, 'one').join()"])
def test_gevent_that_patches_before_us(run: Run, server: EmbeddedServer, python: str, first: str) -> None:
    # also with the first call in a greenlet
    code = f"{GEVENT}{QUERIES}{first}; online()"
    done = run([LAUNCHER, "--server", server.url, "--app", "life", python, "-c", code])
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert counted(server, "life") == {"db:one:Select": 5}


@pytest.mark.case("X18")
def test_gevent_that_patches_after_us(run: Run, server: EmbeddedServer, python: str) -> None:
    # gevent itself says that it is too late then, since ssl is there; the program goes on and ends as ever
    code = f"{QUERIES}queries('one', 4); online()\n{GEVENT}queries('one', 1); import time; print(time.time())"
    done = run([LAUNCHER, "--server", server.url, "--app", "life", python, "-c", code])
    assert done.returncode == 0
    assert time.time() - float(done.stdout) < 1.0 + 0.7


@pytest.mark.case("X17")
def test_a_sub_interpreter_works_as_without_us(run: Run, launch: Run, python: str) -> None:
    # daemon threads are not allowed there
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    work = "import sqlite3; print(sqlite3.connect(':memory:').execute('select 1').fetchone(), flush=True)"
    code = f"import {module} as m\n{work}\nn = m.create()\nprint(m.run_string(n, {work!r}), flush=True)\nm.destroy(n)"
    # In a sub-interpreter requests warns, whoever imports it, that its compiled parts cannot be loaded.
    env = {"PYTHONWARNINGS": "ignore:Unable to find acceptable character detection"}
    plain, traced = run([python, "-c", code], env=env), launch([python, "-c", code], env=env)
    assert (traced.stdout, traced.stderr, traced.returncode) == (plain.stdout, plain.stderr, plain.returncode)


@pytest.mark.case("X8")
def test_os_exit_ends_at_once(run: Run, server: EmbeddedServer, python: str) -> None:
    # what was not reported yet is lost, and that is documented
    code = QUERIES + "import os; queries('one'); os._exit(7)"
    done = run([LAUNCHER, "--server", server.url, "--app", "life", python, "-c", code])
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 7)
    assert counted(server, "life") == {}
