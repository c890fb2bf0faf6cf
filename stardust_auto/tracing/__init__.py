"""Spans in memory: what a call was, aggregated per name, with a few samples. Nothing here knows of HTTP or of the wire."""
