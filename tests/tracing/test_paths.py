"""Names of paths: few, useful, the same for the same endpoint, whatever is asked for."""

from __future__ import annotations

import random
import string

import pytest

from stardust_auto.tracing.naming import NAMES_PER_APP, NAMES_PER_HOST, HttpNames, PathNames, UnsettledName
from stardust_auto.tracing.paths import MAX_WORDS, RECOVERY_NS


def word(number: int) -> str:
    """A word without digits, different for each number."""
    letters = string.ascii_lowercase
    return f"w{letters[number // 676 % 26]}{letters[number // 26 % 26]}{letters[number % 26]}"


# -- requests that the program answers -------------------------------------------------------------------------------------


def test_a_level_of_many_words_is_a_star_and_what_follows_keeps_its_name():
    names = PathNames()
    made = [names.settle(f"/articles/{word(number)}") for number in range(1000)]
    assert made[:MAX_WORDS] == [f"/articles/{word(number)}" for number in range(MAX_WORDS)]
    assert set(made[MAX_WORDS:]) == {"/articles/*"}
    assert names.settle("/orders/new") == "/orders/new"
    assert names[f"/articles/{word(0)}"] == "/articles/*"  # also what came first


def test_users_at_the_root_leave_a_name_of_use():
    """Twenty minutes of ``/u<n>/items/<n>`` were recorded as ``/(other)``, all but the first 256."""
    names = PathNames()
    made = [names.settle(f"/{word(number)}/items/{number}") for number in range(5000)]
    assert made[-1] == "/*/items"
    assert len(set(made)) <= MAX_WORDS + 1


def test_a_path_that_does_not_exist_uses_no_name_up():
    names = PathNames()
    for number in range(5000):
        assert type(names[f"/{word(number)}"]) is UnsettledName
    assert names.settle("/checkout/now") == names["/checkout/now"] == "/checkout/now"
    assert type(names["/checkout/now"]) is str
    assert len(names) == 1


def test_the_names_of_an_application_are_bounded_and_each_still_says_something():
    names = PathNames()
    made = {names.settle(f"/{word(first)}/{word(second)}") for second in range(30) for first in range(30)}
    now = {names[f"/{word(first)}/{word(second)}"] for second in range(30) for first in range(30)}
    assert len(now) <= NAMES_PER_APP
    assert all(name.startswith("/w") for name in now)
    assert len(made) < 3 * NAMES_PER_APP


def test_a_level_has_its_words_back_when_few_come(clock):
    names = PathNames(clock)
    for number in range(100):
        names.settle(f"/api/{word(number)}")
    assert names.settle("/api/search") == "/api/*"
    wait = RECOVERY_NS / 1e6 + 1
    for _ in range(2):  # the first watch has seen many words
        clock.advance(wait)
        names.settle("/another")
        names.settle("/api/search")
    assert names.settle("/api/search") == names["/api/search"] == "/api/search"


def test_a_level_stays_a_star_while_many_words_come(clock):
    names = PathNames(clock)
    made = []
    for number in range(10_000):
        clock.advance(1000)
        made.append(names.settle(f"/users/{word(number)}"))
    assert set(made[MAX_WORDS:]) == {"/users/*"}


@pytest.mark.parametrize("seed", range(5))
def test_no_traffic_makes_too_many_names_or_a_name_that_changes_by_itself(seed):
    chance = random.Random(seed)
    names = PathNames()
    paths = ["/" + "/".join(word(int(chance.paretovariate(0.5)) % 3000) for _ in range(3)) for _ in range(3000)]
    for path in paths:
        assert names.settle(path) == names[path]
    assert len({names[path] for path in paths}) <= NAMES_PER_APP


# -- requests that the program sends ---------------------------------------------------------------------------------------


def test_a_busy_level_of_a_host_leaves_the_other_paths_of_that_host_alone():
    names = HttpNames()
    made = [names[f"https://h/users/{word(number)}/profile"] for number in range(1000)]
    assert made[-1] == "https://h/users/*/profile"
    assert names["https://h/health"] == "https://h/health"
    assert names["https://h/users/new/photo"] == "https://h/users/*/photo"
    assert len(set(made)) <= MAX_WORDS + 1


def test_the_names_of_a_host_are_bounded():
    names = HttpNames()
    urls = [
        f"http://h/{word(one)}/{word(two)}/{word(three)}" for three in range(8) for two in range(8) for one in range(8)
    ]
    for url in urls:
        assert names[url].startswith("http://h/")
    assert len({names[url] for url in urls}) <= NAMES_PER_HOST


def test_many_hosts_are_bounded():
    names = HttpNames()
    made = {names[f"http://h{number}/a/b"] for number in range(3000)}
    assert "http://h2999" in made
    assert len(names._hosts) <= 1024
