# ruff: noqa: RUF012 - pydantic copies the defaults of fields
"""Whatever the center holds: a valid state or one clear refusal, the same for every order of the map, and never a leak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, Field, SecretStr

from stardust_auto import live
from stardust_auto.config import CsvList, InvalidSettingsError, MemoryClient, Replace, StardustSettings
from stardust_auto.config.remote.keys import index
from stardust_auto.config.remote.snapshot import make_snapshot
from stardust_auto.config.typed.builder import build

if TYPE_CHECKING:
    import random


class Leaf(BaseModel, frozen=True):
    host: str = "h"
    port: int = 1
    secret: SecretStr = SecretStr("")
    max_conn: int = Field(1, alias="max.conn")


class Node(BaseModel, frozen=True):
    leaf: Leaf = Leaf()  # type: ignore[call-arg]  # an alias has a default
    leaves: list[Leaf] = []
    named: dict[str, Leaf] = {}
    either: int | list[str] = 0


class Everything(StardustSettings):
    a: int = 0
    b: str = ""
    node: Node = Node()
    maybe: Node | None = None
    tags: list[str] = []
    csv: CsvList[int] = []
    table: dict[str, dict[str, int]] = {}
    replaced: Annotated[dict[str, str], Replace] = {}
    first: int = Field(0, validation_alias=AliasChoices("one", AliasPath("many", 0)))
    second: int = Field(0, validation_alias=AliasPath("many", 1))


WORDS = [
    "a",
    "B",
    "node",
    "leaf",
    "leaves",
    "Named",
    "either",
    "maybe",
    "tags",
    "csv",
    "table",
    "replaced",
    "one",
    "many",
]
WORDS += ["host", "PORT", "secret", "max", "conn", "max.conn", "0", "1", "2", "x", "", "_", "名"]
SEPARATORS = [":", ".", "__", "_", "::"]
VALUES = [
    "",
    "1",
    "x",
    "[1, 2]",
    '["a"]',
    "{",
    '{"host": "j"}',
    '{"leaf": {"Port": 5}}',
    "null",
    "true",
    "1,2",
    '{"0": 1}',
    "[[]]",
    "[{}]",
    "NaN",
]

keys = st.builds(
    lambda words, separator: separator.join(words),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.sampled_from(SEPARATORS),
)
values = st.one_of(
    st.sampled_from(VALUES), st.text(max_size=8), st.none(), st.integers(), st.lists(st.integers(), max_size=2)
)
maps = st.dictionaries(keys, values, max_size=12)


def outcome(values: dict[str, Any]) -> object:
    try:
        return build(Everything, make_snapshot(values)).settings.model_dump()
    except InvalidSettingsError as error:
        return sorted((problem.path, problem.code) for problem in error.problems)


@given(maps, st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_any_map_is_a_state_or_a_refusal_in_any_order(values: dict[str, Any], rng: random.Random) -> None:
    shuffled = list(values.items())
    rng.shuffle(shuffled)
    assert outcome(values) == outcome(dict(shuffled))


@given(maps)
@settings(max_examples=150, deadline=None)
def test_a_running_handle_survives_any_map(values: dict[str, Any]) -> None:
    client = MemoryClient({"a": "7"})
    handle = live(Everything, client=client)
    assert handle.current.a == 7
    accepted = client.publish(values)
    assert handle.status.rejected_version == (None if accepted else 2)
    for path in ("a", "node", "node.leaf.host", "maybe", "table", "first", "node.leaves"):
        str(handle.explain(path))
    assert client.publish({"a": "8"})
    assert handle.current.a == 8


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=5), max_size=20), st.text(max_size=4))
def test_an_index_never_loses_or_invents_a_value(values: dict[str, str], prefix: str) -> None:
    view = index(values, prefix)
    assert set(view.origins.values()) <= set(values)
    for name, key in view.origins.items():
        assert view.variables[name] == values[key]
    losers = {collision.loser for collision in view.collisions}
    if not prefix:
        assert set(view.origins.values()) | losers == set(values)
