"""What ``config check`` says of a settings class whatever the values are, and which place in the center it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stardust_auto.config.remote.clients import center_of
from stardust_auto.ctl.settings_class import find_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _kit.ctl import Result

HEAD = """
from typing import Annotated

from pydantic import AliasChoices, AliasPath, BaseModel, Field
from pydantic_settings import BaseSettings

from stardust_auto import Local, StardustConfigDict, StardustSettings
"""


@pytest.fixture
def check(shop: Callable[..., Result], program: str, own_place: Path) -> Callable[..., Result]:
    """Write a module with a class ``Settings`` and let ``config check`` look at it."""
    shop("config", "set", "a=1", "--publish")

    def run(source: str, *words: str) -> Result:
        (own_place / "shop_settings.py").write_text(HEAD + source)
        return shop("config", "check", program, *words)

    return run


@pytest.mark.case("C18")
def test_one_underscore_as_delimiter_loses_fields_that_have_one(check: Callable[..., Result]) -> None:
    found = check(
        """
class Pool(BaseModel, frozen=True):
    max_conn: int = 1
    size: int = 1

class Settings(StardustSettings):
    model_config = StardustConfigDict(env_nested_delimiter="_", stardust_unknown_keys="ignore")
    pool: Pool = Pool()
"""
    )
    assert found.code == 1
    assert found.out.splitlines()[0] == (
        "error: pool.max_conn: the environment variable POOL_MAX_CONN does not reach it, because env_nested_delimiter is "
        "'_' and the name has one too; use '__'"
    )
    assert "pool.size" not in found.out


@pytest.mark.case("C18")
def test_a_limit_of_one_level_makes_one_underscore_unambiguous(check: Callable[..., Result]) -> None:
    source = """
class Pool(BaseModel, frozen=True):
    max_conn: int = 1

class Settings(StardustSettings):
    model_config = StardustConfigDict(env_nested_delimiter="_", env_nested_max_split=1)
    pool: Pool = Pool()
"""
    assert check(source).code == 0


@pytest.mark.case("C19")
def test_a_settings_class_inside_a_settings_class_is_said(check: Callable[..., Result]) -> None:
    found = check(
        """
class Inner(BaseSettings):
    host: str = ""

class Settings(StardustSettings):
    inner: Inner = Field(default_factory=Inner)
"""
    )
    assert found.code == 0
    assert (
        "warning: inner: Inner is a settings class itself and reads variables of its own; make it a BaseModel"
        in found.out
    )


@pytest.mark.case("C52")
def test_what_can_be_changed_in_place_is_said(check: Callable[..., Result]) -> None:
    found = check(
        """
class Soft(BaseModel):
    tags: list[str] = []

class Hard(BaseModel, frozen=True):
    tags: tuple[str, ...] = ()

class Settings(StardustSettings):
    soft: Soft = Soft()
    hard: Hard = Hard()
    labels: dict[str, str] = {}
"""
    )
    assert [line for line in found.out.splitlines() if "in place" in line] == [
        "warning: soft: Soft can be changed in place; make it frozen",
        "warning: soft.tags: a list can be changed in place; tuple cannot",
        "warning: labels: a dict can be changed in place; Mapping cannot",
    ]


def test_two_fields_that_one_key_fills_are_said(check: Callable[..., Result]) -> None:
    found = check(
        """
class Db(BaseModel, frozen=True):
    host: str = ""
    name: str = Field("", alias="Host")

class Settings(StardustSettings):
    db: Db = Db()
    db_host: str = Field("", alias="db.host")
    first: str = Field("", validation_alias=AliasChoices("first", "shared"))
    second: str = Field("", validation_alias=AliasChoices("second", "SHARED"))
""",
        "--strict",
    )
    assert found.code == 1
    assert [line for line in found.out.splitlines() if "fills" in line] == [
        'warning: db.name: the key "db:host" of the center fills db.host too; give one of them another name',
        'warning: db_host: the key "db:host" of the center fills db.host too; give one of them another name',
        'warning: second: the key "shared" of the center fills first too; give one of them another name',
    ]


def test_places_of_one_list_and_local_fields_are_no_twins(check: Callable[..., Result]) -> None:
    found = check(
        """
class Settings(StardustSettings):
    low: int = Field(0, validation_alias=AliasPath("pair", 0))
    high: int = Field(0, validation_alias=AliasPath("pair", 1))
    host: str = ""
    bind: Annotated[str, Local] = Field("", validation_alias="HOST")
"""
    )
    assert "fills" not in found.out


NAMED = """
class Settings(StardustSettings):
    model_config = StardustConfigDict(
        stardust_server="http://class:6600", stardust_app="class_app", stardust_scope="class_scope"
    )
"""


@pytest.mark.parametrize("given", [(), ("SERVER",), ("SCOPE",), ("APP_ID",), ("SERVER", "SCOPE", "APP_ID")])
def test_a_class_is_looked_for_where_the_program_itself_looks(
    program: str, own_place: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    (own_place / "shop_settings.py").write_text(HEAD + NAMED)
    values = {"SERVER": "http://environment:6600", "SCOPE": "environment_scope", "APP_ID": "environment_app"}
    for name in given:
        monkeypatch.setenv(f"STARDUST_{name}", values[name])
    found = find_program(program, None, None, None)
    own = center_of(found.settings.model_config)
    assert own is not None
    assert (found.target.servers, found.target.app, found.target.scope) == (own.servers, own.app_id, own.scope)
    assert found.target.app == "class_app"
    asked = find_program(program, "http://option:6600", "option_app", "option_scope").target
    assert (asked.server, asked.app, asked.scope) == ("http://option:6600", "option_app", "option_scope")


def test_a_server_of_the_class_that_cannot_be_used_is_told_as_such(
    ctl: Callable[..., Result], program: str, own_place: Path
) -> None:
    (own_place / "shop_settings.py").write_text(HEAD + NAMED.replace("http://class", "gopher://class"))
    result = ctl("config", "show", program)
    assert result.code == 2
    assert "stardust_server 'gopher://class:6600' of Settings cannot be used" in result.err
