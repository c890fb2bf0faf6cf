"""A pytest plugin: no secret and no token of the whole run may show in a log, an output, an exception or a readable file.

What it looks for is what the run itself makes: every secret that a server of ours issues or is made with, every secret that
the wire handles (``protocol.secrets.Secret``), and anything that looks like one of our tokens. It looks at each log record, at
the captured output of each test and of each process that a test ran, at every exception of ours that a test expects, and at the
end at the files under the run's temporary folder that others may read. A find makes the run fail.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import traceback
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Header and start of the body of every token of ours (HS256, no ``typ``).
TOKEN = re.compile(r"eyJhbGciOiJIUzI1NiJ9\.eyJ[\w-]{20,}")
#: Written by tests on purpose and too common to look for: only what has a digit and this length is told from ordinary text.
_SHORTEST = 8
_LARGEST_FILE = 20 << 20


class Guard:
    """What must not show, and where it did."""

    def __init__(self) -> None:
        #: Of the running test, which may have written them somewhere itself.
        self.secrets: set[str] = set()
        #: Issued by servers of ours: random, so each find is a leak, also in a later test.
        self.issued: set[str] = set()
        self.planted = 0
        self.finds: list[str] = []
        self.test = "before the first test"
        self.looked = {"records": 0, "outputs": 0, "exceptions": 0, "files": 0}

    def plant(self, value: object, *, issued: bool = False) -> None:
        """From now on ``value`` is looked for."""
        if isinstance(value, str) and len(value) >= _SHORTEST and any(c.isdigit() for c in value):
            kept = self.issued if issued else self.secrets
            self.planted += value not in kept
            kept.add(value)

    def look(self, where: str, text: str, *, issued_only: bool = False) -> None:
        """Note a find in ``text``, without showing it."""
        found = TOKEN.search(text) is not None
        secrets = self.issued if issued_only else self.issued | self.secrets
        if found or any(secret in text for secret in tuple(secrets)):
            find = f"{self.test}: {'a token' if found else 'a secret'} in {where}"
            if find not in self.finds:
                self.finds.append(find)

    def look_at_files(self, root: str) -> None:
        """Every file under ``root`` that has rights for others, whatever its folder has."""
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    self._look_at_file(path)
                except FileNotFoundError:
                    continue  # of a program that is still ending

    def _look_at_file(self, path: str) -> None:
        state = os.lstat(path)
        # A regular file: opening a pipe would wait for its other end.
        if state.st_mode & 0o170000 == 0o100000 and state.st_mode & 0o077 and state.st_size <= _LARGEST_FILE:
            self.looked["files"] += 1
            with open(path, "rb") as file:
                self.look(f"{path}, which others may read", file.read().decode("latin-1"), issued_only=True)


guard = Guard()


def _watch(owner: Any, name: str, after: Callable[..., None]) -> None:
    """Let ``after(result, self, *args)`` see each call of a method; the method is as it was otherwise."""
    original = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        after(result, *args, **kwargs)
        return result

    watched.__name__, watched.__qualname__, watched.__doc__ = name, original.__qualname__, original.__doc__
    setattr(owner, name, watched)


def _record_factory() -> None:
    factory = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        if record.name.startswith("stardust") or record.name == "root":
            guard.looked["records"] += 1
            try:
                text = record.getMessage()
            except Exception:
                text = str(record.msg)
            if record.exc_info and record.exc_info[1] is not None:
                text += "".join(traceback.format_exception(record.exc_info[1]))
            guard.look(f"a log record of {record.name}", text)
        return record

    logging.setLogRecordFactory(make)


def _exception(_result: object, _info: object, exc_info: Any, *_: object) -> None:
    error = exc_info[1]
    if type(error).__module__.startswith("stardust_auto"):
        guard.looked["exceptions"] += 1
        guard.look(f"the text of {type(error).__name__}", f"{error} {error!r}")


def _output(result: Any, process: Any, *_: object, **__: object) -> None:
    for text in result or ():
        if text:
            guard.looked["outputs"] += 1
            shown = text.decode("latin-1") if isinstance(text, bytes) else text
            guard.look(f"the output of {str(process.args)[:60]!r}", shown)


def _issued_by_name(value: Any, _store: Any, name: str) -> None:
    if name != "console key":
        guard.plant(value, issued=True)


def pytest_configure(config: pytest.Config) -> None:
    from stardust_auto.privacy import Secret
    from stardust_auto.server.store.apps import Apps
    from stardust_auto.server.store.store import Store

    _watch(Secret, "__init__", lambda _none, _self, value: guard.plant(value))
    _watch(Apps, "_issue", lambda issued, *_: guard.plant(issued, issued=True))
    # The administrator's key is shown on purpose: it is how a person gets into the console.
    _watch(Store, "secret", _issued_by_name)
    _watch(subprocess.Popen, "communicate", _output)
    _watch(pytest.ExceptionInfo, "fill_unfilled", _exception)
    _record_factory()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    guard.test = item.nodeid
    guard.secrets = set()
    return (yield)  # type: ignore[return-value]  # what the hook returns is handed through


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if hasattr(report, "node"):
        return  # of a worker, which has looked at it itself
    if report.when == "teardown" or report.failed:
        for name, text in report.sections:
            guard.looked["outputs"] += 1
            guard.look(f"its {name.lower()}", text)
    if report.failed and "stardust_auto" in report.longreprtext:
        guard.look("its traceback", report.longreprtext, issued_only=True)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    factory = getattr(session.config, "_tmp_path_factory", None)
    base = getattr(factory, "_basetemp", None)
    guard.test = "after the run"
    if base is not None and os.path.isdir(base):
        guard.look_at_files(str(base))
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["privacy"] = {"planted": guard.planted, "looked": guard.looked, "finds": guard.finds}
    elif guard.finds and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    looked = ", ".join(f"{count} {what}" for what, count in guard.looked.items())
    if guard.finds:
        terminalreporter.section("secrets that show", red=True)
        for find in guard.finds:
            terminalreporter.line(find)
    terminalreporter.line(f"privacy: {guard.planted} secrets looked for in {looked}; {len(guard.finds)} found")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """With pytest-xdist each worker looks at its own tests; the controller adds up what they report."""
    found = getattr(node, "workeroutput", {}).get("privacy")
    if found is None:
        return
    guard.planted += found["planted"]
    guard.finds += [find for find in found["finds"] if find not in guard.finds]
    for what, count in found["looked"].items():
        guard.looked[what] += count
