"""urllib3: one span for each request, however many redirects and retries it takes, and none below another client's span."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation._http import HttpSpan, open_span, with_traceparent
from stardust_auto.instrumentation.registry import Integration
from stardust_auto.tracing.context import SUPPRESSED, current_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from stardust_auto.instrumentation.patches import Patches


def transport(patches: Patches) -> Callable[[Any], Any]:
    """Wrapper of ``HTTPConnectionPool.urlopen``: every hop of every request passes here, with the host that it goes to.

    ``patches`` are those of urllib3: while they are off, requests that belong to a span of another library still get their headers.
    """
    get_current: Callable[[], Any] = current_span.get

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def urlopen(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            parent = get_current()
            if type(parent) is HttpSpan and not parent.ended:
                try:
                    args, kwargs = _hop(patches, parent, self, args, kwargs)
                except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
                    patches.fault(fault)
                return plain(self, *args, **kwargs)
            url = args[1] if len(args) > 1 else kwargs.get("url")
            if patches.tracer is None or parent is SUPPRESSED or not isinstance(url, str):
                return plain(self, *args, **kwargs)
            # Once more through here, now below a span: the first hop.
            url = url if "://" in url[:10] else _address(self) + url
            return _traced(patches, parent, url, functools.partial(urlopen, self), args, kwargs)

        return urlopen

    return make


def _manager(patches: Patches) -> Callable[[Any], Any]:
    """Wrapper of ``PoolManager.urlopen``, which follows redirects from host to host."""
    get_current: Callable[[], Any] = current_span.get

    def make(plain: Any) -> Any:
        @functools.wraps(plain)
        def urlopen(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            parent = get_current()
            url = args[1] if len(args) > 1 else kwargs.get("url")
            if patches.tracer is None or parent is SUPPRESSED or not isinstance(url, str):
                return plain(self, *args, **kwargs)
            if type(parent) is HttpSpan and not parent.ended:
                return plain(self, *args, **kwargs)
            return _traced(patches, parent, url, functools.partial(plain, self), args, kwargs)

        return urlopen

    return make


def _traced(
    patches: Patches, parent: Any, url: str, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        span = open_span(patches, parent, args[0] if args else kwargs.get("method"), url, None, kwargs.get("body"))
    except Exception as fault:  # noqa: BLE001 - our own code; counted, and after five times switched off
        patches.fault(fault)
        return call(*args, **kwargs)
    token = current_span.set(span)
    try:
        response = call(*args, **kwargs)
    except BaseException as error:
        span.finish(error)
        raise
    finally:
        current_span.reset(token)
    span.answered(getattr(response, "status", 0), getattr(response, "reason", ""))
    history = getattr(getattr(response, "retries", None), "history", ())
    span.redirects = sum(1 for step in history if getattr(step, "redirect_location", None))
    span.finish()
    return response


def _address(pool: Any) -> str:
    port = f":{pool.port}" if pool.port else ""
    return f"{pool.scheme}://{pool.host}{port}"


def _hop(patches: Patches, span: HttpSpan, pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments with our header, if this hop's host may have it."""
    span.attempts += 1
    host = pool.host
    if pool.proxy is not None:
        url = kwargs.get("url") or args[1]
        if "://" in url[:10]:
            host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
    rule = patches.propagation
    if rule is None or not rule.allows(host):
        return args, kwargs
    if len(args) > 3:
        headers = args[3] if args[3] is not None else pool.headers
        return (*args[:3], with_traceparent(headers, span), *args[4:]), kwargs
    headers = kwargs.get("headers")
    kwargs["headers"] = with_traceparent(headers if headers is not None else pool.headers, span)
    return args, kwargs


def patch_transport(patches: Patches, own: Patches) -> None:
    """Replace the transport's entry on behalf of ``patches``; ``own`` are those of urllib3 itself."""
    pool = patches.module("urllib3.connectionpool")
    if pool is not None:
        patches.wrap(pool.HTTPConnectionPool, "urlopen", transport(own))


def _patch(module: ModuleType, patches: Patches) -> None:
    patch_transport(patches, patches)
    patches.wrap(module.PoolManager, "urlopen", _manager(patches))


INTEGRATION = Integration(name="urllib3", targets={"urllib3": _patch}, supports={"urllib3": (1, 26)})
