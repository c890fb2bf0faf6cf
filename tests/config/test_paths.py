"""``on_change`` by dotted path.for dicts whose keys only the center knows."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from stardust_auto import live
from stardust_auto.config import Live, MemoryClient, StardustSettings


class Server(BaseModel, frozen=True):
    url: str = ""
    pool: int = 1


class Shop(StardustSettings):
    labels: dict[str, str] = Field(default_factory=dict)
    servers: dict[str, Server] = Field(default_factory=dict)
    main: Server = Server()
    free: dict = Field(default_factory=dict)  # type: ignore[type-arg]  # a dict of anything is what is tried
    level: str = "info"


Changes = list[tuple[Any, Any]]


def follow(path: str) -> tuple[Live[Shop], MemoryClient, Changes]:
    client = MemoryClient({"labels:a": "1", "servers:x:url": "x1", "main:url": "m1"})
    handle = live(Shop, client=client)
    handle.start()
    seen: Changes = []
    handle.on_change(path, lambda old, new: seen.append((old, new)))
    return handle, client, seen


def publish(handle: Live[Shop], client: MemoryClient, **values: str) -> None:
    assert client.publish({"labels:a": "1", "servers:x:url": "x1", "main:url": "m1", **values})
    assert handle.wait_callbacks(5)


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("labels.*", {"labels:b": "2"}, [({}, {"labels.b": "2"})]),
        ("labels.*", {"labels:a": "9"}, [({"labels.a": "1"}, {"labels.a": "9"})]),
        ("labels.*", {"main:url": "m2", "level": "debug"}, []),
        ("servers.*.url", {"servers:x:url": "x2", "servers:x:pool": "3"}, [({"servers.x.url": "x1"}, {"servers.x.url": "x2"})]),
        ("servers.*", {"servers:y:url": "y"}, [({}, {"servers.y.url": "y", "servers.y.pool": 1})]),
        ("main.*", {"main:pool": "4"}, [({"main.pool": 1}, {"main.pool": 4})]),
        ("*", {"level": "debug"}, [({"level": "info"}, {"level": "debug"})]),
        ("*.url", {"main:url": "m2", "servers:x:url": "x2"}, [({"main.url": "m1"}, {"main.url": "m2"})]),
        ("labels.b", {"labels:b": "2"}, [(None, "2")]),
        ("servers.x.pool", {"servers:x:pool": "5"}, [(1, 5)]),
        ("servers.y.pool", {"servers:y:pool": "5"}, [(None, 5)]),
        ("free.deep.down", {"free": '{"deep": {"down": 1}}'}, [(None, 1)]),
        ("free.*", {"free": '{"deep": {"down": 1}}'}, [({}, {"free.deep.down": 1})]),
        ("main.url", {"main:url": "m2"}, [("m1", "m2")]),
    ],
)  # fmt: skip
def test_what_matches_is_told(path: str, change: dict[str, str], expected: Changes) -> None:
    handle, client, seen = follow(path)
    publish(handle, client, **change)
    assert seen == expected


def test_what_goes_is_told() -> None:
    handle, client, seen = follow("labels.*")
    publish(handle, client, **{"labels:b": "2"})
    publish(handle, client)
    assert seen == [({}, {"labels.b": "2"}), ({"labels.b": "2"}, {})]


@pytest.mark.parametrize("path", ["", "nowhere", "label.*", "main.port", "main.port.*", "nowhere.*"])
def test_a_path_that_cannot_be_is_an_error_at_once(path: str) -> None:
    handle = live(Shop, client=MemoryClient({}))
    with pytest.raises(KeyError, match="no settings field"):
        handle.on_change(path, lambda old, new: None)


def test_the_nearest_path_is_named() -> None:
    with pytest.raises(KeyError, match=r"did you mean 'main\.pool'"):
        live(Shop, client=MemoryClient({})).on_change("main.pol")
