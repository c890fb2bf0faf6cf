"""requests: one span for each ``Session.send`` that the program causes; redirects and retries are part of it.

Trace headers go in at urllib3's entry, hop by hop: the caller's headers, its PreparedRequest and ``response.request`` stay as they are.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation._http import HttpSpan, open_span
from stardust_auto.instrumentation.registry import Integration, registry
from stardust_auto.instrumentation.urllib3 import patch_transport
from stardust_auto.tracing.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.patches import Patches


def _send(patches: Patches) -> Callable[[Any], Any]:
    get_current: Callable[[], Any] = current_span.get

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def send(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            parent = get_current()
            request: Any = args[0] if args else kwargs.get("request")
            url = getattr(request, "url", None)
            if patches.tracer is None or parent is SUPPRESSED or type(url) is not str:
                return plain(self, *args, **kwargs)
            hooks = getattr(request, "hooks", None)
            # A redirect is sent with a copy of the request, which shares its hooks; a request made by a hook has its own.
            if type(parent) is HttpSpan and parent.hooks is hooks and hooks is not None and not parent.ended:
                return plain(self, *args, **kwargs)
            try:
                span = open_span(
                    patches, parent, getattr(request, "method", ""), url, hooks, getattr(request, "body", None)
                )
            except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
                patches.fault(fault)
                return plain(self, *args, **kwargs)
            token = current_span.set(span)
            try:
                response = plain(self, *args, **kwargs)
            except BaseException as error:
                span.finish(error)
                raise
            finally:
                current_span.reset(token)
            try:
                if response is not None:
                    span.answered(response.status_code, response.reason)
                    span.redirects = len(response.history)
            except Exception as fault:  # noqa: BLE001 - a response of somebody's own; counted
                patches.fault(fault)
            span.finish()
            return response

        return send

    return make


def _patch(module: ModuleType, patches: Patches) -> None:
    patches.wrap(module.sessions.Session, "send", _send(patches))
    patch_transport(patches, registry.patches("urllib3"))


INTEGRATION = Integration(name="requests", targets={"requests": _patch}, supports={"requests": (2, 20)})
