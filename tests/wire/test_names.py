"""Kinds of operations, and wildcards over their names."""

from __future__ import annotations

import pytest

from stardust_auto.wire.kinds import kind_of
from stardust_auto.wire.wildcards import matches


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/a", "api"),
        ("http://h/a", "http"),
        ("HTTPS://h", "http"),
        ("redismq:t:Add", "mq"),
        ("db:x", "db"),
        ("GET /a", "other"),
        (":x", "other"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("pattern", "text", "hit"),
    [
        ("*", "", True),
        ("/a*", "/ABC", True),
        ("/a", "/ab", False),
        ("/a?", "/ab", True),
        ("*.b", "/a.b", True),
        ("a.b", "axb", False),
        ("*" * 40 + "x", "y" * 5000, False),
    ],
)
def test_wildcards(pattern: str, text: str, hit: bool) -> None:  # protocol.md §5.7
    assert matches((pattern,), text) is hit


def test_a_list_matches_when_one_of_its_patterns_does() -> None:
    assert matches(("/health*", "*/metrics"), "/x/metrics")
    assert not matches(("/health*", "*/metrics"), "/orders")
    assert not matches((), "/orders")
