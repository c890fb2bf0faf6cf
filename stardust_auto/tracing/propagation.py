"""Trace context in and out of headers (protocol.md §5.2, §5.3), and which hosts may receive it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stardust_auto.tracing.span import SpanContext
from stardust_auto.wire.wildcards import compile_wildcards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stardust_auto.tracing.span import Span

#: Longer ids would lose every sample of their builder on the server (protocol.md §12.1, 10).
_ID_LIMIT = 50
_HOST_CACHE = 1024


def extract(header: Callable[[str], str | None]) -> SpanContext | None:
    """The caller's context, from the first of the platform's headers that is there. Never raises.

    ``traceparent`` with a trace id of any length (the .NET client's have 30 characters), then ``Request-Id``, ``Eagleeye-Traceid`` and
    ``TraceId``. A header that cannot be read counts as not sent.
    """
    try:
        value = header("traceparent")
        if value:
            return _traceparent(value)
        value = header("Request-Id")
        if value:
            parts = value.replace("_", ".").split(".")
            parts = [part for part in parts if part]
            return _context(parts[0].lstrip("|"), parts[-1] if len(parts) > 1 else "", 0) if parts else None
        value = header("Eagleeye-Traceid")
        if value:
            trace_id, _, span_id = value.partition("-")
            return _context(trace_id, span_id, 0)
        value = header("TraceId")
        if value:
            return _traceparent(value) if "-" in value else _context(value, "", 0)
    except Exception:  # noqa: BLE001 - whatever a client sends must not fail a request
        return None
    return None


def _traceparent(value: str) -> SpanContext | None:
    parts = value.strip().split("-")
    if len(parts) < 3 or parts[0].lower() == "ff" or len(parts[0]) != 2:
        return None
    if parts[0] == "00" and len(parts) > 4:
        return None
    flag = 0
    if len(parts) > 3:
        if not _is_hex(parts[3][:2]):
            return None
        flag = int(parts[3][:2], 16) & 1
    return _context(parts[1], parts[2], flag)


def _context(trace_id: str, span_id: str, flag: int) -> SpanContext | None:
    if not _usable(trace_id) or (span_id and not _usable(span_id)):
        return None
    return SpanContext(trace_id, span_id, flag)


def _usable(text: str) -> bool:
    return 0 < len(text) <= _ID_LIMIT and text.isascii() and text.replace(".", "").isalnum() and bool(text.strip("0"))


def _is_hex(text: str) -> bool:
    return len(text) == 2 and all(c in "0123456789abcdefABCDEF" for c in text)


def format_traceparent(span: Span | SpanContext) -> str:
    """``00-<trace>-<span>-<flag>``; the flag tells whether the caller keeps its own span."""
    return f"00-{span.trace_id}-{span.span_id}-0{span.flag & 1}"


class PropagationRule:
    """Decides which hosts receive trace headers.

    Args:
        allow: host names with ``*`` and ``?``; only these hosts do. ``None``: loopback and private addresses, host names without a dot,
            internal suffixes such as ``.local``, and the registered domains in ``own_domains``.
        own_domains: host names such as the Stardust server's.
    """

    __slots__ = ("_allow", "_known", "_own")

    def __init__(self, allow: tuple[str, ...] | None = None, own_domains: Iterable[str] = ()) -> None:
        if allow is not None:
            allow = tuple(entry for entry in allow if entry.lower() != "none")
        self._allow = compile_wildcards(allow) if allow is not None else None
        self._own = frozenset(domain for domain in map(registered_domain, own_domains) if domain)
        self._known: dict[str, bool] = {}

    def allows(self, host: str | None) -> bool:
        """Whether a request to ``host`` (a name or an address, without port) may carry trace headers."""
        if not host:
            return False
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _HOST_CACHE:
                self._known.clear()
            known = self._known[host] = self._decide(host)
        return known

    def _decide(self, host: str) -> bool:
        name = host.strip("[]").rstrip(".").lower()
        if self._allow is not None:
            return self._allow(name)
        address = _address(name)
        if address is not None:
            return address
        if "." not in name or name.endswith((".local", ".internal", ".localhost", ".lan", ".intranet", ".svc")):
            return True
        return registered_domain(name) in self._own


def _address(name: str) -> bool | None:
    """For an IP address whether it is private; ``None`` for a name."""
    if not (":" in name or name.replace(".", "").isdigit()):
        return None
    import ipaddress

    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return address.is_private or address.is_loopback or address.is_link_local


def registered_domain(host: str) -> str:
    """The part of ``host`` that one owner registered: two labels, three under suffixes such as ``com.cn`` and ``co.uk``; else ``""``."""
    labels = host.strip("[]").rstrip(".").lower().split(".")
    if len(labels) < 2 or _address(".".join(labels)) is not None:
        return ""
    generic = ("com", "co", "net", "org", "gov", "edu", "ac", "or", "ne", "go")
    wide = len(labels[-1]) == 2 and labels[-2] in generic
    size = 3 if wide else 2
    return ".".join(labels[-size:]) if len(labels) >= size else ""
