"""What goes over a connection of urllib3, whichever library asked for it: requests, urllib3 itself, botocore."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.outbound import body_ends, departing
from stardust_auto.process.context import current_span

if TYPE_CHECKING:
    from stardust_auto.instrumentation.kit.patches import Patches


def patch_wire(patches: Patches) -> None:
    """Let every request under a span of ours carry its context, and end the spans that wait for a body."""
    connection, response = patches.module("urllib3.connection"), patches.module("urllib3.response")
    if connection is not None:
        patches.wrap(connection.HTTPConnection, "endheaders", functools.partial(_endheaders, patches))
    if response is not None:
        for method in ("release_conn", "close"):
            patches.wrap(response.HTTPResponse, method, body_ends("urllib3"))


def _endheaders(patches: Patches, plain: Any) -> Any:
    """Wrapper of ``HTTPConnection.endheaders``: the last moment for one more header."""

    @functools.wraps(plain)
    def endheaders(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        span: Any = current_span.get()
        if span is not None:
            try:
                if departing(span, patches, self.host if getattr(self, "proxy", None) is None else _host(self)):
                    trace = span._trace_id
                    if type(trace) is int and getattr(self, "_HTTPConnection__state", "") == "Request-started":
                        # The bytes that putheader() would make in this state, at a third of its cost.
                        self._output(b"traceparent: 00-%032x-%016x-0%d" % (trace, span._span_id, span.flag & 1))
                    else:
                        self.putheader("traceparent", span.traceparent)
            except Exception as fault:  # noqa: BLE001 - the integration's own code; counted
                patches.fault(fault)
        return plain(self, *args, **kwargs)

    return endheaders


def _host(connection: Any) -> str | None:
    """Where this hop goes, which behind a proxy is not where the connection goes; ``None`` if that cannot be seen."""
    tunnel: str | None = getattr(connection, "_tunnel_host", None)
    if tunnel:
        return tunnel
    line = bytes(getattr(connection, "_buffer", [b""])[0]).decode("latin-1")
    return line.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0] or None
