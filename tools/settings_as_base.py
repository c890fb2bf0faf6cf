"""A pytest plugin for pydantic-settings' own suite: ``StardustSettings`` takes the place of ``BaseSettings`` in it.

``python tools/upstream.py pydantic-settings`` runs it. ``STARDUST_AS_BASE=neutral`` switches the documented defaults of the base class
back: what then still differs is no matter of defaults.
"""

from __future__ import annotations

import os

import pydantic_settings
from pydantic_settings import main, sources

from stardust_auto.config import StardustConfigDict, StardustSettings

#: pydantic-settings' own defaults, where ours differ (docs/settings.md, "Options").
_NEUTRAL = StardustConfigDict(
    frozen=False,
    extra="forbid",
    env_nested_delimiter=None,
    env_ignore_empty=False,
    nested_model_default_partial_update=False,
    hide_input_in_errors=False,
)


class NeutralSettings(StardustSettings):
    """``StardustSettings`` with the defaults of ``BaseSettings``."""

    model_config = _NEUTRAL


kind = os.environ.get("STARDUST_AS_BASE")
if kind:
    base = NeutralSettings if kind == "neutral" else StardustSettings
    base.__name__ = "BaseSettings"  # the ids of some tests have it
    for module in (pydantic_settings, main, sources):
        if hasattr(module, "BaseSettings"):
            module.BaseSettings = base
    pydantic_settings.SettingsConfigDict = StardustConfigDict
