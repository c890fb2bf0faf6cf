# ruff: noqa: RUF012 - pydantic copies the defaults of fields
"""What type checkers must see: checked with mypy --strict (with and without the pydantic plugin) and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, SecretStr
from typing_extensions import assert_type

from stardust_auto import (
    ConfigClient,
    CsvList,
    Live,
    Local,
    Masked,
    Replace,
    StardustConfigDict,
    StardustSettings,
    Static,
    live,
)
from stardust_auto.config import Explanation, InvalidSettingsError, MemoryClient, Subscription


class Database(BaseModel, frozen=True):
    host: str
    pool: int = 5


class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_", env_nested_delimiter="__", stardust_app="shop")
    database: Database
    api_key: SecretStr
    sample_rate: float = 0.1
    tags: CsvList[str] = []
    port: Annotated[int, Static, Local] = 80
    options: Annotated[dict[str, str], Replace, Masked] = {}


config = live(Settings)
assert_type(config, Live[Settings])
assert_type(config.current, Settings)
assert_type(config(), Settings)
assert_type(config.current.database.pool, int)
assert_type(config.current.tags, list[str])
assert_type(config.current.port, int)
assert_type(config.current.options, dict[str, str])
assert_type(config.start(timeout=5), Settings)

with config.pin() as settings:
    assert_type(settings, Settings)
with config.override({"database.pool": 1}) as overridden:
    assert_type(overridden, Settings)


@config.on_change(lambda s: s.database.pool)
def resize(old: int, new: int) -> None: ...


assert_type(resize, Callable[[int, int], None])


@config.on_change(lambda s: s.sample_rate)
async def sampled(old: float, new: float) -> None: ...


@config.on_change("database.pool")
def by_path(old: int, new: int) -> str:
    return str(new - old)


class Listener:
    def changed(self, old: str, new: str) -> None: ...


assert_type(config.on_change(lambda s: s.database.host, Listener().changed), Subscription[Settings])


@config.on_rejected
def refused(error: InvalidSettingsError) -> None: ...


async def main() -> None:
    assert_type(await config.start_async(), Settings)


def work(number: int) -> str:
    return str(number)


assert_type(config.bind(work)(1), str)
assert_type(config.explain("database.pool"), Explanation)
memory = MemoryClient({"database:host": "h"})
assert_type(live(Settings, client=memory, start_timeout=1.0, on_unavailable="cache").current.database, Database)
live(Settings, client=ConfigClient("http://127.0.0.1:6600", "shop"))
client = ConfigClient()
assert_type(client.get("a"), str)
assert_type(client.get("a", None), str | None)
assert_type(client.get_int("a", 1), int)
assert_type(client.get_bool("a"), bool)
assert_type(client.get_all(), dict[str, str])
