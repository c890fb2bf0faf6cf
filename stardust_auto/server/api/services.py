"""`/App/RegisterService` and its neighbours (protocol.md §7)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stardust_auto.server.errors import ProblemError

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call
    from stardust_auto.server.reading import FieldKind

_PUBLISH: dict[str, FieldKind] = {
    "ServiceName": "text",
    "ClientId": "text",
    "IP": "text",
    "Version": "text",
    "Address": "text",
    "ExternalAddress": "text",
    "Health": "text",
    "Tag": "text",
    "MinVersion": "text",
}
_ANY_HOST = re.compile(r"^(?P<head>[a-zA-Z][\w+.-]*://)?(?P<host>\*|\+|0\.0\.0\.0|\[::\])(?P<tail>[:/].*)?$")
_ADDRESS_LIMIT = 5


def register(call: Call) -> dict[str, Any]:
    """POST /App/RegisterService: a ServiceModel; consumers hear of a new or changed provider."""
    caller = call.caller()
    model = _model(call)
    hosts = [part.strip() for part in model.get("ip", "").split(",") if part.strip()]
    if not hosts:
        hosts = [caller.client_id.partition("@")[0] if "@" in caller.client_id else call.address]
    address = model.get("externaladdress") or model.get("address", "")
    registered, changed = call.services.store.registry.register(
        model["servicename"],
        caller.app.id,
        caller.client_id,
        version=model.get("version", "")[:50],
        address=",".join(expand(address, hosts)),
        tag=model.get("tag", "")[:200],
    )
    if changed:
        _tell(call, "registry/register", caller.app.name, registered)
    return registered


def unregister(call: Call) -> dict[str, Any] | None:
    """POST /App/UnregisterService (a real StarServer answers `code` 500 to one that worked)."""
    caller = call.caller()
    model = _model(call)
    removed = call.services.store.registry.unregister(model["servicename"], caller.app.id, caller.client_id)
    if removed is not None:
        _tell(call, "registry/unregister", caller.app.name, removed)
    return removed


def resolve(call: Call) -> list[dict[str, Any]]:
    """POST /App/ResolveService: the providers that are alive."""
    caller = call.caller()
    model = _model(call)
    return call.services.store.registry.resolve(
        model["servicename"],
        caller.app.id,
        caller.client_id,
        min_version=model.get("minversion", ""),
        tag=model.get("tag", ""),
    )


def search(call: Call) -> list[dict[str, Any]]:
    """POST /App/SearchService?serviceName=&key="""
    call.caller()
    missing = [name for name in ("serviceName", "key") if not call.query.get(name.lower())]
    if missing:
        raise ProblemError(400, {name: [f"The {name} field is required."] for name in missing})
    return call.services.store.registry.search(call.query["servicename"], call.query["key"])


def expand(addresses: str, hosts: list[str]) -> list[str]:
    """Addresses for others: any-hosts become the hosts of the provider, at most five are kept."""
    expanded: list[str] = []
    for address in (part.strip() for part in addresses.split(",")):
        match = _ANY_HOST.match(address)
        found = [address] if address else []
        if match is not None:
            found = [f"{match['head'] or ''}{host}{match['tail'] or ''}" for host in hosts]
        expanded.extend(item for item in found if item not in expanded)
    return expanded[:_ADDRESS_LIMIT]


def _model(call: Call) -> dict[str, Any]:
    model = call.bind("model", _PUBLISH)
    if not model.get("servicename", "").strip():
        raise ProblemError(400, {"ServiceName": ["The ServiceName field is required."]})
    model["servicename"] = model["servicename"].strip()[:50]
    return model


def _tell(call: Call, command: str, app: str, service: dict[str, Any]) -> None:
    services = call.services
    body = {"AppName": app, "ServiceName": service["serviceName"], "Address": service["address"]}
    argument = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    for app_id, client_id in services.store.registry.consumers(service["serviceName"]):
        services.push(services.store.commands.add(app_id, [client_id], command, argument, expire_seconds=600))
