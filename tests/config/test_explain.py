"""Explanations: lists, dicts, aliases, overrides, fields that wait, and nothing secret in any of them."""

from __future__ import annotations

import json
from dataclasses import dataclass as stdlib_dataclass
from typing import Annotated, Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, Field, SecretStr, computed_field
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from stardust_auto import Static, live
from stardust_auto.config import MemoryClient, StardustConfigDict, StardustSettings
from stardust_auto.config.remote.snapshot import make_snapshot
from stardust_auto.config.typed.builder import examine
from stardust_auto.config.typed.explain import explain, show

T = TypeVar("T")


class Entry(BaseModel, frozen=True):
    x: int = 0


class Places(StardustSettings):
    model_config = StardustConfigDict(populate_by_name=True)
    entries: list[Entry] = []  # noqa: RUF012 - pydantic copies the defaults of fields
    pair: tuple[str, str] = ("a", "b")
    free: dict[str, Entry] = {}  # noqa: RUF012 - as above
    named: int = Field(8, alias="al-ias")
    nothing: Entry | None = None
    many: list[int] = []  # noqa: RUF012 - as above


def test_elements_of_lists_and_tuples_come_from_the_source_that_has_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = live(Places, client=MemoryClient({"entries:0:x": "4", "pair": '["a", "z"]'}))
    assert str(handle.explain("entries.0.x")).startswith('entries.0.x = 4   from stardust memory v1 key "entries:0:x"')
    assert str(handle.explain("pair.1")).startswith("pair.1 = 'z'   from stardust memory v1 key \"pair\"")
    monkeypatch.setenv("ENTRIES", '[{"x": 1}]')
    handle.reload()
    assert str(handle.explain("entries.0.x").winner) == "env ENTRIES"


@pytest.mark.parametrize("path", ["entries.5.x", "entries.5", "free.zz", "free.zz.x", "pair.7", "entries.x"])
def test_a_place_that_does_not_exist_is_a_key_error(path: str) -> None:
    with pytest.raises(KeyError, match="no settings field"):
        live(Places, client=MemoryClient({"entries:0:x": "4"})).explain(path)


def test_a_field_is_found_by_its_alias() -> None:
    handle = live(Places, client=MemoryClient({}))
    assert str(handle.explain("al-ias")) == "named = 8   from default"
    assert handle.explain("nothing").value == "None"


def test_the_text_of_a_huge_value_is_short() -> None:
    handle = live(Places, client=MemoryClient({"many": json.dumps([1] * 100_000)}))
    assert len(handle.explain("many").value) < 300
    assert len(str(handle.explain("many"))) < 1000


class Held(StardustSettings):
    workers: Annotated[int, Static] = 1
    pool: int = 5


def test_a_field_that_waits_for_a_restart_says_so_and_what_it_hides() -> None:
    client = MemoryClient({"workers": "1"})
    handle = live(Held, client=client)
    handle.start()
    client.publish({"workers": "7"})
    found = handle.explain("workers")
    assert (found.value, str(found.winner)) == ("1", "kept until a restart")
    assert str(found.shadowed[0]) == 'stardust memory v2 key "workers"'
    assert found.shadowed[0].value == "'7'"
    assert "waits for a restart" in found.note


@pytest.mark.parametrize("scope", ["context", "process"])
def test_an_override_is_a_source_of_its_own(scope: Any) -> None:
    handle = live(Held, client=MemoryClient({"pool": "9"}))
    with handle.override({"pool": 1}, scope=scope):
        found = handle.explain("pool")
        assert (found.value, str(found.winner)) == ("1", "override of this context or process")
        assert str(found.shadowed[0]) == 'stardust memory v1 key "pool"'
    assert handle.explain("pool").value == "9"


def test_sources_are_explained_while_the_values_are_invalid() -> None:
    reading = examine(Held, make_snapshot({"pool": "many", "workers": "2"}, version=3, app_id="shop"))
    assert reading.settings is None
    assert reading.error is not None
    assert str(explain(reading.layers, "pool")).startswith("pool = 'many'   from stardust shop v3 key \"pool\"")
    assert explain(reading.layers, "workers").value == "'2'"
    with pytest.raises(KeyError, match="did you mean 'pool'"):
        explain(reading.layers, "pol")


@dataclass
class Box(Generic[T]):
    content: T
    password: str = "default"


@stdlib_dataclass
class Plain:
    host: str = "h"
    token: str = "t"


class Typed(TypedDict, total=False):
    user: str
    password: str


class Nested(StardustSettings):
    box: Box[int] = Field(default_factory=lambda: Box(1))
    plain: Plain = Field(default_factory=Plain)
    typed: Typed = {}  # noqa: RUF012 - pydantic copies the defaults of fields
    headers: dict[str, str] = {}  # noqa: RUF012 - pydantic copies the defaults of fields
    anything: dict[str, Any] = {}  # noqa: RUF012 - as above
    blob: Any = None
    url: str = ""
    dsn_like: str = ""
    signing_key: str = ""
    inner: Entry = Entry()

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know properties below a decorator
    @property
    def double(self) -> int:
        return self.inner.x * 2


_SECRET = "hunter2secret"
_SECRETS = {
    "box:content": "1",
    "box:password": _SECRET,
    "plain:token": _SECRET,
    "typed:password": _SECRET,
    "headers:Authorization": f"Bearer {_SECRET}",
    "headers:password": _SECRET,
    "anything:password": _SECRET,
    "blob": json.dumps({"password": _SECRET}),
    "url": f"redis://:p@{_SECRET}@host/0",
    "dsn_like": f"Server=db;Password={_SECRET};",
    "signing_key": _SECRET,
}


@pytest.mark.parametrize(
    "path",
    [
        "box",
        "box.password",
        "plain",
        "plain.token",
        "typed",
        "typed.password",
        "headers",
        "headers.Authorization",
        "headers.password",
        "anything",
        "anything.password",
        "blob",
        "url",
        "dsn_like",
        "signing_key",
    ],
)
def test_no_explanation_shows_a_secret(path: str) -> None:
    handle = live(Nested, client=MemoryClient(_SECRETS))
    assert _SECRET not in str(handle.explain(path))
    assert _SECRET not in json.dumps(handle.explain(path).as_dict())


def test_what_is_not_secret_is_shown() -> None:
    handle = live(Nested, client=MemoryClient({"headers:accept": "json", "box:content": "7", "typed:user": "me"}))
    assert handle.explain("headers").value == "{accept='json'}"
    assert handle.explain("box.content").value == "7"
    assert handle.explain("typed.user").value == "'me'"
    assert show(None, SecretStr("x")) == "SecretStr('**********')"


def test_generic_and_plain_dataclasses_are_models() -> None:
    handle = live(Nested, client=MemoryClient({"box:content": "7", "plain:host": "g"}))
    assert str(handle.explain("box.content").winner) == 'stardust memory v1 key "box:content"'
    assert handle.current.plain.host == "g"
    client = MemoryClient({"box:content": "word"})
    with pytest.raises(ValueError, match=r"box\.content from Stardust memory v1 key \"box:content\""):
        live(Nested, client=client).start()


def test_computed_fields_are_explained_and_can_be_followed() -> None:
    client = MemoryClient({"inner:x": "2"})
    handle = live(Nested, client=client)
    assert str(handle.explain("double")) == "double = 4   from computed"
    seen: list[tuple[int, int]] = []
    handle.on_change("double", lambda old, new: seen.append((old, new)))
    client.publish({"inner:x": "3"})
    assert handle.wait_callbacks(5)
    assert seen == [(4, 6)]
