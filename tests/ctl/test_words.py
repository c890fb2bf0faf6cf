"""The small parts that need no server: assignments, masks, the map of a scope, plain output."""

from __future__ import annotations

import pytest

from stardust_auto.ctl.center import Configuration
from stardust_auto.ctl.config_commands import compare, diff_versions, parse_assignments, transition
from stardust_auto.ctl.errors import CtlError, UsageError
from stardust_auto.ctl.output import clock, count, duration, plain
from stardust_auto.ctl.target import Target
from stardust_auto.ctl.trace_commands import first_line
from stardust_auto.privacy import MASK, mask_value


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["discount", "20"], {"discount": "20"}),
        (["discount=20"], {"discount": "20"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b"], None),
        (["a"], None),
        (["discount", "-5"], {"discount": "-5"}),
        (["discount", ""], {"discount": ""}),
        (["text", "a=b"], {"text": "a=b"}),
        (["dsn=host=db;user=x"], {"dsn": "host=db;user=x"}),
        (["empty="], {"empty": ""}),
        (["=1"], None),
        (["--serer", "x"], None),
        (["greeting", "--really--"], {"greeting": "--really--"}),
    ],
)
def test_assignments(words: list[str], values: dict[str, str] | None) -> None:
    if values is None:
        with pytest.raises(UsageError):
            parse_assignments(words)
    else:
        assert parse_assignments(words) == values


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("discount", "20", "20"),
        ("db:password", "hunter2", MASK),
        ("DB__PASSWORD", "hunter2", MASK),
        ("api_key", "k", MASK),
        ("apiKey", "k", MASK),
        ("keyboard", "qwerty", "qwerty"),
        ("compass", "north", "north"),
        ("db:url", "mysql://root:hunter2@db/shop", f"mysql://{MASK}@db/shop"),
        ("db:main", "Server=db;User=root;Password=hunter2;Pool=5", f"Server=db;User=root;Password={MASK};Pool=5"),
        ("api_key", None, None),
        ("api_key", "", ""),
    ],
)
def test_values_that_look_secret_are_masked(key: str, value: str | None, shown: str | None) -> None:
    assert mask_value(key, value) == shown


def test_what_is_staged_where_that_can_be_seen() -> None:
    blind = Configuration("shop", "prod", 3, 4, (), {"a": "1"})
    assert (blind.staged_known, blind.values(staged=True)) == (False, {"a": "1"})
    seeing = Configuration("shop", "prod", 3, 4, (), {"a": "1"}, {"a": "2"})
    assert (seeing.staged_known, seeing.values(), seeing.values(staged=True)) == (True, {"a": "1"}, {"a": "2"})
    stuck = Configuration("shop", "prod", 3, 4, (), {"a": "1"}, None, "no such key")
    assert (stuck.staged_known, stuck.values()) == (True, {"a": "1"})
    with pytest.raises(CtlError, match="what is staged cannot be published: no such key"):
        stuck.values(staged=True)


def test_differences_ignore_the_case_of_keys_and_show_absent_values() -> None:
    found = compare({"a": "1", "gone": "x", "Same": "s"}, {"A": "2", "new": "y", "same": "s"}, show=lambda _, v: v)
    assert found == {"A": ("1", "2"), "gone": ("x", None), "new": (None, "y")}
    assert transition("1", None).plain == "1 -> (none)"


@pytest.mark.parametrize("text", ["3", "5..3", "a..b", "3..3", "..4"])
def test_a_version_range_is_two_growing_numbers(text: str) -> None:
    target = Target(("http://127.0.0.1:1",), "--server", "shop", "", None, "key")
    with pytest.raises(UsageError, match=r"OLD\.\.NEW"):
        diff_versions(target, text)


def test_a_target_shows_neither_secret_nor_key() -> None:
    target = Target(("http://127.0.0.1:1",), "--server", "shop", "", "planted-secret", "planted-key")
    assert "planted" not in repr(target)
    assert "planted" not in repr(target.admin())


def test_text_from_the_network_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[31mb\nc\x9b") == "a\\x1b[31mb\\x0ac\\x9b"
    assert first_line("one\ntwo") == "one"
    assert len(first_line("x" * 500)) == 100


def test_times_counts_and_durations_are_short() -> None:
    assert clock(0) == clock(None) == ""
    assert clock(1_700_000_000_000).startswith("2023-11-1")
    assert [duration(value) for value in (7, 7.25, 1250, None)] == ["7 ms", "7.25 ms", "1.25 s", ""]
    assert [count(1, "key"), count(2, "key")] == ["1 key", "2 keys"]
