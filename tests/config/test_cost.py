# ruff: noqa: RUF012 - pydantic copies the defaults of fields
"""What it costs, and that every documented name works."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import AliasChoices, BaseModel, Field

from stardust_auto import live
from stardust_auto.config import CsvList, MemoryClient, StardustConfigDict, StardustSettings
from stardust_auto.config.typed.fields import remote_key, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parent.parent.parent / "benchmarks" / "config_build.py"
    spec = importlib.util.spec_from_file_location("config_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["config_build"] = module
    spec.loader.exec_module(module)
    return module


def python_calls(work: Callable[[], object]) -> int:
    """How many Python functions ``work`` calls: what a benchmark times (benchmarks/config_build.py), but the same on any machine."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    work()  # whatever is made once is made
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.case("C76")
@pytest.mark.parametrize("shape", ["scalars", "models"])
def test_foreign_keys_cost_a_build_nothing(benchmark: ModuleType, shape: str) -> None:
    settings, values = getattr(benchmark, shape)(50)
    alone, crowded = benchmark.raw(values), benchmark.raw(values, 10_000)
    few = python_calls(lambda: benchmark.build(settings, alone))
    assert python_calls(lambda: benchmark.build(settings, crowded)) < 1.02 * few


@pytest.mark.case("C76")
def test_a_build_grows_with_its_fields_and_no_faster(benchmark: ModuleType) -> None:
    def calls(count: int) -> int:
        settings, values = benchmark.scalars(count)
        snapshot = benchmark.raw(values, 10_000)
        return python_calls(lambda: benchmark.build(settings, snapshot))

    assert calls(200) < 2.2 * calls(100)


@pytest.mark.case("C76")
def test_reading_a_field_is_one_call(benchmark: ModuleType) -> None:
    settings, values = benchmark.scalars(3)
    config = live(settings, client=MemoryClient(values))
    assert python_calls(lambda: config.current) <= 2  # the lambda and the property


class Documented(StardustSettings):
    class Db(BaseModel, frozen=True):
        class Pool(BaseModel, frozen=True):
            max_size: str = ""

        host: str = ""
        user_name: str = Field("", alias="userName")
        pool: Pool = Pool()

    model_config = StardustConfigDict(env_prefix="SHOP_", stardust_key_prefix="shop:")
    level: str = ""
    url: str = Field("", alias="api.url")
    choice: str = Field("", validation_alias=AliasChoices("first", "second"))
    hosts: CsvList[str] = []
    db: Db = Db()  # type: ignore[call-arg]  # an alias has a default


def value_at(settings: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        settings = getattr(settings, name)
    return settings


@pytest.mark.case("C72")
@pytest.mark.parametrize("path", [node.path for node in tree_of(Documented).leaves()], ids=".".join)
def test_every_documented_name_is_what_is_read(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    node = tree_of(Documented).find(path)
    assert node is not None
    expected = ["planted"] if node.sequence else "planted"
    key, variable = remote_key(node, Documented.model_config), node.environment_name(Documented.model_config)
    handle = live(Documented, client=MemoryClient({key: "planted"}))
    assert value_at(handle.current, path) == expected
    assert handle.explain(".".join(path)).key == key
    monkeypatch.setenv(variable, "stronger")
    handle.reload()
    assert value_at(handle.current, path) == (["stronger"] if node.sequence else "stronger")
    assert str(handle.explain(".".join(path)).winner) == f"env {variable}"
