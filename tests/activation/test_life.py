"""How processes begin and end: fork, exit, SIGTERM, multiprocessing, and a server that is away."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import LAUNCHER, QUERIES, Run, counted

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

Counts = Callable[[], "dict[str, int]"]


@pytest.fixture
def traced(run: Run, server: EmbeddedServer, python: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program under the launcher, reporting to the embedded server."""

    def run_code(
        code: str, *, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        return run(
            [LAUNCHER, "--server", server.url, "--app", "life", python, "-c", QUERIES + code],
            env={"STARDUST_PERIOD": "1", **(env or {})},
            **options,
        )

    return run_code


@pytest.fixture
def counts(server: EmbeddedServer) -> Counts:
    """What the server has counted, by operation."""

    return lambda: counted(server, "life")


def test_the_last_calls_arrive_at_exit(traced: Run, counts: Counts) -> None:
    done = traced("queries('one'); online(); print('out')")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "", 0)
    assert counts() == {"db:one:Select": 5}


@pytest.mark.case("X7")
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(3)", 3),
        ("raise SystemExit('text')", 1),
        ("raise ValueError('x')", 1),
        ("raise KeyboardInterrupt", -2),
    ],
)
def test_every_way_to_exit(traced: Run, counts: Counts, run: Run, python: str, ending: str, code: int) -> None:
    program = f"import sys; queries('one'); online(); {ending}"
    plain = run([python, "-c", QUERIES + program])
    done = traced(program)
    assert (done.stdout, done.stderr, done.returncode) == (plain.stdout, plain.stderr, plain.returncode)
    assert done.returncode == code
    assert counts() == {"db:one:Select": 5}


@pytest.mark.case("X16")
def test_calls_of_the_programs_own_atexit_functions_arrive(traced: Run, counts: Counts) -> None:
    traced("import atexit; atexit.register(queries, 'late'); queries('one'); online()")
    assert counts() == {"db:one:Select": 5, "db:late:Select": 5}


@pytest.mark.case("X13")
def test_no_thread_and_no_socket_before_the_first_record(traced: Run) -> None:
    # not in a master that only loads the libraries
    done = traced(
        "import os, threading, json, time, requests, redis, wsgiref.simple_server\n"
        "def threads(): return [threading.active_count(), len(os.listdir('/proc/self/task'))]\n"
        # while there is one thread, nothing opens or closes a file between the list and the look
        "names = ['/proc/self/fd/' + number for number in os.listdir('/proc/self/fd')]\n"
        "sockets = sum(os.readlink(name).startswith('socket:') for name in names if os.path.islink(name))\n"
        "before = [*threads(), sockets]\n"
        "queries('one')\n"
        "deadline = time.monotonic() + 10\n"
        "online()\n"
        "while (after := threads()) != [2, 2] and time.monotonic() < deadline: pass\n"
        "print(json.dumps([before, after]))"
    )
    assert (done.stderr, json.loads(done.stdout)) == ("", [[1, 1, 0], [2, 2]])


def test_a_program_that_waits_for_every_thread_ends(traced: Run) -> None:
    done = traced(
        "import threading\n"
        "queries('one'); online()\n"
        "for thread in threading.enumerate():\n"
        "    if thread is not threading.current_thread(): thread.join()\n"
        "print('ended')"
    )
    assert done.stdout == "ended\n"


@pytest.mark.case("X6")
def test_sigterm_keeps_the_last_calls_and_the_exit_status(
    clean: dict[str, str], server: EmbeddedServer, counts: Counts, python: str, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [
            LAUNCHER,
            "--server",
            server.url,
            "--app",
            "life",
            python,
            "-uc",
            QUERIES + "queries('one'); online(); print('ready'); __import__('time').sleep(60)",
        ],
        env=clean,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.terminate()
    child.communicate(timeout=10)
    assert child.returncode == -signal.SIGTERM
    assert counts() == {"db:one:Select": 5}


@pytest.mark.case("X6")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sigterm_handler_of_the_program_stays_its_own(traced: Run, counts: Counts, when: str) -> None:
    mine = "signal.signal(signal.SIGTERM, lambda *_: (print('mine'), sys.exit(5)))"
    steps = {"before": f"{mine}; queries('one'); online()", "after": f"queries('one'); online(); {mine}"}[when]
    done = traced(f"import os, signal, sys; {steps}; os.kill(os.getpid(), signal.SIGTERM)")
    assert (done.stdout, done.returncode) == ("mine\n", 5)
    assert counts() == {"db:one:Select": 5}


@pytest.mark.case("X6")
def test_an_ignored_sigterm_stays_ignored(traced: Run) -> None:
    done = traced(
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); queries('one'); os.kill(os.getpid(), 15);"
        "print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)"
    )
    assert (done.stdout, done.returncode) == ("True\n", 0)


@pytest.mark.case("X6")
def test_the_first_process_of_a_container_goes_on_and_has_reported(
    run: Run, server: EmbeddedServer, counts: Counts, python: str
) -> None:
    # the system keeps SIGTERM from a process 1 without a handler; what comes some seconds later is SIGKILL
    container = ["unshare", "--fork", "--pid", "--kill-child"]
    try:
        if run([*container, "true"]).returncode:
            pytest.skip("no namespaces may be made here")
    except FileNotFoundError:
        pytest.skip("unshare is missing")
    code = (
        "import os, signal, sys, time\n"
        "queries('one'); online(); os.kill(1, signal.SIGTERM); queries('two'); print(os.getpid())\n"
        "if len(sys.argv) > 1: os.kill(1, signal.SIGTERM); time.sleep(3); os._exit(9)"
    )
    launch = [*container, LAUNCHER, "--server", server.url, "--app", "life", python, "-c", QUERIES + code]
    done = run(launch)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)
    assert counts() == {"db:one:Select": 5, "db:two:Select": 5}
    assert run([*launch, "killed"], env={"STARDUST_PERIOD": "60"}).returncode == 9
    assert counts() == {"db:one:Select": 10, "db:two:Select": 10}


@pytest.mark.case("X7")
def test_sigint_is_untouched(traced: Run, run: Run, python: str) -> None:
    # whatever it is that the shell has set
    show = "import signal; print(signal.getsignal(signal.SIGINT))"
    assert traced(f"queries('one'); {show}").stdout == run([python, "-c", show]).stdout != ""


def test_a_first_call_in_another_thread_installs_no_handler_and_no_harm(traced: Run, counts: Counts) -> None:
    done = traced(
        "import threading; t = threading.Thread(target=queries, args=('one',)); t.start(); t.join(); online()"
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert counts() == {"db:one:Select": 5}


@pytest.mark.case("X10")
def test_a_forked_child_reports_its_own_calls_only(traced: Run, counts: Counts) -> None:
    # nothing is sent twice, the child is an instance of its own
    done = traced(
        "import os, sys\nqueries('parent')\npid = os.fork()\n"
        "if pid == 0:\n    queries('child'); online(); sys.exit(4)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); queries('parent', 1); online()"
    )
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
    assert counts() == {"db:parent:Select": 6, "db:child:Select": 5}


@pytest.mark.case("X10")
def test_a_forked_child_closes_what_it_inherits_and_its_parent_goes_on(traced: Run, counts: Counts) -> None:
    # no connection is shared, none is shut down, and no ResourceWarning tells of it
    done = traced(
        "import os, sys, time, warnings; warnings.simplefilter('always'); queries('parent'); online()\n"
        # Python 3.12 warns of threads at a fork. Ours ends before it, unless it is in the middle of a call.
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "from stardust_auto.agent import current; session = current().session\n"
        "deadline = time.monotonic() + 30\n"
        "while not session.status.push and time.monotonic() < deadline: time.sleep(0.01)\n"
        "def sockets():\n"
        "    links = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')]\n"
        "    return sum(os.readlink(link).startswith('socket:') for link in links if os.path.islink(link))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    print(sockets(), flush=True); queries('child'); online(); sys.exit()\n"
        "os.waitpid(pid, 0); queries('parent', 1); time.sleep(0.2); print(session.status.push, session.status.last_error)"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\nTrue None\n", "", 0)
    assert counts() == {"db:parent:Select": 6, "db:child:Select": 5}


@pytest.mark.case("X11")
def test_fork_right_after_the_first_call(traced: Run, counts: Counts) -> None:
    # the background thread is in the middle of its imports, which the child needs too
    done = traced(
        "import os, sys\nqueries('parent')\npid = os.fork()\n"
        "if pid == 0:\n    import requests, logging, websockets.client, psutil; queries('child'); online(); sys.exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); queries('parent', 1); online()",
        timeout=20,
    )
    assert done.stdout == "0\n"
    assert counts() == {"db:parent:Select": 6, "db:child:Select": 5}


@pytest.mark.case("X6", "X10")
def test_a_forked_child_is_ended_by_sigterm_as_without_us(traced: Run, run: Run, python: str) -> None:
    # however soon it comes; the child has recorded nothing, and has no handler of ours
    code = (
        "import multiprocessing, os, signal, time\n"
        "def ended(pid):\n"
        "    deadline = time.monotonic() + 20\n"
        "    while not (status := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline: time.sleep(0.001)\n"
        "    if not status[0]: os.kill(pid, signal.SIGKILL); status = os.waitpid(pid, 0)\n"
        "    return status[1]\n"
        "queries('one')\n"
        "statuses = []\n"
        "for _ in range(20):\n"
        "    if (pid := os.fork()) == 0: time.sleep(60); os._exit(0)\n"
        "    os.kill(pid, signal.SIGTERM); statuses.append(ended(pid))\n"
        "for _ in range(20):\n"
        "    process = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "    process.start(); process.terminate(); process.join(20); statuses.append(-(process.exitcode or 0)); process.kill()\n"
        "if (pid := os.fork()) == 0:\n"
        "    os._exit(signal.getsignal(signal.SIGTERM) != signal.SIG_DFL or signal.SIGTERM in signal.pthread_sigmask(0, ()))\n"
        "print(set(statuses), ended(pid), signal.pthread_sigmask(0, ()))"
    )
    plain = run([python, "-c", QUERIES + code], timeout=60)
    done = traced(code, timeout=60)
    assert (done.stdout, done.returncode) == (plain.stdout, 0) == ("{15} 0 set()\n", 0)


@pytest.mark.case("X9")
def test_a_main_thread_that_has_not_heard_a_signal_is_told_again(run: Run, python: str) -> None:
    # Pool.terminate() comes when workers begin to wait, and a handler is not called any more
    code = (
        "import os, signal, threading\n"
        "from stardust_auto.process.sigterm import SigtermHandler\n"
        "waiting = threading.Lock(); waiting.acquire()\n"
        "class Handler(SigtermHandler):\n"
        "    def _terminated(self, number, frame): signal.signal(number, signal.SIG_IGN); print('heard'); waiting.release()\n"
        "from stardust_auto.process.background import process_worker\n"
        "handler = Handler(print); handler.chain(); handler.watch(); process_worker().start()\n"
        "os.write(handler._watch._writer, bytes([signal.SIGTERM]))\n"  # all that Python does at such a moment
        "print(waiting.acquire(timeout=20))"
    )
    done = run([python, "-c", code])
    assert (done.stdout, done.stderr) == ("heard\nTrue\n", "")


@pytest.mark.case("X9")
def test_pools_of_workers_that_record_end_at_once(traced: Run) -> None:
    # 1 of 150 hung before such a worker was told again
    done = traced(
        "import multiprocessing\n"
        "def work(number): queries('work', 1)\n"
        "queries('one')\n"
        "for _ in range(25):\n"
        "    with multiprocessing.get_context('fork').Pool(4) as pool: pool.map(work, range(20), chunksize=1)\n"
        "print('ended')",
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("ended\n", 0)


@pytest.mark.case("X11")
def test_fork_in_the_middle_of_our_imports(traced: Run, counts: Counts) -> None:
    # A child that inherits half an import would wait for the other half. On Python 3.13 CPython still warns of the thread here.
    done = traced(
        "import os, sys, threading, time, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "begun = threading.Event()\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'stardust_auto.export.stardust': begun.set(); time.sleep(0.7)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "queries('parent'); begun.wait(20)\n"
        "if (pid := os.fork()) == 0: queries('child'); online(); sys.exit(0)\n"
        "print(os.waitpid(pid, 0)[1]); queries('parent', 1); online()"
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert counts() == {"db:parent:Select": 6, "db:child:Select": 5}


@pytest.mark.case("X11", "X12")
def test_fork_in_a_thread_while_others_record_and_fork_again(traced: Run, counts: Counts) -> None:
    done = traced(
        "import os, sys, threading\nfrom stardust_auto.agent import get_tracer\n"
        "stop = threading.Event()\n"
        "def record(name):\n    with get_tracer().new_span(name): pass\n"
        "def noise():\n    while not stop.is_set(): record('noise')\n"
        "threads = [threading.Thread(target=noise) for _ in range(3)]\n"
        "[t.start() for t in threads]\n"
        "def child(depth):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        record('child'); online()\n"
        "        if depth: child(depth - 1)\n"
        "        import atexit; atexit._run_exitfuncs(); os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "def forks():\n    for _ in range(5): child(1)\n"
        "t = threading.Thread(target=forks); t.start(); t.join(); stop.set(); [t.join() for t in threads]; print('done')",
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert counts()["child"] == 10


MULTIPROCESSING = """
import multiprocessing, sys
from work import job
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=job, args=("child",)) for _ in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
    print([child.exitcode for child in children])
    with context.Pool(2) as pool:
        print(pool.map(job, ["pool"] * 6))
        pool.close()
        pool.join()
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        print(list(executor.map(job, ["executor"] * 6)))
"""


@pytest.mark.case("L17", "X9")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(
    run: Run, server: EmbeddedServer, counts: Counts, python: str, tmp_path: Path, method: str
) -> None:
    (tmp_path / "work.py").write_text(QUERIES + "def job(name):\n    queries(name)\n    online()\n    return 1\n")
    (tmp_path / "app.py").write_text(MULTIPROCESSING)
    done = run([LAUNCHER, "--server", server.url, "--app", "life", python, "app.py", method])
    assert (done.stdout, done.stderr) == ("[0, 0]\n" + "[1, 1, 1, 1, 1, 1]\n" * 2, "")
    assert counts() == {"db:child:Select": 10, "db:pool:Select": 30, "db:executor:Select": 30}


@pytest.mark.case("X6", "X9")
def test_a_process_pool_that_is_terminated_keeps_its_calls(traced: Run, counts: Counts) -> None:
    # leaving `with Pool()` sends SIGTERM to the workers
    done = traced(
        "import multiprocessing\ndef job(name): queries(name); online()\nif __name__ == '__main__':\n"
        "    with multiprocessing.get_context('fork').Pool(2) as pool: pool.map(job, ['pool'] * 4)\n"
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert counts() == {"db:pool:Select": 20}


@pytest.mark.case("L19", "X13")
def test_python_does_not_warn_of_a_fork_that_is_its_only_thread(traced: Run, counts: Counts) -> None:
    # since 3.12 a fork with threads is a DeprecationWarning
    done = traced(
        "import os, warnings; warnings.simplefilter('error', DeprecationWarning)\nqueries('one'); online()\n"
        "for _ in range(3):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "queries('one')"
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert counts() == {"db:one:Select": 10}


@pytest.mark.case("X12")
def test_subprocess_with_posix_spawn_and_vfork(traced: Run, counts: Counts) -> None:
    done = traced(
        "import os, subprocess, sys; queries('one'); online()\n"
        "pid = os.posix_spawn('/bin/true', ['true'], os.environ); print(os.waitpid(pid, 0)[1])\n"
        "print(subprocess.run(['true'], preexec_fn=lambda: None).returncode, subprocess.run(['true']).returncode)"
    )
    assert done.stdout == "0\n0 0\n"
    assert counts() == {"db:one:Select": 5}


def test_summary_of_the_launched_process_only(run: Run, server: EmbeddedServer, python: str) -> None:
    code = QUERIES + (
        "import subprocess, sys\nprint('out')\nqueries('one')\n"
        f"subprocess.run([sys.executable, '-c', {QUERIES + 'queries(chr(120))'!r}])"
    )
    done = run(
        [LAUNCHER, "--server", server.url, "--app", "life", "--summary", python, "-c", code], env={"COLUMNS": "80"}
    )
    assert done.stdout == "out\n"
    lines = done.stderr.splitlines()
    assert lines[1].split() == ["operation", "count", "errors", "mean", "max"]
    assert lines[3].split()[:3] == ["db:one:Select", "5", "0"]
    assert any(line.startswith("slowest trace: ") for line in lines)
    assert "db:x:Select" not in done.stderr


def test_summary_without_a_server(run: Run, python: str) -> None:
    done = run([LAUNCHER, "--summary", python, "-c", QUERIES + "queries('one')"])
    assert "db:one:Select" in done.stderr
    assert "did not take" not in done.stderr


def test_debug_writes_the_log_to_stderr_and_nothing_else_does(run: Run, server: EmbeddedServer, python: str) -> None:
    code = QUERIES + "queries('one'); online()"
    quiet = run([LAUNCHER, "--server", server.url, "--app", "life", python, "-c", code])
    loud = run([LAUNCHER, "--server", server.url, "--app", "life", "--debug", python, "-c", code])
    assert quiet.stderr == ""
    assert "connected to" in loud.stderr
    assert loud.stdout == ""


#: A job runner: it takes a job (a call that is recorded), forks, and waits for the child.
JOBS = """
import os, time
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    queries("job", 1)
    if (pid := os.fork()) == 0: time.sleep(0.3); os._exit(0)
    os.waitpid(pid, 0)
os.kill(os.getpid(), 9)
"""


@pytest.mark.case("X11")
def test_a_program_that_forks_after_each_call_reports_while_it_runs(traced: Run, counts: Counts) -> None:
    # each fork ends the thread, which starts again after it; nothing is left for the end, since the program is killed
    # CPython 3.12 and later would warn of a second thread
    code = "import warnings; warnings.simplefilter('error', DeprecationWarning)\n" + JOBS.format(seconds=15)
    done = traced(code, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", -signal.SIGKILL)
    assert counts().get("db:job:Select", 0) >= 5


def test_a_limit_of_threads_at_the_first_call_is_not_for_ever(traced: Run, counts: Counts) -> None:
    done = traced(
        "import os, threading, time\n"
        "start = threading.Thread.start\n"
        'def refuse(self): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
        "queries('refused'); time.sleep(0.5)\n"
        "threading.Thread.start = start\n"
        "deadline = time.monotonic() + 20\n"
        "from stardust_auto.agent import current\n"
        "while current().session.state != 'online' and time.monotonic() < deadline: queries('job', 1); time.sleep(0.1)\n"
        "queries('job', 1); time.sleep(6); os.kill(os.getpid(), 9)",
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", -signal.SIGKILL)
    assert counts()["db:refused:Select"] == 5
    assert counts()["db:job:Select"] >= 2
