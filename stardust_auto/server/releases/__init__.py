"""Configuration releases: immutable sets, drafts, publishing, plans, and what instances say about them."""

from __future__ import annotations

from stardust_auto.server.releases.feedback import Feedback
from stardust_auto.server.releases.releases import Published, Releases

__all__ = ["Feedback", "Published", "Releases"]
