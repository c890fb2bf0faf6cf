"""Signals belong to the threads of the program, as they would without ours."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import LAUNCHER, QUERIES, Run

if TYPE_CHECKING:
    from stardust_auto.server import EmbeddedServer


def traced(run: Run, server: EmbeddedServer, python: str, code: str) -> tuple[int, str, str]:
    command = [LAUNCHER, "--server", server.url, "--app", "signals", python, "-c", QUERIES + code]
    done = run(command, env={"STARDUST_PERIOD": "1"}, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.case("X15")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM, signal.SIGRTMIN])
def test_a_program_that_waits_for_a_signal_gets_it(run: Run, server: EmbeddedServer, python: str, number: int) -> None:
    program = f"""
import os, signal
queries("one"); online()
number = {int(number)}
signal.pthread_sigmask(signal.SIG_BLOCK, (number,))
for _ in range(20):
    os.kill(os.getpid(), number)
    print(signal.sigtimedwait((number,), 20).si_signo == number, end=" ")
"""
    assert traced(run, server, python, program) == (0, "True " * 20, "")


def test_a_handler_waits_as_long_as_the_program_blocks_its_signal(
    run: Run, server: EmbeddedServer, python: str
) -> None:
    program = """
import os, signal, time
queries("one"); online()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
print(heard)
signal.pthread_sigmask(signal.SIG_SETMASK, mask)
print(heard, mask)
"""
    assert traced(run, server, python, program) == (0, "[]\n[1] set()\n", "")


THREADS = """
import json, os, re, signal, threading
from multiprocessing import get_context
def masks(report):
    queries("one"); online()
    told = {}
    for thread in threading.enumerate():
        try:
            with open(f"/proc/self/task/{thread.native_id}/status") as file:
                told[thread.name] = int(re.search("SigBlk:\\\\s*(\\\\w+)", file.read())[1], 16)
        except (FileNotFoundError, ProcessLookupError):  # the one that has started the others has just ended
            continue
    report(told)
if __name__ == "__main__":
    context = get_context("fork")
    reader, writer = context.Pipe()
    child = context.Process(target=masks, args=(writer.send,), name="MainProcess")
    child.start()
    print(json.dumps(reader.recv()))
    child.join()
    from stardust_auto.server import EmbeddedServer
    EmbeddedServer().start()
    masks(lambda told: print(json.dumps(told)))
"""


@pytest.mark.case("X15")
def test_every_thread_of_ours_blocks_all_but_faults(run: Run, server: EmbeddedServer, python: str) -> None:
    code, out, err = traced(run, server, python, THREADS)
    assert (code, err) == (0, "")
    child, parent = map(json.loads, out.splitlines())
    assert {"stardust"} <= set(child)
    assert {"stardust", "stardust-server"} <= set(parent)
    faults = {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
    never = faults | {signal.SIGKILL, signal.SIGSTOP}
    for name, mask in [*child.items(), *parent.items()]:
        blocked = {number for number in signal.valid_signals() if mask >> number - 1 & 1}
        assert blocked == (set() if name == "MainThread" else signal.valid_signals() - never), name


@pytest.mark.case("X15")
def test_under_gevent_the_program_hears_all_signals(run: Run, server: EmbeddedServer, python: str) -> None:
    pytest.importorskip("gevent")
    program = """
from gevent import monkey; monkey.patch_all()
import gevent, signal
from stardust_auto import live
from stardust_auto.config import MemoryClient, StardustSettings
class Shop(StardustSettings): a: int = 0
client = MemoryClient({"a": 1})
handle = live(Shop, client=client)
seen = []
handle.on_change(lambda s: s.a, lambda old, new: (gevent.sleep(0.05), seen.append(new)))
handle.start()
client.publish({"a": 2})
assert handle.wait_callbacks(10)
queries("one"); online()
print(seen, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    assert traced(run, server, python, program) == (0, "[2] set()\n", "")
