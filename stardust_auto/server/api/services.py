"""``/App/RegisterService`` and its neighbours (protocol.md §7)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeVar

from stardust_auto.server.errors import ProblemError
from stardust_auto.wire.messages import ServiceInstance, ServiceQuery, ServiceRegistration

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call

    S = TypeVar("S", ServiceRegistration, ServiceQuery)

_ANY_HOST = re.compile(r"^(?P<head>[a-zA-Z][\w+.-]*://)?(?P<host>\*|\+|0\.0\.0\.0|\[::\])(?P<tail>[:/].*)?$")
_ADDRESS_LIMIT = 5
_SERVICE_LIMIT = 50


def register(call: Call) -> ServiceInstance:
    """POST /App/RegisterService: a ServiceModel; consumers are told of a new or changed provider."""
    caller = call.caller()
    model, service = _named(call, ServiceRegistration)
    hosts = [part.strip() for part in (model.ip or "").split(",") if part.strip()]
    if not hosts:
        hosts = [caller.client_id.partition("@")[0] if "@" in caller.client_id else call.address]
    registered, changed = call.services.store.registry.register(
        service,
        caller.app.id,
        caller.client_id,
        version=(model.version or "")[:50],
        address=",".join(expand(model.external_address or model.address or "", hosts)),
        tag=model.tag or "",
    )
    if changed:
        _notify(call, "registry/register", caller.app.name, registered)
    return registered


def unregister(call: Call) -> ServiceInstance | None:
    """POST /App/UnregisterService. A StarServer answers ``code`` 500 to one that worked."""
    caller = call.caller()
    _, service = _named(call, ServiceRegistration)
    removed = call.services.store.registry.unregister(service, caller.app.id, caller.client_id)
    if removed is not None:
        _notify(call, "registry/unregister", caller.app.name, removed)
    return removed


def resolve(call: Call) -> list[ServiceInstance]:
    """POST /App/ResolveService: the providers that are alive."""
    caller = call.caller()
    query, service = _named(call, ServiceQuery)
    return call.services.store.registry.resolve(
        service, caller.app.id, caller.client_id, min_version=query.min_version or "", tag=query.tag or ""
    )


def search(call: Call) -> list[ServiceInstance]:
    """POST /App/SearchService?serviceName=&key="""
    call.caller()
    missing = [name for name in ("serviceName", "key") if not call.query.get(name.lower())]
    if missing:
        raise ProblemError(400, {name: [f"The {name} field is required."] for name in missing})
    return call.services.store.registry.search(call.query["servicename"], call.query["key"])


def expand(addresses: str, hosts: list[str]) -> list[str]:
    """Addresses for others: any-hosts become the hosts of the provider; at most five are kept."""
    expanded: list[str] = []
    for address in (part.strip() for part in addresses.split(",")):
        match = _ANY_HOST.match(address)
        found = [address] if address else []
        if match is not None:
            found = [f"{match['head'] or ''}{host}{match['tail'] or ''}" for host in hosts]
        expanded.extend(item for item in found if item not in expanded)
    return expanded[:_ADDRESS_LIMIT]


def _named(call: Call, kind: type[S]) -> tuple[S, str]:
    model = call.bind(kind)
    name = (model.service_name or "").strip()
    if not name:
        raise ProblemError(400, {"ServiceName": ["The ServiceName field is required."]})
    return model, name[:_SERVICE_LIMIT]


def _notify(call: Call, command: str, app: str, service: ServiceInstance) -> None:
    services = call.services
    name = service.service_name or ""
    body = {"AppName": app, "ServiceName": name, "Address": service.address}
    argument = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    for app_id, client_id in services.store.registry.consumers(name):
        services.push(services.store.commands.add(app_id, [client_id], command, argument, expire_seconds=600))
