"""`/OAuth` (protocol.md §2.10)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from stardust_auto.server.api.configs import password_login
from stardust_auto.server.errors import CallError
from stardust_auto.server.reading import clean, members, parse_json

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call


def token(call: Call) -> dict[str, Any]:
    """POST /OAuth/Token: `password` or `refresh_token`."""
    call.require_json(empty=True)
    try:
        model = members(parse_json(call.body))
    except ValueError as exc:
        raise CallError(500, "the body is no JSON") from exc
    grant = clean(model.get("grant_type"), 50)
    tokens = call.services.tokens
    if grant == "password":
        name = clean(model.get("username"), 50).strip()
        if not name:
            raise CallError(500, "Value cannot be null. (Parameter 'UserName')")
        app = password_login(call, name, clean(model.get("password"), 200))
        client_id = clean(model.get("clientid"), 50).strip() or secrets.token_hex(4)
    elif grant == "refresh_token":
        identity = tokens.read(clean(model.get("refresh_token"), 4000))
        found = call.services.store.apps.find(identity.app)
        if found is None or not found.enabled:
            raise CallError(403, "无效客户端！")
        app, client_id = found, identity.client_id
    else:
        raise CallError(500, f"未支持 grant_type={grant}")
    issued = tokens.issue(app.name, client_id)
    return {
        "access_token": issued,
        "token_type": "JWT",
        "expire_in": tokens.seconds,
        "refresh_token": issued,
        "scope": None,
    }


def user_info(call: Call) -> dict[str, Any]:
    """GET /OAuth/UserInfo."""
    app = call.caller(traced=False).app
    return {"id": app.id, "name": app.name, "displayName": app.display_name or app.name, "category": app.category}
