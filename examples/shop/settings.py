"""The shop's settings: a typed class like any other pydantic-settings class; nothing here knows about tracing.

Each value can come from the environment (SHOP_DISCOUNT=5, SHOP_STOCK__MAX_PER_ORDER=2), from the configuration center
(keys ``discount``, ``stock:max_per_order``), or is the default below. The environment wins over the center.
"""

from pydantic import BaseModel, Field

from stardust_auto import StardustConfigDict, StardustSettings


class StockPolicy(BaseModel, frozen=True):
    max_per_order: int = Field(default=3, ge=1, le=10, description="pieces of one item in one order")


class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")

    greeting: str = Field(default="Welcome", min_length=1, max_length=40, description="first words on the page")
    discount: int = Field(default=0, ge=0, le=90, description="percent off every order")
    stock: StockPolicy = StockPolicy()
