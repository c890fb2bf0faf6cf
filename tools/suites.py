"""The suites that ``upstream.py`` can run: where their tests are and what those need."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

_PYTEST = (
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--continue-on-collection-errors",
    "--timeout=60",
    "--junit-xml={xml}",
)


@dataclass(frozen=True)
class Suite:
    """How to get and run one library's own tests."""

    name: str
    #: The source distribution that holds the tests; "" for CPython's own.
    package: str = ""
    #: What the tests need besides the library.
    needs: tuple[str, ...] = ()
    #: Arguments after ``python``; ``{xml}`` is replaced by the path of the JUnit report.
    command: tuple[str, ...] = _PYTEST
    tests: tuple[str, ...] = ("tests",)
    folder: str = ""
    #: Read outcomes from unittest's verbose text instead of a report.
    verbose: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    #: Start a redis-compatible server from a wheel and pass its address.
    redis: bool = False
    #: The library sends requests, so trace headers are on the wire: what differs is run once more without them.
    network: bool = False
    #: Not traced: ``StardustSettings`` takes the place of ``BaseSettings``, its defaults switched back (``settings_as_base.py``).
    settings: bool = False


def cpython(module: str, name: str = "") -> Suite:
    """The suite ``test_<module>`` of the interpreter's own ``test`` package."""
    return Suite(name or f"cpython-{module}", command=("-m", "test", "--junit-xml={xml}"), tests=(f"test_{module}",))


_URLLIB3 = (
    "collections",
    "connection",
    "connectionpool",
    "filepost",
    "poolmanager",
    "proxymanager",
    "response",
    "retry",
    "util",
)

SUITES = {
    suite.name: suite
    for suite in (
        cpython("sqlite" if sys.version_info < (3, 11) else "sqlite3", "cpython-sqlite3"),
        cpython("wsgiref"),
        Suite(
            "requests",
            "requests",
            ("pytest", "pytest-httpbin==2.1.0", "httpbin~=0.10.0", "pytest-mock", "trustme", "PySocks"),
            network=True,
        ),
        Suite(
            "urllib3",
            "urllib3",
            (
                "pytest",
                "pytest-socket",
                "trustme",
                "cryptography",
                "PySocks",
                "idna",
                "quart",
                "quart-trio",
                "trio",
                "hypercorn",
                "h2",
                "httpx",
                "tornado",
            ),
            tests=("test/with_dummyserver", *(f"test/test_{part}.py" for part in _URLLIB3)),
            network=True,
        ),
        Suite(
            "redis",
            "redis",
            ("pytest", "pytest-asyncio", "mock", "numpy", "packaging"),
            command=(*_PYTEST, "-m", "not redismod and not onlycluster"),
            tests=(
                "tests/test_commands.py",
                "tests/test_pipeline.py",
                "tests/test_pubsub.py",
                "tests/test_lock.py",
                "tests/test_scripting.py",
            ),
            redis=True,
        ),
        Suite("werkzeug", "werkzeug", ("pytest<9", "ephemeral-port-reserve", "cryptography", "cffi")),
        Suite("flask", "flask", ("pytest<9", "asgiref", "python-dotenv", "blinker")),
        Suite(
            "django",
            "django",
            ("asgiref", "sqlparse", "tblib"),
            command=("runtests.py", "-v", "2", "--parallel", "1", "--noinput"),
            tests=(
                "backends",
                "db_functions",
                "db_utils",
                "handlers",
                "wsgi",
                "transactions",
                "requests_tests",
                "servers",
                "queries",
                "aggregation",
                "cache",
                "sessions_tests",
                "test_client",
            ),
            folder="tests",
            verbose=True,
        ),
        Suite(
            "pydantic-settings",
            "pydantic-settings",
            ("pytest", "pytest-mock", "tomli", "PyYAML"),
            command=(*_PYTEST, "-p", "settings_as_base", "--ignore=tests/test_docs.py"),
            settings=True,
        ),
        Suite("aiosqlite", "aiosqlite", ("pytest",), tests=("aiosqlite/tests/smoke.py", "aiosqlite/tests/perf.py")),
    )
}
SHORT = ("cpython-sqlite3", "cpython-wsgiref")


def find(name: str) -> Suite:
    """The suite called ``name``; ``cpython-<module>`` need not be in the table. ``KeyError`` for any other name."""
    return (
        cpython(name.removeprefix("cpython-")) if name not in SUITES and name.startswith("cpython-") else SUITES[name]
    )
