"""A bare callable under uWSGI, which takes it out of its module from C: one span a request, and the program sees its own callable."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from _kit.activation_kit import Run, Serving, answered, counted, until
from _kit.ports import reserved_port

if TYPE_CHECKING:
    from pathlib import Path

    from stardust_auto.server import EmbeddedServer

#: Nothing is imported that we trace. Says in each answer what the program can see of us.
SHOP = """
import sys
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    module = sys.modules.get(__name__)
    names = [vars(module)[name] is KEPT for name in ("application", "app") if name in vars(module)]
    return [f"{names} {sys.getprofile()} {sys.gettrace()}".encode()]
KEPT = app = application
def make(): return application
"""
SEEN = "[True, True] None None"


@pytest.fixture
def counts_of(server: EmbeddedServer, serving: Serving):
    """``counts_of(options, paths)``: the answers to these paths, and what was counted when uWSGI has ended."""

    def serve(options: list[str], paths: list[str]) -> tuple[set[str], dict[str, int]]:
        address = f"127.0.0.1:{reserved_port()}"
        with serving("uwsgi", "--http-socket", address, *options, end=signal.SIGINT) as process:
            answers = {answered(f"http://{address}{path}", process) for path in paths}
            until(lambda: sum(counted(server, "web").values()) >= len(paths))
        return answers, counted(server, "web")

    return serve


@pytest.mark.case("W30")
@pytest.mark.parametrize(
    "options",
    [
        ["--wsgi-file", "shop.py"],
        ["--master", "--processes", "2", "--wsgi-file", "shop.py", "--callable", "app"],
        ["--master", "--processes", "2", "--lazy-apps", "--file", "shop.py"],
        ["--master", "--threads", "2", "--module", "shop"],
        ["--master", "--module", "shop:app"],
        ["--master", "--lazy-apps", "--wsgi", "shop:make()"],
    ],
    ids=" ".join,
)
def test_a_bare_callable(counts_of, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    assert counts_of(options, ["/one", "/two", "/one"]) == ({SEEN}, {"/one": 2, "/two": 1})


@pytest.mark.case("W22", "W30")
@pytest.mark.parametrize("more", [[], ["--single-interpreter"]])
def test_several_mounted_applications(counts_of, tmp_path: Path, more: list[str]) -> None:
    # uWSGI gives each of them an interpreter of its own, unless told otherwise
    (tmp_path / "shop.py").write_text(SHOP)
    options = [*more, "--mount", "/x=shop.py", "--mount", "/y=shop:app", "--mount", "/=shop:make()"]
    assert counts_of(options, ["/one", "/x/two", "/y/three"]) == ({SEEN}, {"/one": 1, "/x/two": 1, "/y/three": 1})


@pytest.mark.case("W30")
def test_a_table_of_applications(counts_of, tmp_path: Path) -> None:
    # uWSGI's own ``applications``, whose paths are bytes
    text = SHOP.replace("KEPT = app", "TABLE = applications = {b'': application, b'/x': application}\nKEPT = app")
    text = text.replace("{sys.gettrace()}", "{sys.gettrace()} {applications is TABLE and TABLE[b'/x'] is KEPT}")
    (tmp_path / "shop.py").write_text(text)
    answers, counts = counts_of(["--module", "shop"], ["/one", "/x/two"])
    assert (answers, counts) == ({f"{SEEN} True"}, {"/one": 1, "/x/two": 1})


@pytest.mark.case("W30")
def test_a_load_that_keeps_its_frames_works_as_ever(counts_of, tmp_path: Path) -> None:
    # the end of such a load cannot be seen. What is counted then is what the application does.
    kept = "try:\n    import nothing_of_that_name\nexcept ImportError as error:\n    KEPT_ERROR = error\n"
    work = "    sqlite3.connect('work').execute('select 1').fetchall()\n    start_response("
    text = f"import sqlite3\n{kept}{SHOP}".replace("    start_response(", work)
    (tmp_path / "shop.py").write_text(text)
    answers, counts = counts_of(["--wsgi-file", "shop.py"], ["/one"])
    assert (answers, counts) == ({SEEN}, {"db:work:Select": 1})


@pytest.mark.case("W19")
def test_flask_inside_a_bare_middleware_is_one_request(counts_of, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import flask\ninner = flask.Flask(__name__)\n"
        "inner.get('/items/<int:number>')(lambda number: str(number))\n"
        "def application(environ, start_response): return inner(environ, start_response)\n"
    )
    answers, counts = counts_of(["--wsgi-file", "shop.py"], ["/items/1", "/items/2"])
    assert (answers, counts) == ({"1", "2"}, {"/items/<int:number>": 2})


@pytest.mark.case("W33")
def test_an_object_as_application(counts_of, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "class Shop:\n"
        "    def __call__(self, environ, start_response):\n"
        "        start_response('200 OK', [])\n"
        "        return [str(app is self and type(app) is Shop).encode()]\n"
        "app = Shop()\n"
    )
    assert counts_of(["--module", "shop:app"], ["/one"]) == ({"True"}, {"/one": 1})


@pytest.mark.case("I10")
def test_a_program_that_is_profiled_is_left_alone(counts_of, tmp_path: Path) -> None:
    # somebody else's profile function stays where it is
    work = "    sqlite3.connect('work').execute('select 1').fetchall()\n    start_response("
    text = SHOP.replace("    start_response(", work).replace("{sys.getprofile()}", "{sys.getprofile() is mine}")
    (tmp_path / "shop.py").write_text(
        f"import sqlite3, sys\nmine = lambda *details: None\nsys.setprofile(mine)\n{text}"
    )
    answers, counts = counts_of(["--wsgi-file", "shop.py"], ["/one"])
    assert (answers, counts) == ({"[True, True] True None"}, {"db:work:Select": 1})


#: What uWSGI is to Python, with a hook that somebody put there.
UWSGI = (
    "import sys, types; calls = []; uwsgi = sys.modules['uwsgi'] = types.ModuleType('uwsgi')\n"
    "uwsgi.post_fork_hook = lambda: calls.append('own'); uwsgi.worker_id = lambda: 0\n"
    "from stardust_auto.agent import uwsgi as host; from stardust_auto.process import end\n"
)


def test_uwsgis_hook_is_chained(run: Run, python: str) -> None:
    # uWSGI forks without Python's hooks
    done = run(
        [
            python,
            "-c",
            UWSGI + "uwsgi.version, uwsgi.opt = b'2.0.31', {}\n"
            "host.follow_forks(); host.follow_forks(); end.register(end.Phase.FLUSH, print); uwsgi.post_fork_hook(); print(calls)",
        ]
    )
    assert (done.stdout, done.stderr) == ("['own']\n", "")


@pytest.mark.parametrize(
    ("version", "options", "said"),
    [("2.0.21", {}, True), ("2.0.21", {"threads": b"2"}, False), ("2.0.21.1", {"enable-threads": True}, False)],
)
def test_a_uwsgi_without_threads_is_told_so(
    run: Run, python: str, version: str, options: dict[str, object], said: bool
) -> None:
    # nothing can be reported while it runs
    code = f"uwsgi.version, uwsgi.opt = {version.encode()!r}, {options!r}\nhost.follow_forks()"
    done = run([python, "-c", UWSGI + code])
    assert (done.stderr.count("\n"), "--enable-threads" in done.stderr) == (said, said)
