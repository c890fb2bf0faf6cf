"""The kind of an operation, which its name's prefix tells: what the platform's console groups by (protocol.md §3.3)."""

from __future__ import annotations


def kind_of(name: str) -> str:
    """``api`` for ``/path``, ``http`` for a URL, ``mq`` for ``redismq:``, else the text before the first colon, or ``other``."""
    if name.startswith("/"):
        return "api"
    if name[:8].lower().startswith(("http://", "https://")):
        return "http"
    if name.startswith("redismq:"):
        return "mq"
    head, colon, _ = name.partition(":")
    return head if colon and head else "other"
