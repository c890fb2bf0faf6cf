"""``stardustctl config`` on a real embedded server: stage, publish, show, compare, go back."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from _kit.ctl import Result


def test_a_value_is_staged_then_published(shop: Callable[..., Result]) -> None:
    staged = shop("config", "set", "discount=20", "greeting=Spring sale")
    assert staged.code == 0
    assert staged.out.startswith("shop: 2 values staged (discount, greeting); 'stardustctl config publish'")
    shown = shop("config", "show", "--json").json
    assert [(row["key"], row["value"], row["new_value"], row["pending"]) for row in shown["items"]] == [
        ("discount", None, "20", True),
        ("greeting", None, "Spring sale", True),
    ]
    published = shop("config", "publish")
    assert published.code == 0
    assert "version 2 is published; 0 running instances told" in published.out
    assert [row["value"] for row in shop("config", "show", "--json").json["items"]] == ["20", "Spring sale"]


def test_key_and_value_as_two_words_and_a_value_with_a_dash(shop: Callable[..., Result]) -> None:
    assert shop("config", "set", "discount", "-5", "--publish").code == 0
    assert shop("config", "show", "--json").json["items"][0]["value"] == "-5"


def test_what_changes_nothing_is_said_to_change_nothing(shop: Callable[..., Result]) -> None:
    shop("config", "set", "a=1", "--publish")
    assert "shop: 1 value staged, 1 value unchanged (a, b)" in shop("config", "set", "a=1", "b=2").out
    shop("config", "publish")
    assert shop("config", "publish").out == "shop: nothing is staged, version 3 stays\n"
    assert shop("config", "unset", "nowhere").out == "shop: 0 values staged, 1 value unchanged (nowhere)\n"


def test_a_secret_comes_by_standard_input(shop: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("planted=1\n"))
    assert "planted" not in shop("config", "set", "db:password", "--stdin").out
    assert shop("config", "show", "--reveal", "--json").json["items"][0]["new_value"] == "planted=1"
    assert shop("config", "set", "a=1", "--stdin").code == 2


def test_a_deleted_key_is_gone_after_publishing(shop: Callable[..., Result]) -> None:
    shop("config", "set", "a=1", "b=2", "--publish")
    assert "1 value staged (a)" in shop("config", "unset", "a").out
    assert "(deleted)" in shop("config", "show").out
    shop("config", "publish")
    assert [row["key"] for row in shop("config", "show", "--json").json["items"]] == ["b"]


def test_scopes_are_kept_apart_and_can_be_compared(shop: Callable[..., Result]) -> None:
    shop("config", "set", "host=db-test", "same=1", "--scope", "test")
    shop("config", "set", "host=db-prod", "same=1", "--scope", "prod")
    shop("config", "publish")
    found = shop("config", "diff", "--scope", "test..prod", "--json")
    assert found.json == {"host": {"old": "db-test", "new": "db-prod"}}
    assert shop("config", "diff", "--scope", "test..prod", "--exit-code").code == 1
    assert shop("config", "diff", "--scope", "test..test", "--exit-code").code == 0


def test_the_difference_is_what_publishing_would_change(shop: Callable[..., Result]) -> None:
    shop("config", "set", "a=1", "--publish")
    shop("config", "set", "a=2", "b=3")
    assert shop("config", "diff", "--json").json == {
        "a": {"old": "1", "new": "2"},
        "b": {"old": None, "new": "3"},
    }
    shop("config", "publish")
    assert shop("config", "diff").out == "no difference\n"


def test_history_and_roll_back(shop: Callable[..., Result]) -> None:
    shop("config", "set", "a=1", "--publish")
    shop("config", "set", "a=2", "--publish")
    shop("config", "set", "a=3", "--publish")
    assert shop("config", "diff", "--versions", "2..4", "--json").json == {"a": {"old": "1", "new": "3"}}
    back = shop("config", "rollback")
    assert back.code == 0
    assert "with the values of version 3" in back.out
    assert shop("config", "show", "--json").json["items"][0]["value"] == "2"
    assert shop("config", "rollback", "2", "--json").json["values_of"] == 2
    versions = [entry["version"] for entry in shop("config", "history", "--json").json["versions"]]
    assert versions == sorted(versions, reverse=True)
    assert "1 -> 2" in shop("config", "history").out


def test_nothing_to_go_back_to_is_said(shop: Callable[..., Result]) -> None:
    shop("config", "set", "a=1")
    result = shop("config", "rollback")
    assert (result.code, result.out) == (1, "")
    assert result.err == ("stardustctl: shop: nothing has been published yet, so there is nothing to go back to\n")


@pytest.mark.case("C70")
def test_values_that_look_secret_are_masked_unless_revealed(shop: Callable[..., Result]) -> None:
    shop("config", "set", "db:password=planted", "url=redis://u:planted@h", "--publish")
    shop("config", "set", "db:password=planted2")
    for words in (["show"], ["show", "--json"], ["history"], ["history", "--json"], ["diff"], ["diff", "--json"]):
        assert "planted" not in shop("config", *words).out
    assert "planted2" in shop("config", "show", "--reveal").out
    assert "planted2" in shop("config", "diff", "--reveal").out


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["config", "set", "novalue"], 2, "'novalue' is not KEY=VALUE"),
        (["config", "set", "--serer", "x", "a=1"], 2, "no such option: --serer"),
        (["config", "show", "--sources"], 2, "--sources needs the settings class"),
        (["config", "show", "--server", "ftp://x"], 2, "--server 'ftp://x' cannot be used"),
        (["config", "diff", "--versions", "5..1"], 2, "OLD..NEW is needed"),
        (["config", "rollback", "77"], 1, "77"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    shop: Callable[..., Result], words: list[str], code: int, line: str
) -> None:
    shop("config", "set", "a=1", "--publish")
    result = shop(*words)
    assert (result.code, result.out) == (code, "")
    assert line in result.err
    assert result.err.count("\n") == 1
    as_json = shop(*words, "--json")
    assert as_json.code == code
    assert line in as_json.json["error"]
    assert as_json.json["exit_code"] == code
    assert as_json.err == ""


def test_a_wrong_key_is_exit_code_4(shop: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_ADMIN_KEY", "planted-wrong-key")
    result = shop("config", "show")
    assert result.code == 4
    assert "refuses the administrator key" in result.err
    assert "planted" not in result.err


def test_no_server_at_the_address_is_exit_code_3(shop: Callable[..., Result]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = shop("config", "show", "--server", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert result.code == 3
    assert "connection refused" in result.err


def test_no_server_anywhere_is_exit_code_2(ctl: Callable[..., Result]) -> None:
    result = ctl("config", "show")
    assert result.code == 2
    assert "no server: give --server" in result.err


def test_a_bad_variable_is_named(ctl: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARDUST_SERVER", "127.0.0.1:6600")
    result = ctl("config", "show")
    assert result.code == 2
    assert "STARDUST_SERVER='127.0.0.1:6600' cannot be used" in result.err


def test_the_only_application_needs_no_name(shop: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    shop("config", "set", "a=1", "--publish")
    monkeypatch.delenv("STARDUST_APP_ID")
    assert shop("config", "show", "--json").json["app"] == "shop"
    shop("config", "set", "--app", "other", "a=1", "--publish")
    result = shop("config", "show")
    assert result.code == 2
    assert "other" in result.err
    assert "shop" in result.err


def _raw(*words: str, stdout: int, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stardust_auto.ctl", *words],
        env=os.environ | more,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_output_that_cannot_take_it_is_no_traceback(shop: Callable[..., Result]) -> None:
    shop("config", "set", "greeting=你好", "--publish")
    ascii_only = _raw("config", "show", stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert ascii_only.returncode == 0
    assert "\\u4f60" in ascii_only.stdout
    reader, writer = os.pipe()
    os.close(reader)
    try:
        gone = _raw("config", "show", "--json", stdout=writer)
    finally:
        os.close(writer)
    assert "Traceback" not in gone.stderr
