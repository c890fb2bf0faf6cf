"""urllib3: one span for each request, however many redirects and retries it takes, and none below another client's span.

Trace headers are written where the connection sends, see :mod:`stardust_auto.instrumentation.kit.urllib3_wire`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stardust_auto.instrumentation.kit.calls import spanned
from stardust_auto.instrumentation.kit.contract import Integration
from stardust_auto.instrumentation.kit.outbound import BODIES, HttpSpan, answered, open_request, within_request
from stardust_auto.instrumentation.kit.urllib3_wire import patch_wire

if TYPE_CHECKING:
    from types import ModuleType

    from stardust_auto.instrumentation.kit.calls import Open
    from stardust_auto.instrumentation.kit.patches import Patches
    from stardust_auto.tracing.tracer import Tracer


def _begin(tracer: Tracer, parent: Any, pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpSpan | None:
    """``urlopen(method, url, body, headers, ...)`` of a pool, or of the manager that follows redirects from pool to pool."""
    if within_request(parent):
        return None
    given = {**dict(zip(("method", "url", "body", "headers"), args, strict=False)), **kwargs}
    url = given.get("url")
    if not isinstance(url, str):
        return None
    if "://" not in url[:10]:
        url = f"{pool.scheme}://{pool.host}{f':{pool.port}' if pool.port else ''}{url}"
    headers = given.get("headers")
    return open_request(
        tracer, parent, given.get("method"), url, pool.headers if headers is None else headers, given.get("body")
    )


def _end(span: HttpSpan, response: Any) -> Open | str | None:
    history = getattr(response.retries, "history", ())
    redirects = sum(1 for step in history if step.redirect_location)
    failure = answered(span, int(response.status), response.reason, redirects)
    return failure if response.closed else BODIES.keep(response, span, failure)


def _patch(module: ModuleType, patches: Patches) -> None:
    for owner in (module.HTTPConnectionPool, module.PoolManager):
        patches.wrap(owner, "urlopen", spanned(patches, _begin, _end))
    patch_wire(patches)


INTEGRATION = Integration(name="urllib3", targets={"urllib3": _patch}, supports={"urllib3": (1, 26)})
