"""For every test: secrets stay secret (``privacy_guard.py``)."""

from __future__ import annotations

pytest_plugins = ["_kit.privacy_guard"]
