"""What a server may call in the place of an application."""

from __future__ import annotations

import operator
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

from stardust_auto.instrumentation.wsgi.span import responder

if TYPE_CHECKING:
    from collections.abc import Callable

    from stardust_auto.instrumentation.kit.patches import Patches

# Calls its first argument with the others; in C where there is such a function.
_call: Any = getattr(operator, "call", lambda application, *args: application(*args))
_ENTRY_CODE: Any = getattr(responder(cast("Any", None), _call), "__code__", None)


def traced_application(patches: Patches, app: Any) -> Any:
    """``app`` under spans; itself if it traces itself (a framework's), or is no WSGI application (asynchronous, no callable)."""
    if not callable(app):
        return app
    code = getattr(app, "__code__", None) or getattr(type(app).__call__, "__code__", None)
    if code is _ENTRY_CODE or (code is not None and code.co_flags & 0x80):
        return app
    return under_spans(patches, app)


def under_spans(patches: Patches, app: Any) -> Callable[..., Any]:
    """What a server may call in place of ``app``."""
    return MethodType(responder(patches, _call), app)
