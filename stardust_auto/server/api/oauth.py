"""``/OAuth`` (protocol.md §2.10)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from stardust_auto.server.api.configs import json_body, password_login
from stardust_auto.server.errors import CallError
from stardust_auto.wire.messages import OAuthRequest, OAuthToken

if TYPE_CHECKING:
    from stardust_auto.server.api.call import Call


def token(call: Call) -> OAuthToken:
    """POST /OAuth/Token: ``password`` or ``refresh_token``."""
    request = OAuthRequest.from_wire(json_body(call))
    tokens = call.services.tokens
    if request.grant_type == "password":
        name = (request.username or "").strip()
        if not name:
            raise CallError(500, "Value cannot be null. (Parameter 'UserName')")
        app = password_login(call, name, request.password or "")
        client_id = (request.client_id or "").strip() or secrets.token_hex(4)
    elif request.grant_type == "refresh_token":
        identity = tokens.read(request.refresh_token or "")
        found = call.services.store.apps.find(identity.app)
        if found is None or not found.enabled:
            raise CallError(403, "无效客户端！")
        app, client_id = found, identity.client_id
    else:
        raise CallError(500, f"未支持 grant_type={request.grant_type or ''}")
    issued = tokens.issue(app.name, client_id)
    return OAuthToken(issued, "JWT", tokens.seconds, refresh_token=issued)


def user_info(call: Call) -> dict[str, Any]:
    """GET /OAuth/UserInfo."""
    app = call.caller(traced=False).app
    return {"id": app.id, "name": app.name, "displayName": app.display_name or app.name, "category": app.category}
