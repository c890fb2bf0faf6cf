# ruff: noqa: RUF012 - pydantic copies the defaults of fields
"""From remote texts to fields, and who wins."""

from __future__ import annotations

import enum
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ByteSize, ConfigDict, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from stardust_auto import live
from stardust_auto.config import (
    CsvList,
    InvalidSettingsError,
    Local,
    MemoryClient,
    Replace,
    SourceMissingError,
    StardustConfigDict,
    StardustSettings,
    StardustSource,
    stardust_source,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(settings: type[Any], remote: Mapping[str, object], **init: Any) -> Any:
    """The settings object that the class makes of a remote map."""
    return live(settings, client=MemoryClient(remote), init=init).current


def refused(settings: type[Any], remote: Mapping[str, object], **init: Any) -> InvalidSettingsError:
    with pytest.raises(InvalidSettingsError) as caught:
        read(settings, remote, **init)
    return caught.value


class Db(BaseModel, frozen=True):
    host: str = "localhost"
    port: int = 5432
    options: dict[str, str] = {}


class Shop(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    db: Db = Db()


@pytest.mark.case("C1")
@pytest.mark.parametrize("key", ["db:host", "db.host", "DB__HOST", "Db:Host", "db__host", "DB.HOST"])
def test_every_spelling_of_a_key_reaches_its_field(key: str) -> None:
    assert read(Shop, {key: "h"}).db.host == "h"


@pytest.mark.case("C1")
@pytest.mark.parametrize("order", [("db:host", "db__host", "db.host"), ("db.host", "db:host", "db__host")])
def test_an_exact_spelling_wins_and_the_collision_is_reported(
    order: tuple[str, ...], lines: pytest.LogCaptureFixture
) -> None:
    handle = live(Shop, client=MemoryClient({key: key for key in order}))
    assert handle.current.db.host == "db__host"
    assert {collision.loser for collision in handle.status.collisions} == {"db:host", "db.host"}
    assert 'key "db__host" used, its twin' in lines.text


class Dotted(StardustSettings):
    url: str = Field("default", alias="api.url")
    limits: Db = Field(default=Db(), alias="http.limits")


@pytest.mark.case("C2")
@pytest.mark.parametrize("key", ["api.url", "API.URL", "Api:Url", "api__url"])
def test_an_alias_with_a_dot_matches(key: str) -> None:
    assert read(Dotted, {key: "u"}).url == "u"


@pytest.mark.case("C2")
@pytest.mark.parametrize("key", ["http.limits.host", "Http:Limits:Host", "HTTP__LIMITS__HOST"])
def test_a_model_below_an_alias_with_a_dot_is_filled(key: str) -> None:
    assert read(Dotted, {key: "h"}).limits.host == "h"


class Inner(BaseModel, frozen=True):
    maximum: int = Field(1, alias="max.conn")
    other: int = Field(2, alias="otherOne")


class DottedInside(StardustSettings):
    inner: Inner = Inner()  # type: ignore[call-arg]  # an alias has a default


@pytest.mark.case("C2")
def test_a_dotted_alias_inside_a_model_matches() -> None:
    assert read(DottedInside, {"inner:max.conn": "9", "inner:OTHERONE": "8"}).inner == Inner(
        **{"max.conn": 9, "otherOne": 8}
    )


@pytest.mark.case("C3")
def test_an_environment_leaf_beats_a_remote_leaf_and_its_siblings_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_DB__PORT", "77")
    assert read(Shop, {"db:host": "remote", "db:port": "9"}).db == Db(host="remote", port=77)


@pytest.mark.case("C4")
def test_environment_json_merges_with_remote_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB", '{"port": 77}')
    assert read(Shop, {"db:host": "remote", "db:port": "9"}).db == Db(host="remote", port=77)


@pytest.mark.case("C4")
def test_a_remote_json_object_fills_a_model_and_leaves_win_over_it() -> None:
    assert read(Shop, {"db": '{"Host": "json", "port": 1}', "db:port": "2"}).db == Db(host="json", port=2)


def test_remote_json_below_the_first_level_fills_a_model() -> None:
    class Deep(StardustSettings):
        class Outer(BaseModel, frozen=True):
            db: Db = Db()

        outer: Outer = Outer()

    assert read(Deep, {"outer:db": '{"host": "json"}', "outer:db:port": "2"}).outer.db == Db(host="json", port=2)


@pytest.mark.case("C5")
@pytest.mark.parametrize("extra", ["ignore", "forbid"])
def test_environment_by_name_beats_remote_by_alias(
    monkeypatch: pytest.MonkeyPatch, extra: Literal["ignore", "forbid"]
) -> None:
    class Aliased(StardustSettings):
        model_config = StardustConfigDict(populate_by_name=True, extra=extra)
        port: int = Field(1, alias="PORT_A")

    monkeypatch.setenv("PORT", "4")
    assert read(Aliased, {"PORT_A": "3"}).port == 4
    monkeypatch.delenv("PORT")
    assert read(Aliased, {"PORT_A": "3"}).port == 3
    assert read(Aliased, {"port": "2"}).port == 2


@pytest.mark.case("C6")
@pytest.mark.parametrize("extra", ["ignore", "forbid"])
def test_environment_wins_over_remote_in_every_spelling(
    monkeypatch: pytest.MonkeyPatch, extra: Literal["ignore", "forbid"]
) -> None:
    class Many(StardustSettings):
        model_config = StardustConfigDict(populate_by_name=True, extra=extra, env_nested_delimiter="__")

        class Nested(BaseModel, frozen=True, populate_by_name=True):
            size: int = Field(1, alias="maxSize")

        choice: int = Field(0, validation_alias=AliasChoices("first", "second"))
        path: int = Field(0, validation_alias=AliasChoices(AliasPath("places", 0), "direct"))
        reverse: int = Field(0, validation_alias=AliasChoices("plain", AliasPath("spots", 1)))
        named: int = Field(0, alias="nick")
        nested: Nested = Nested()  # type: ignore[call-arg]  # an alias has a default

    monkeypatch.setenv("SECOND", "1")  # the remote map uses the first choice
    monkeypatch.setenv("DIRECT", "2")  # the remote map uses the path, which pydantic would prefer
    monkeypatch.setenv("SPOTS", "[0, 3]")  # the remote map uses the plain alias
    monkeypatch.setenv("NESTED__SIZE", "5")  # by name; the remote map by alias
    settings = read(
        Many, {"first": 11, "places": "[12]", "plain": 13, "nick": 14, "nested:maxSize": 15}, named=4
    )  # an init argument by name; the remote map by alias
    assert (settings.choice, settings.path, settings.reverse, settings.named, settings.nested.size) == (1, 2, 3, 4, 5)


class Paths(StardustSettings):
    first: str = Field("", validation_alias=AliasPath("pair", 0))
    second: str = Field("", validation_alias=AliasPath("pair", 1))


@pytest.mark.case("C7")
def test_two_fields_sharing_the_head_of_a_path_are_both_filled() -> None:
    settings = read(Paths, {"pair": '["a", "b"]'})
    assert (settings.first, settings.second) == ("a", "b")


@pytest.mark.case("C8")
def test_keys_match_in_any_case_and_twins_have_one_winner(lines: pytest.LogCaptureFixture) -> None:
    class Plain(StardustSettings):
        host: str = ""

    for remote in ({"HOST": "upper", "host": "lower"}, {"host": "lower", "HOST": "upper"}):
        client = MemoryClient(remote)
        handle = live(Plain, client=client)
        assert handle.current.host == "lower"
        client.publish({**remote, "Host": "third"})
        assert handle.current.host == "lower"
    assert lines.text.count('"HOST" not') == 2  # once for each handle, not once for each pull


class Lists(StardustSettings):
    tags: list[str] = []
    names: CsvList[str] = []
    numbers: tuple[int, ...] = ()
    dbs: list[Db] = []
    words: frozenset[str] = frozenset()


@pytest.mark.case("C9")
@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ({"tags": '["a", "b"]'}, {"tags": ["a", "b"]}),
        ({"tags:0": "a", "tags:1": "b"}, {"tags": ["a", "b"]}),
        ({"tags__1": "b", "tags__0": "a"}, {"tags": ["a", "b"]}),
        ({f"tags:{i}": str(i) for i in range(11)}, {"tags": [str(i) for i in range(11)]}),
        ({"numbers:0": "1", "numbers:1": "2"}, {"numbers": (1, 2)}),
        ({"words:0": "x"}, {"words": frozenset({"x"})}),
        ({"dbs:0:host": "h0", "dbs:1:port": "1"}, {"dbs": [Db(host="h0"), Db(port=1)]}),
        ({"dbs:0": '{"host": "h0"}'}, {"dbs": [Db(host="h0")]}),
        ({"dbs": '[{"Host": "h0"}]'}, {"dbs": [Db(host="h0")]}),
        ({"names": "a, b,,c"}, {"names": ["a", "b", "c"]}),
        ({"names": '["a,b"]'}, {"names": ["a,b"]}),
        ({"names": ""}, {"names": []}),
        ({"names:0": "a", "names:1": "b"}, {"names": ["a", "b"]}),
    ],
)
def test_lists(remote: dict[str, str], expected: dict[str, Any]) -> None:
    settings = read(Lists, remote)
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.case("C9")
@pytest.mark.parametrize("value", ["a,b", "[1,", ""])
def test_a_list_that_is_no_json_is_refused_by_field_key_and_source(value: str) -> None:
    error = refused(Lists, {"Tags": value})
    assert [problem.path for problem in error.problems] == ["tags"]
    assert 'Stardust memory v1 key "Tags"' in str(error)
    assert "JSON array" in str(error)
    assert value == "" or value not in str(error)


class Empty(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    text: str = "default"
    number: int = 3


@pytest.mark.case("C10")
def test_an_empty_remote_text_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(Empty, {"text": ""}).text == ""
    assert "number" in str(refused(Empty, {"number": ""}))
    monkeypatch.setenv("SHOP_TEXT", "")
    monkeypatch.setenv("SHOP_NUMBER", "")
    assert read(Empty, {"text": "remote"}) == read(Empty, {"text": "remote", "number": "3"})


@pytest.mark.case("C11")
def test_a_none_text_in_the_environment_shadows_a_remote_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Optional(StardustSettings):
        model_config = StardustConfigDict(env_parse_none_str="null", env_prefix="SHOP_")
        text: str | None = "default"
        db: Db | None = Db()

    monkeypatch.setenv("SHOP_TEXT", "null")
    monkeypatch.setenv("SHOP_DB", "null")
    settings = read(Optional, {"text": "remote", "db:host": "remote"})
    assert (settings.text, settings.db) == (None, None)
    monkeypatch.delenv("SHOP_TEXT")
    monkeypatch.delenv("SHOP_DB")
    assert read(Optional, {"text": "null", "db": "null"}).text is None


class Dicts(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    merged: dict[str, str] = {}
    replaced: Annotated[dict[str, str], Replace] = {}


@pytest.mark.case("C12")
def test_dicts_merge_or_replace_and_removed_keys_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MERGED", '{"a": "env"}')
    monkeypatch.setenv("SHOP_REPLACED", '{"a": "env"}')
    client = MemoryClient({"merged": '{"a": "r", "b": "r"}', "replaced:b": "r", "merged:c": "r"})
    handle = live(Dicts, client=client)
    assert handle.current.merged == {"a": "env", "b": "r", "c": "r"}
    assert handle.current.replaced == {"a": "env"}
    client.publish({"merged": '{"a": "r"}'})
    assert handle.current.merged == {"a": "env"}


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    barkVolume: int = 1


class StrictCat(Cat):
    model_config = ConfigDict(extra="forbid")


class Pets(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    pet: Cat | Dog = Field(discriminator="kind")


class StrictPets(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    pet: StrictCat | Dog = Field(discriminator="kind")


@pytest.mark.case("C13")
def test_a_union_switches_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = {"Pet:Kind": "dog", "pet:BARKVOLUME": "7"}
    assert read(Pets, remote).pet == Dog(kind="dog", barkVolume=7)
    monkeypatch.setenv("SHOP_PET__KIND", "cat")
    assert read(Pets, remote).pet == Cat(kind="cat")
    assert "pet" in str(refused(StrictPets, remote))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Types(StardustSettings):
    model_config = StardustConfigDict(env_parse_enums=True)
    secret: SecretStr = SecretStr("")
    raw: bytes = b""
    colour: Colour = Colour.RED
    size: ByteSize = ByteSize(0)
    wait: timedelta = timedelta(0)
    url: HttpUrl | None = None
    folder: Path = Path()
    flag: bool = False


@pytest.mark.case("C14")
@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("secret", "s3", SecretStr("s3")),
        ("raw", "b", b"b"),
        ("colour", "BLUE", Colour.BLUE),
        ("size", "2 MiB", 2 * 1024 * 1024),
        ("wait", "PT30S", timedelta(seconds=30)),
        ("wait", "00:00:30", timedelta(seconds=30)),
        ("url", "https://a.b/", HttpUrl("https://a.b/")),
        ("folder", "/tmp", Path("/tmp")),
        ("flag", "on", True),
    ],
)
def test_types(field: str, text: str, expected: object) -> None:
    assert getattr(read(Types, {field: text}), field) == expected


@pytest.mark.case("C14")
def test_a_number_with_words_is_no_duration() -> None:
    error = refused(Types, {"wait": "30 secs"})
    assert "PT30S" in str(error)


class Parts(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    db: Db = Db(host="prod", port=1)


@pytest.mark.case("C15")
def test_part_of_a_nested_default_keeps_the_rest() -> None:
    assert read(Parts, {"db:port": "2"}).db == Db(host="prod", port=2)


@pytest.mark.case("C16")
@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, "5"), (True, "true"), (1.5, "1.5"), (None, "default"), ([1, 2], "[1, 2]"), ({"a": 1}, '{"a": 1}')],
)
def test_values_that_are_no_text_are_coerced_or_skipped(value: object, expected: str) -> None:
    assert read(Empty, {"text": value}).text == expected


@pytest.mark.case("C17")
def test_unknown_keys_are_counted_and_told_once(lines: pytest.LogCaptureFixture) -> None:
    remote = {"text": "a", "Other:One": "1", "typo": "2", "PluginServer": "x", "NewLife.WorkerId": "7", "#c": "c"}
    client = MemoryClient(remote)
    handle = live(Empty, client=client)
    assert handle.current.text == "a"
    assert handle.status.unknown_keys == ("Other:One", "typo")
    client.publish({**remote, "text": "b"})
    assert sum("no field for Other:One, typo" in record.message for record in lines.records) == 1


@pytest.mark.case("C17")
def test_unknown_keys_can_be_forbidden_or_ignored() -> None:
    class Strict(Empty):
        model_config = StardustConfigDict(stardust_unknown_keys="forbid")

    class Careless(Empty):
        model_config = StardustConfigDict(stardust_unknown_keys="ignore")

    assert "typo from Stardust memory v1: no field takes it" in str(refused(Strict, {"typo": "1"}))
    handle = live(Careless, client=MemoryClient({"typo": "1"}))
    assert (handle.current.text, handle.status.unknown_keys) == ("default", ())


@pytest.mark.case("C17")
def test_unknown_nested_keys_obey_the_model() -> None:
    class Closed(StardustSettings):
        class Model(BaseModel, extra="forbid"):
            a: int = 1

        model: Model = Model()

    assert "model.b" in str(refused(Closed, {"model:b": "1"}))


@pytest.mark.case("C20")
def test_leaving_the_source_out_is_an_error_at_the_first_build() -> None:
    class Forgetful(StardustSettings):
        host: str = ""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (env_settings,)

    with pytest.raises(SourceMissingError, match=r"Forgetful.*stardust_source"):
        read(Forgetful, {})


@pytest.mark.case("C20")
def test_a_class_of_its_own_order_uses_the_source_directly() -> None:
    class Own(BaseSettings):
        host: str = ""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (stardust_source(settings_cls), env_settings)

    assert read(Own, {"Host": "remote"}).host == "remote"
    assert isinstance(stardust_source(Own), StardustSource)
    assert Own().host == ""  # no center is configured


_LEVELS = ["cli", "init", "env", "dotenv", "secret", "stardust", "default"]


@pytest.mark.case("C21")
@pytest.mark.parametrize("strongest", range(len(_LEVELS)))
def test_the_order_of_the_sources(strongest: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    active = _LEVELS[strongest:]
    (tmp_path / ".env").write_text("SHOP_VALUE=dotenv\n" if "dotenv" in active else "")
    (tmp_path / "secrets").mkdir()
    if "secret" in active:
        (tmp_path / "secrets" / "shop_value").write_text("secret")

    class Ordered(StardustSettings):
        model_config = StardustConfigDict(
            env_prefix="SHOP_",
            env_file=tmp_path / ".env",
            secrets_dir=tmp_path / "secrets",
            cli_parse_args=["--value", "cli"] if "cli" in active else None,
        )
        value: str = "default"

    if "env" in active:
        monkeypatch.setenv("SHOP_VALUE", "env")
    remote = {"value": "stardust"} if "stardust" in active else {}
    init = {"value": "init"} if "init" in active else {}
    handle = live(Ordered, client=MemoryClient(remote), init=init)
    assert handle.current.value == active[0]
    explanation = handle.explain("value")
    labels = {
        "cli": "command line",
        "init": "argument",
        "env": "env SHOP_VALUE",
        "dotenv": ".env file",
        "secret": "secret file",
        "stardust": 'stardust memory v1 key "value"',
        "default": "default",
    }
    found = [str(entry) for entry in (explanation.winner, *explanation.shadowed)]
    assert found == [labels[level] for level in active]


def test_a_key_prefix_names_the_program_part_of_a_map() -> None:
    class Prefixed(StardustSettings):
        model_config = StardustConfigDict(stardust_key_prefix="shop:", stardust_unknown_keys="forbid")
        host: str = ""
        db: Db = Db()

    settings = read(Prefixed, {"Shop:Host": "h", "shop.db.port": "1", "host": "no", "other:host": "no"})
    assert (settings.host, settings.db.port) == ("h", 1)


@pytest.mark.case("C50")
def test_local_fields_are_never_taken_from_the_center(lines: pytest.LogCaptureFixture) -> None:
    class Bound(StardustSettings):
        class Server(BaseModel, frozen=True):
            port: Annotated[int, Local] = 80
            name: str = ""

        address: Annotated[str, Local] = "127.0.0.1"
        server: Server = Server()

    handle = live(Bound, client=MemoryClient({"address": "0.0.0.0", "server:port": "1", "server:name": "n"}))
    assert handle.current.address == "127.0.0.1"
    assert handle.current.server == Bound.Server(port=80, name="n")
    assert set(handle.status.ignored_local) == {"address", "server.port"}
    assert "marked Local" in lines.text
