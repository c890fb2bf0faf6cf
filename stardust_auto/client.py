"""``StardustClient``, where the official SDK has it."""

from stardust_auto.sdk.client import StardustClient

__all__ = ["StardustClient"]
