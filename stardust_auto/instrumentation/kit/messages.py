"""Messages that the program hands to a broker, and those that it works on.

``mq:{destination}:Add`` and ``mq:{destination}:Consume``: the kind that the platform shows for queues (protocol.md §3.3). The trace goes
along as a header ``traceparent`` of the message. What a message says is never looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stardust_auto.tracing.naming import NameCache, operation_name
from stardust_auto.tracing.propagation import extract
from stardust_auto.tracing.span import LiveSpan

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.tracer import Tracer

_HEADER = "traceparent"


class MessageCall(NamedTuple):
    """A message that was handed over or worked on. ``facts``: what may be told of it, such as its queue and its number of retries."""

    operation: str
    destination: str
    facts: tuple[tuple[str, object], ...] = ()

    def tag(self) -> str:
        """``Add orders``, and a line for each fact."""
        return "\r\n".join(
            (f"{self.operation} {self.destination}", *(f"{name}: {value}" for name, value in self.facts))
        )


class MessageSpan(LiveSpan):
    """A message that is handed over (``Add``) or worked on (``Consume``)."""

    __slots__ = ("call",)

    call: MessageCall

    def describe(self) -> str:
        """What may be told of the message."""
        return self.call.tag()


class _MessageNames(NameCache):
    def make(self, key: str) -> str:
        destination, _, operation = key.rpartition(":")
        return f"mq:{operation_name(destination).replace(':', '_')}:{operation}"


_NAMES = _MessageNames()


def _open(tracer: Tracer, parent: Any, call: MessageCall) -> MessageSpan:
    span = tracer.begin(_NAMES[f"{call.destination}:{call.operation}"], parent, MessageSpan)
    span.call = call
    return span


def open_publish(tracer: Tracer, parent: Any, destination: str, **facts: object) -> MessageSpan:
    """The span of a message that is handed to a broker under ``parent``."""
    return _open(tracer, parent, MessageCall("Add", destination, tuple(facts.items())))


def open_consume(
    tracer: Tracer, parent: Any, destination: str, header: Callable[[str], Any], **facts: object
) -> MessageSpan:
    """The span of a message that is worked on, in the trace of whoever sent it.

    Args:
        header: value of a header of the message, by its name.
    """

    def text(name: str) -> str | None:
        value = header(name)
        return value if isinstance(value, str) else None

    return _open(tracer, extract(text) or parent, MessageCall("Consume", destination, tuple(facts.items())))


def send_along(patches: Patches, span: object, headers: MutableMapping[str, Any] | None) -> None:
    """Put the trace of ``span`` into the headers of its message, unless the program has, or ``STARDUST_PROPAGATE_TO=none`` forbids it."""
    hosts = patches.settings.propagate_to
    allowed = hosts is None or any(host.lower() != "none" for host in hosts)
    if isinstance(span, MessageSpan) and headers is not None and allowed and _HEADER not in headers:
        headers[_HEADER] = span.traceparent
