"""``ConfigClient``, where the official SDK has it."""

from stardust_auto.config.remote.client import ConfigClient

__all__ = ["ConfigClient"]
