"""Real interpreters under the real launcher. Every test says what plain Python does, and that we do not change it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from _kit.activation_kit import LAUNCHER, SCRIPTS, Run, Serving
from _kit.ports import reserved_port

from stardust_auto.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture(scope="session")
def byte_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where all these interpreters keep compiled modules, as those of an installed environment are kept; what ours need is there."""
    folder = str(tmp_path_factory.mktemp("bytecode"))
    modules = "stardust_auto.agent.agent, stardust_auto.session.session, stardust_auto.export.stardust"
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", f"import {modules}"], env=environ, check=True, timeout=60)
    return folder


@pytest.fixture
def clean(tmp_path: Path, byte_code: str) -> dict[str, str]:
    """The environment of a shell that knows nothing of us, with a home folder of its own."""
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.upper().startswith(
            ("STARDUST", "STARSERVER", "STARAPPID", "STARSECRET", "PYTHON", "COV_", "COVERAGE")
        )
    }
    home = tmp_path / "home"
    home.mkdir()
    environ.update(HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"), XDG_STATE_HOME=str(home / ".state"))
    environ["PYTHONPYCACHEPREFIX"] = byte_code
    return environ


@pytest.fixture
def refusing() -> str:
    """A server address at which nobody listens."""
    return f"http://127.0.0.1:{reserved_port()}"


@pytest.fixture
def run(clean: dict[str, str], tmp_path: Path) -> Run:
    """Run a command to its end: ``run(arguments, env={...}, input=...)``."""

    def run_command(
        arguments: list[str],
        *,
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        merged = {key: value for key, value in {**clean, **(env or {})}.items() if value is not None}
        return subprocess.run(
            arguments,
            env=merged,
            input="" if stdin is None else stdin,
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run_command


@pytest.fixture
def launch(run: Run, refusing: str) -> Run:
    """The same under the launcher, with a server configured that does not answer."""

    def launch_command(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return run([LAUNCHER, "--server", refusing, *arguments], **options)

    return launch_command


def where_it_hangs(process: subprocess.Popen[bytes], log: Path) -> str:
    """The signals that wait at each process of the tree, and what its threads are at. It does not survive that."""
    parent = psutil.Process(process.pid)
    told = []
    for one in [*parent.children(recursive=True), parent]:
        status = Path(f"/proc/{one.pid}/status").read_text().splitlines() if os.path.exists("/proc/self/status") else []
        told.append(
            f"{one.pid} {one.status()} {[line for line in status if line.startswith(('Sig', 'Shd', 'Threads'))]}"
        )
        one.send_signal(signal.SIGSEGV)
        psutil.wait_procs([one], 5)
    return "\n".join(told) + "\n" + log.read_text(errors="replace")


@pytest.fixture
def serving(clean: dict[str, str], server: EmbeddedServer, tmp_path: Path) -> Serving:
    """``with serving("gunicorn", ...) as process``: a script of this environment under the launcher, reporting each second for the
    application ``web``. It is told to end by the signal ``end``.
    """

    @contextmanager
    def serve(script: str, *arguments: str, end: int = signal.SIGTERM) -> Iterator[subprocess.Popen[bytes]]:
        with open(tmp_path / "serving.log", "wb") as log:
            process = subprocess.Popen(
                [LAUNCHER, "--server", server.url, "--app", "web", os.path.join(SCRIPTS, script), *arguments],
                env={**clean, "STARDUST_PERIOD": "1", "PYTHONFAULTHANDLER": "1"},
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            yield process
        finally:
            print((tmp_path / "serving.log").read_text(errors="replace"))  # with a failure pytest shows it
            process.send_signal(end)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                pytest.fail(f"did not end:\n{where_it_hangs(process, tmp_path / 'serving.log')}")
            finally:
                process.kill()

    return serve


@pytest.fixture
def python() -> str:
    """The interpreter that the launcher belongs to."""
    return sys.executable


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter of another environment, which has no stardust_auto."""
    folder = tmp_path_factory.mktemp("foreign")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    return str(folder / "bin" / "python")


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(period=1) as running:
        yield running


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in taken:
            connection.close()
