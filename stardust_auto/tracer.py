"""``StardustTracer``, ``Span`` and ``SpanBuilder``, where the official SDK has them."""

from stardust_auto.sdk.tracer import StardustTracer
from stardust_auto.tracing.builder import SpanBuilder
from stardust_auto.tracing.span import Span

__all__ = ["Span", "SpanBuilder", "StardustTracer"]
