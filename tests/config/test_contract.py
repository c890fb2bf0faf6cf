"""What we use of pydantic-settings beyond its documentation, so that a new minor version fails here first.

Run on the first of each minor that we support, and on the newest: ``.ci/run`` has the oldest, the others are whatever is installed.
"""

from __future__ import annotations

import ast
import inspect
import logging
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import pydantic.dataclasses
import pydantic_settings
import pytest
from pydantic import BaseModel, Field
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
)
from pydantic_settings.sources import DefaultSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from stardust_auto import live
from stardust_auto.config import MemoryClient, StardustSettings
from stardust_auto.config.typed import builder as build
from stardust_auto.config.typed import settings, source

#: Every private name of pydantic-settings in our code; each has a test below.
PRIVATE = {
    "_build_sources",
    "_settings_build_values",
    "_settings_init_sources",
    "_cli_settings_source",
    "_extract_field_info",
    "_load_env_vars",
    "_settings_log_debug",
}


@pytest.mark.case("C75")
def test_no_other_private_name_is_used() -> None:
    theirs = {
        name
        for owner in (BaseSettings, CliSettingsSource, DefaultSettingsSource)
        for base in owner.__mro__
        if base.__module__.startswith("pydantic")
        for name in (*vars(base), *inspect.signature(base.__init__).parameters)  # type: ignore[misc]  # the class that is looked at
        if name.startswith("_") and not name.endswith("__")
    }
    ours: set[str] = set()
    for module in (build, settings, source):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.FunctionDef):
                ours.add(node.name)
            elif isinstance(node, ast.Attribute):
                ours.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                ours.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                ours.add(node.arg)
    assert ours & theirs == PRIVATE & theirs  # 2.14 has no debug output yet
    assert ours >= PRIVATE


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
    assert Plain(_build_sources=((given,), {})).a == "given"  # type: ignore[call-arg]  # private


def test_the_data_of_the_sources_is_complete_after_the_build_and_names_ours() -> None:
    class Shop(StardustSettings):
        a: str = ""

    handle = live(Shop, client=MemoryClient({"a": "r"}, app_id="shop", scope="prod"), init={"a": "init"})
    handle.start()
    built = handle._loader.state.accepted
    assert built is not None
    assert built.layers.stardust == "stardust:shop:prod"
    assert list(built.layers.data) == [
        "InitSettingsSource",
        "EnvSettingsSource",
        "DotEnvSettingsSource",
        "SecretsSettingsSource",
        "stardust:shop:prod",
        "DefaultSettingsSource",
    ]


def test_the_default_source_is_last_and_so_named() -> None:
    names: list[str] = []
    made: list[Any] = []

    class Plain(BaseSettings):
        a: str = "default"

        @classmethod
        def settings_customise_sources(  # type: ignore[override]  # the others have no use here
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **others: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            class Last(InitSettingsSource):
                def __call__(self) -> dict[str, object]:
                    self.kept = self.settings_sources_data
                    names.append("asked")
                    return super().__call__()

            last = Last(settings_cls, init_kwargs={})
            made.append(last)
            return (init_settings, last)

    Plain()
    assert names == ["asked"]
    assert list(made[-1].kept)[-1] == DefaultSettingsSource.__name__ == "DefaultSettingsSource"


def test_a_parsed_command_line_is_taken_as_it_is() -> None:
    class Plain(BaseSettings):
        level: str = ""

    parsed = CliSettingsSource[Any](Plain, cli_parse_args=["--level", "line"])
    assert Plain(_cli_settings_source=parsed).level == "line"  # type: ignore[call-arg]  # of pydantic-settings


def test_the_debug_output_goes_through_one_method(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where that method does not exist yet there is no such output, so nothing can leak through it."""
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    caplog.set_level(logging.DEBUG)

    class Shop(StardustSettings):
        a: str = ""

    monkeypatch.setenv("A", "planted-value")
    assert Shop().a == "planted-value"
    assert "planted-value" not in caplog.text
    if hasattr(BaseSettings, "_settings_log_debug"):
        assert list(inspect.signature(BaseSettings._settings_log_debug).parameters) == ["states"]


def test_models_and_pydantic_dataclasses_tell_their_fields() -> None:
    @pydantic.dataclasses.dataclass(config={"frozen": True})
    class Decorated:
        a: int = Field(1, alias="A")

    @dataclass
    class Plain:
        a: int = 1

    assert vars(Decorated)["__pydantic_fields__"]["a"].alias == "A"
    assert vars(Decorated)["__pydantic_config__"]["frozen"] is True
    assert not hasattr(Plain, "__pydantic_fields__")


def test_no_decode_is_a_mark_among_the_metadata() -> None:
    class Plain(BaseSettings):
        a: Annotated[list[str], NoDecode] = []

    assert NoDecode in Plain.model_fields["a"].metadata


def test_parse_env_vars_marks_none_texts() -> None:
    parsed = parse_env_vars({"a": "null", "b": "x"}, False, False, "null")
    assert type(parsed["a"]).__name__ == "EnvNoneType"
    assert parsed["b"] == "x"
