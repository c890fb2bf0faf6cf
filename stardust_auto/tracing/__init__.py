"""Spans in memory: calls aggregated by name, with a few samples. Nothing here knows HTTP or the wire."""
