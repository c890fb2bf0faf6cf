"""Which keys of the center belong to a field, at every level, and in which case."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import AliasPath, BaseModel, Field

from stardust_auto import live
from stardust_auto.config import InvalidSettingsError, MemoryClient, StardustConfigDict, StardustSettings


class Database(BaseModel, frozen=True):
    password: str = ""
    pool: int = 5
    options: dict[str, int] = {}


class Shop(StardustSettings):
    database: Database = Database()
    level: str = "info"
    limits: dict[str, int] = {}  # noqa: RUF012 - as above
    tags: list[str] = []  # noqa: RUF012 - as above
    replicas: list[Database] = []  # noqa: RUF012 - as above
    free: Any = None
    url: str = Field("", alias="api.url")


@pytest.mark.parametrize("key", ["database:pasword", "level:deep", "replicas:0:pasword", "api:urll", "databse:pool"])
def test_a_mistyped_key_is_reported_at_any_level(key: str, lines: pytest.LogCaptureFixture) -> None:
    handle = live(Shop, client=MemoryClient({key: "x", "database:pool": "7"}))
    assert handle.current.database.pool == 7
    assert handle.status.unknown_keys == (key,)
    assert key in lines.text


@pytest.mark.parametrize("key", ["database:pasword", "level:deep"])
def test_a_mistyped_nested_key_is_refused_where_unknown_keys_are(key: str) -> None:
    class Forbidding(Shop):
        model_config = StardustConfigDict(stardust_unknown_keys="forbid")

    with pytest.raises(InvalidSettingsError, match=f"{key} from Stardust memory v1: no field takes it"):
        live(Forbidding, client=MemoryClient({key: "x"})).start()


@pytest.mark.parametrize(
    "key",
    [
        "Database:Options:any",
        "limits:Berlin",
        "tags:3",
        "replicas:0:pool",
        "free:a:b",
        "api:url",
        "api.url",
        "$Registry:x",
    ],
)
def test_a_key_that_can_fill_something_is_known(key: str) -> None:
    assert live(Shop, client=MemoryClient({})).status.unknown_keys == ()
    handle = live(Shop, client=MemoryClient({key: "1" if "pool" not in key else "2"}))
    handle.start()
    assert handle.status.unknown_keys == ()


def test_a_prefix_is_a_level_and_no_part_of_a_word() -> None:
    class Prefixed(StardustSettings):
        model_config = StardustConfigDict(stardust_key_prefix="shop")
        ping: str = ""
        debug: str = ""
        pool: str = ""

    handle = live(Prefixed, client=MemoryClient({"shopping": "x", "shop:_debug": "y", "shop:pool": "z"}))
    assert (handle.current.ping, handle.current.debug, handle.current.pool) == ("", "", "z")


def test_keys_of_dicts_keep_their_case_and_the_environment_overrides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MemoryClient({"limits:Berlin": "1", "limits:rome": "2", "database:options:MaxSize": "3"})
    handle = live(Shop, client=client)
    assert handle.current.limits == {"Berlin": 1, "rome": 2}
    assert handle.current.database.options == {"MaxSize": 3}
    monkeypatch.setenv("LIMITS__BERLIN", "9")
    handle.reload()
    assert handle.current.limits == {"Berlin": 9, "rome": 2}
    assert str(handle.explain("limits.Berlin").value) == "9"


def test_a_key_for_one_element_wins_over_the_whole_list() -> None:
    client = MemoryClient(
        {"replicas": '[{"pool": 1}, {"pool": 2}]', "replicas:1:pool": "3", "tags": '["a"]', "tags:1": "b"}
    )
    handle = live(Shop, client=client)
    assert [one.pool for one in handle.current.replicas] == [1, 3]
    assert handle.current.tags == ["a", "b"]


def test_a_missing_number_in_a_list_is_reported(lines: pytest.LogCaptureFixture) -> None:
    handle = live(Shop, client=MemoryClient({"tags:0": "a", "tags:2": "c"}))
    assert handle.current.tags == ["a", "c"]
    assert "a number is missing before tags:2" in lines.text


def test_a_place_in_a_list_is_filled_from_numbered_keys_too() -> None:
    class Pair(StardustSettings):
        first: int = Field(0, validation_alias=AliasPath("pair", 0))
        second: int = Field(0, validation_alias=AliasPath("pair", 1))

    assert live(Pair, client=MemoryClient({"pair:1": "2"})).current == Pair.model_construct(first=0, second=2)
    handle = live(Pair, client=MemoryClient({"pair:0": "1", "pair:1": "2"}))
    assert (handle.current.first, handle.current.second) == (1, 2)
    assert handle.status.unknown_keys == ()


def test_json_that_is_too_deep_is_refused_as_a_value() -> None:
    handle = live(Shop, client=MemoryClient({"tags": "[" * 100_000}))
    with pytest.raises(InvalidSettingsError, match=r"tags from .*should be a JSON array"):
        handle.start()
