"""What type checkers must refuse: every marked line and no other. Never run."""

from __future__ import annotations

from pydantic import BaseModel

from stardust_auto import StardustConfigDict, StardustSettings, live


class Database(BaseModel, frozen=True):
    host: str
    pool: int = 5


class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_", stardust_app=5)  # error
    database: Database
    rate: float = 0.1


config = live(Settings)
wrong: str = config.current.database.pool  # error
config.current.nothing  # error  # noqa: B018
config.on_change(lambda s: s.nothing)  # error


@config.on_change(lambda s: s.database.pool)  # error
def one_argument(new: int) -> None: ...


@config.on_change(lambda s: s.database.pool)  # error
def wrong_type(old: str, new: str) -> None: ...


live(Settings, on_unavailable="sometimes")  # error
live(int)  # error
live(Settings).pin().nothing  # error  # noqa: B018
with config.override({"database.pool": 1}, scope="world"):  # error
    pass
