from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stardust_auto.server.console.access import Access
    from stardust_auto.server.services import Services


def page_routes(services: Services, access: Access) -> list[BaseRoute]:
    return []
