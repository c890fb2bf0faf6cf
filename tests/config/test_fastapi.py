"""A handle as a FastAPI dependency, and one state per request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from stardust_auto import live
from stardust_auto.config import MemoryClient, StardustConfigMiddleware, StardustSettings


class Shop(StardustSettings):
    a: int = 0


center = MemoryClient({"a": "1"})
config = live(Shop, client=center)
app = FastAPI()
app.add_middleware(StardustConfigMiddleware, config=config)
Current = Annotated[Shop, Depends(config)]


@app.get("/async")
async def asynchronous(settings: Current) -> list[int]:
    center.publish({"a": str(settings.a + 1)})
    return [settings.a, config.current.a]


@app.get("/sync")
def synchronous(settings: Current) -> list[int]:
    center.publish({"a": str(settings.a + 1)})
    return [settings.a, config.current.a]


def test_a_handle_is_a_dependency_and_takes_no_parameters() -> None:
    with TestClient(app) as client:
        assert client.get("/async").json() == [1, 1]
        assert client.get("/sync").json() == [2, 2]
        assert client.get("/async").json() == [3, 3]
        assert client.get("/async", params={"args": "x", "kwargs": "y"}).json() == [4, 4]
        operation = client.get("/openapi.json").json()["paths"]["/async"]["get"]
        assert "parameters" not in operation
        assert "requestBody" not in operation


def test_a_dependency_can_be_replaced_as_usual() -> None:
    app.dependency_overrides[config] = lambda: Shop(a=50)
    with TestClient(app) as client:
        assert client.get("/async").json()[0] == 50
    app.dependency_overrides.clear()
