"""What the server keeps: one SQLite file, one class per subject."""

from __future__ import annotations

from stardust_auto.server.store.store import Store

__all__ = ["Store"]
