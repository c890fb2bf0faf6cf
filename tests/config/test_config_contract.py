"""What we use of pydantic-settings beyond its documentation, so that a new minor version fails here first: config.md §6, case 75."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pydantic_settings
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from stardust_auto.config import MemoryClient, StardustSettings, live
from stardust_auto.config.source import StardustSource


def test_the_version_is_one_that_we_support() -> None:
    major, minor = version("pydantic-settings").split(".")[:2]
    assert (int(major), int(minor)) >= (2, 14), "below the lowest version of pyproject.toml"
    assert hasattr(pydantic_settings, "SettingsError")


def test_load_env_vars_is_called_by_the_constructor() -> None:
    class Probe(EnvSettingsSource):
        def _load_env_vars(self) -> dict[str, str | None]:
            return {"a": "probe"}

    class Plain(BaseSettings):
        a: str = ""

    assert Probe(Plain).env_vars == {"a": "probe"}
    assert Probe(Plain)() == {"a": "probe"}


def test_extract_field_info_gives_key_name_and_complexity() -> None:
    class Plain(BaseSettings):
        a: str = Field("", alias="Api.Url")
        b: list[int] = []

    source = EnvSettingsSource(Plain)
    assert source._extract_field_info(Plain.model_fields["a"], "a") == [("Api.Url", "api.url", False)]
    assert [entry[:2] for entry in source._extract_field_info(Plain.model_fields["b"], "b")] == [("b", "b")]


def test_explode_env_vars_takes_a_part_of_the_map() -> None:
    class Model(BaseModel):
        x: int = 0

    class Plain(BaseSettings):
        m: Model = Model()

    source = EnvSettingsSource(Plain, env_nested_delimiter="__")
    assert source.explode_env_vars("m", Plain.model_fields["m"], {"m__x": "1", "other__x": "2"}) == {"x": "1"}
    assert list(inspect.signature(EnvSettingsSource.explode_env_vars).parameters) == [
        "self",
        "field_name",
        "field",
        "env_vars",
    ]


def test_a_max_split_of_zero_is_no_limit() -> None:
    class Plain(BaseSettings, env_nested_max_split=1):
        a: str = ""

    assert EnvSettingsSource(Plain).maxsplit == 0
    assert EnvSettingsSource(Plain, env_nested_max_split=0).maxsplit == -1


def test_build_sources_replaces_the_sources() -> None:
    class Plain(BaseSettings):
        a: str = ""

    given = InitSettingsSource(Plain, init_kwargs={"a": "given"})
    assert Plain(_build_sources=((given,), {})).a == "given"


def test_the_data_of_the_sources_is_complete_after_the_build_and_names_ours() -> None:
    class Shop(StardustSettings):
        a: str = ""

    handle = live(Shop, client=MemoryClient({"a": "r"}, app_id="shop", scope="prod"), a="init")
    handle.start()
    built = handle._holder.built
    assert built is not None
    assert isinstance(built.source, StardustSource)
    assert list(built.layers) == [
        "InitSettingsSource",
        "EnvSettingsSource",
        "DotEnvSettingsSource",
        "SecretsSettingsSource",
        "stardust:shop:prod",
        "DefaultSettingsSource",
    ]


def test_parse_env_vars_marks_none_texts() -> None:
    parsed = parse_env_vars({"a": "null", "b": "x"}, False, False, "null")
    assert type(parsed["a"]).__name__ == "EnvNoneType"
    assert parsed["b"] == "x"
