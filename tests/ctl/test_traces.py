"""``apps``, ``traces`` and ``trace``, from a real client's report; and the places where a server and its key are found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stardust_auto import StardustClient
from stardust_auto.server.local import ensure_local_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _kit.ctl import Result

    from stardust_auto.server import EmbeddedServer
    from stardust_auto.server.local import LocalServer


@pytest.fixture
def reported(server: EmbeddedServer) -> str:
    """The id of a trace that the server has been told."""
    client = StardustClient(server=server.url, app_id="jobs", enable_config=False)
    client.start()
    with client.new_span("job:outer") as outer:
        outer.tag = "batch 7\x1b[31m"
        with client.new_span("job:inner") as inner:
            inner.set_error(ValueError("damaged"))
    assert client.flush(10)
    client.stop()
    return str(outer.trace_id)


def test_traces_and_one_trace(shop: Callable[..., Result], reported: str) -> None:
    assert {row["trace_id"] for row in shop("traces", "--json").json} == {reported}
    assert reported in shop("traces", "--sort", "slow", "--app", "jobs").out
    shown = shop("trace", reported)
    assert shown.code == 0
    assert "job:outer" in shown.out
    assert "  job:inner" in shown.out
    assert "\x1b" not in shown.out
    assert [span["depth"] for span in shop("trace", reported, "--json").json["spans"]][:2] == [0, 1]


def test_applications(shop: Callable[..., Result], reported: str) -> None:
    assert [row["name"] for row in shop("apps", "--json").json] == ["jobs"]
    assert "jobs" in shop("apps").out


def test_an_unknown_trace_is_exit_code_1(shop: Callable[..., Result]) -> None:
    assert shop("apps").out == "no application has logged in yet\n"
    assert shop("traces").out.startswith("no trace has been sampled yet")
    result = shop("trace", "0" * 32)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1


@pytest.fixture
def local(own_place: Path) -> Iterator[LocalServer]:
    """The server that ``stardust-auto --local`` starts in this folder."""
    server = ensure_local_server(own_place / ".stardust")
    yield server
    os.kill(server.pid, signal.SIGTERM)


def test_the_server_of_this_folder_or_of_one_above_it_is_found(
    ctl: Callable[..., Result], local: LocalServer, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ctl("config", "set", "--app", "shop", "a=1", "--publish").code == 0
    deep = own_place / "some" / "where"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert ctl("config", "show", "--app", "shop", "--json").json["items"][0]["value"] == "1"
    # By its address alone: the same user's servers leave their key in the state folder.
    monkeypatch.chdir("/")
    assert ctl("config", "show", "--app", "shop", "--server", local.url, "--json").json["version"] == 2


def test_without_a_key_there_is_what_an_application_may_do(
    ctl: Callable[..., Result], server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:  # protocol.md §6.7: this is all that a real StarServer offers
    monkeypatch.setenv("STARDUST_SERVER", server.url)
    monkeypatch.setenv("STARDUST_APP_ID", "shop")
    sent = ctl("config", "set", "discount=20")
    assert sent.code == 0
    assert "a StarServer adds only keys that it does not have yet, and leaves them unpublished" in sent.out
    assert "console" in sent.out
    assert ctl("config", "show", "--json").json["items"] == []
    told = ctl("config", "show").out
    assert "published values only; there are unpublished changes" in told
    publish = ctl("config", "publish")
    assert publish.code == 4
    assert "done in its own console" in publish.err
    for words in (["history"], ["rollback"], ["diff", "--versions", "1..2"]):
        assert ctl("config", *words).code == 4
    assert ctl("config", "unset", "a").code == 1

    monkeypatch.setenv("STARDUST_ADMIN_KEY", server.key)
    assert ctl("config", "publish").code == 0
    monkeypatch.delenv("STARDUST_ADMIN_KEY")
    assert ctl("config", "explain", program, "discount").out.startswith("discount = 20   from stardust shop v2")
    checked = ctl("config", "check", program)
    assert checked.code == 0
    assert "staged values cannot be seen" in checked.err


def test_wrong_credentials_are_exit_code_4(
    ctl: Callable[..., Result], server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STARDUST_SERVER", server.url)
    monkeypatch.setenv("STARDUST_APP_ID", "shop")
    assert ctl("config", "show").code == 0
    monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path / "another"))
    monkeypatch.setenv("STARDUST_SECRET", "planted-wrong")
    result = ctl("config", "show")
    assert result.code == 4
    assert "refuses the application 'shop'" in result.err
    assert "planted" not in result.err


def test_the_server_in_the_foreground(own_place: Path) -> None:
    command = [sys.executable, "-m", "stardust_auto.ctl", "server", "--port", "0", "--data", str(own_place / "data")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "http://127.0.0.1:" in line
        described = json.loads((own_place / "data" / "server.json").read_text())
        assert described["url"] in line
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
