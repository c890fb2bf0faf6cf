"""The generator of random waits."""

from stardust_auto.process.backoff import generator

__all__ = ["generator"]
