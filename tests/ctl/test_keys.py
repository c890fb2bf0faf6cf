"""``config keys``: what it lists is what the loader reads."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, SecretStr

from stardust_auto.config.remote.snapshot import EMPTY, make_snapshot
from stardust_auto.config.typed.builder import build
from stardust_auto.config.typed.markers import Local, Static
from stardust_auto.config.typed.settings import StardustConfigDict, StardustSettings
from stardust_auto.ctl import lint
from stardust_auto.ctl.key_list import KEY_FORMATS, key_rows


class Database(BaseModel, frozen=True):
    host: str
    pool: int = Field(default=5, ge=1, le=50, description="open | connections")


class Sample(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")

    database: Database
    greeting: str = Field(default="hi", alias="greet.text", max_length=20)
    api_key: SecretStr = SecretStr("planted-secret")
    tags: tuple[str, ...] = ("a", "b")
    port: Annotated[int, Static, Local] = 8080


VALUES = {
    "database.host": "db1",
    "database.pool": "7",
    "greeting": "hello",
    "api_key": "k2",
    "tags": '["x"]',
    "port": "9",
}


def _at(settings: StardustSettings, path: str) -> object:
    found: object = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found.get_secret_value() if isinstance(found, SecretStr) else found


def _as_read(value: object) -> str:
    return json.dumps(list(value)) if isinstance(value, tuple) else str(value)


@pytest.mark.case("C72")
def test_every_documented_key_is_read_from_the_center() -> None:
    rows = [row for row in key_rows(Sample) if row.key]
    raw = make_snapshot({row.key: VALUES[row.path] for row in rows})
    settings = build(Sample, raw).settings
    assert {row.path: _as_read(_at(settings, row.path)) for row in rows} == {row.path: VALUES[row.path] for row in rows}


@pytest.mark.case("C72")
def test_every_documented_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = key_rows(Sample)
    for row in rows:
        monkeypatch.setenv(row.variable, VALUES[row.path])
    settings = build(Sample, EMPTY).settings
    assert {row.path: _as_read(_at(settings, row.path)) for row in rows} == VALUES


def test_rows_say_type_default_and_meaning() -> None:
    rows = {row.path: row for row in key_rows(Sample)}
    assert rows["database.host"].required
    assert (rows["database.pool"].type, rows["database.pool"].default) == ("int, >= 1, <= 50", "5")
    assert rows["database.pool"].key == "database:pool"
    assert rows["greeting"].key == "greet.text"
    assert rows["tags"].default == '["a", "b"]'
    assert rows["port"].key == ""
    assert rows["port"].marks == ("Local", "Static")


@pytest.mark.parametrize("form", sorted(KEY_FORMATS))
def test_no_form_shows_the_default_of_a_secret(form: str) -> None:
    text = KEY_FORMATS[form](Sample, key_rows(Sample))
    assert "planted-secret" not in text
    assert "SHOP_DATABASE__HOST" in text


def test_the_env_form_is_a_file_of_comments() -> None:
    lines = KEY_FORMATS["env"](Sample, key_rows(Sample)).splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    assert "#SHOP_DATABASE__POOL=5" in lines
    assert "#SHOP_API_KEY=" in lines


def test_the_json_schema_is_flat_and_says_what_is_allowed() -> None:
    schema = json.loads(KEY_FORMATS["jsonschema"](Sample, key_rows(Sample)))
    assert schema["required"] == ["database:host"]
    pool = schema["properties"]["database:pool"]
    assert (pool["minimum"], pool["maximum"], pool["x-variable"]) == (1, 50, "SHOP_DATABASE__POOL")
    assert schema["properties"]["api_key"]["x-secret"] is True
    assert "port" not in schema["properties"]


def test_markdown_escapes_its_own_separator() -> None:
    assert "open \\| connections" in KEY_FORMATS["md"](Sample, key_rows(Sample))


class Pool(BaseModel):
    max_conn: int = 1
    hosts: list[str] = []


class Inner(StardustSettings):
    debug: bool = False


class Careless(StardustSettings):
    model_config = StardustConfigDict(env_nested_delimiter="_")

    pool: Pool = Pool()
    inner: Inner = Field(default_factory=Inner)


@pytest.mark.case("C18")
def test_the_single_underscore_is_an_error() -> None:
    assert [line.partition(":")[0] for line in lint.errors(Careless)] == ["pool.max_conn"]
    assert not list(lint.errors(Sample))


@pytest.mark.case("C8", "C17", "C19", "C52")
def test_hints_name_what_will_surprise_somebody() -> None:
    raw = make_snapshot({"pool:hosts": "[]", "pool.hosts": "[]", "strange": "1"})
    text = "\n".join(lint.warnings(Careless, raw))
    assert "inner: Inner is a settings class itself" in text
    assert "pool: Pool can be changed in place" in text
    assert "pool.hosts: a list can be changed in place; tuple cannot" in text
    assert 'key "strange" of the center belongs to no field' in text
    assert 'keys "pool:hosts" and "pool.hosts" of the center mean the same field' in text
