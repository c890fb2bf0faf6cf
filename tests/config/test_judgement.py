"""What becomes of a state that a class sees: accepted as a whole, or refused with everything as it was."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
import weakref
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import SettingsError

from stardust_auto import Static, live
from stardust_auto.config import InvalidSettingsError, MemoryClient, StardustConfigDict, StardustSettings


def publish_from_a_thread(client: MemoryClient, values: dict[str, str]) -> None:
    """As the process's background thread does."""
    thread = threading.Thread(target=client.publish, args=(values,))
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


class Drastic(StardustSettings):
    a: int = 0

    @field_validator("a")
    @classmethod
    def end(cls, value: int) -> int:
        if value == 1:
            raise SystemExit("boom")
        if value == 2:
            raise asyncio.CancelledError
        if value == 3:
            raise KeyboardInterrupt
        return value


@pytest.mark.parametrize(("value", "name"), [("1", "SystemExit"), ("2", "CancelledError"), ("3", "KeyboardInterrupt")])
def test_a_validator_that_raises_a_base_exception_refuses_the_update(value: str, name: str) -> None:
    client = MemoryClient({"a": "5"})
    handle = live(Drastic, client=client)
    handle.start()
    unhandled: list[object] = []
    hook, threading.excepthook = threading.excepthook, unhandled.append
    try:
        publish_from_a_thread(client, {"a": value})
    finally:
        threading.excepthook = hook
    assert unhandled == []
    assert handle.current.a == 5
    assert f"a validator failed with {name}" in handle.status.rejection
    assert __file__ in handle.status.rejection
    publish_from_a_thread(client, {"a": "9"})
    assert (handle.current.a, handle.status.rejection) == (9, "")


def test_the_program_s_own_end_passes_through_a_validation_in_the_main_thread() -> None:
    client = MemoryClient({"a": "5"})
    handle = live(Drastic, client=client)
    handle.start()
    with pytest.raises(KeyboardInterrupt):
        client.publish({"a": "3"})
    assert handle.current.a == 5


def test_health_sees_a_refusal() -> None:
    client = MemoryClient({"a": "5"})
    handle = live(Drastic, client=client)
    handle.start()
    assert handle.status.state == "VALID"
    client.publish({"a": "word"})
    assert handle.status.state == "STALE"
    client.publish({"a": "6"})
    assert handle.status.state == "VALID"


class Derived(StardustSettings):
    host: str = "a"
    url: str = Field(default_factory=lambda data: "http://" + data["host"])
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    twin: str = ""

    @model_validator(mode="after")
    def copy_the_id(self) -> Derived:
        object.__setattr__(self, "twin", self.id)
        return self


def test_a_factory_over_validated_data_runs_at_each_change_and_one_without_never() -> None:
    client = MemoryClient({"host": "a"})
    handle = live(Derived, client=client)
    first = handle.current
    seen: list[tuple[str, str]] = []
    handle.on_change(lambda s: s.url, lambda old, new: seen.append((old, new)))
    client.publish({"host": "b"})
    assert (handle.current.host, handle.current.url) == ("b", "http://b")
    assert handle.current.id == first.id
    assert handle.current.twin == handle.current.id  # the validator has seen the value that is published
    assert handle.wait_callbacks(5)
    client.publish({"host": "c"})
    assert handle.current.id == first.id
    assert handle.wait_callbacks(5)
    assert seen == [("http://a", "http://b"), ("http://b", "http://c")]
    assert str(handle.explain("id").winner) == "default (made by its factory)"


class Certificate(StardustSettings):
    cert: FilePath | None = None
    n: int = 0


def test_refused_content_is_judged_again_in_a_new_version(tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({})
    handle = live(Certificate, client=client)
    handle.start()
    path = tmp_path / "cert.pem"
    assert not client.publish({"cert": str(path)})
    path.write_text("now it is there")
    assert client.publish({"cert": str(path)})
    assert (handle.current.cert, handle.status.rejected_version) == (path, None)


def test_a_reload_after_close_keeps_the_values_of_the_center() -> None:
    handle = live(Certificate, client=MemoryClient({"n": "5"}))
    handle.start()
    handle.close()
    assert handle.reload()
    assert (handle.current.n, handle.status.origin) == (5, "memory")


# -- arguments -----------------------------------------------------------------------------------------------------------


def test_a_mistyped_option_or_argument_of_live_is_an_error() -> None:
    with pytest.raises(TypeError, match="clinet"):
        live(Certificate, clinet=MemoryClient({}))  # type: ignore[call-arg]  # what is tested
    with pytest.raises(TypeError, match="takes no argument 'certt'; did you mean 'cert'"):
        live(Certificate, init={"certt": "x"})


def test_a_class_may_have_fields_named_like_options() -> None:
    class Options(StardustSettings):
        client: str = ""
        start_timeout: int = 0

    handle = live(Options, client=MemoryClient({}), init={"client": "c", "start_timeout": 7})
    assert (handle.current.client, handle.current.start_timeout) == ("c", 7)


@pytest.mark.parametrize("wrong", [BaseModel, Certificate(), "x"])
def test_only_a_settings_class_can_be_live(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes a settings class"):
        live(wrong)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str = Field(alias="Host")
    pool: int = 5

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know properties below a decorator
    @property
    def double(self) -> int:
        return self.pool * 2

    @field_serializer("host")
    def masked(self, _: str) -> str:
        return "***"


class Instances(StardustSettings):
    db: Strict = Strict(Host="default")


def test_instances_of_models_are_taken_as_they_are_everywhere() -> None:
    given = Strict(Host="x")
    assert Instances(db=given).db == given
    assert live(Instances, client=MemoryClient({}), init={"db": given}).current.db == given
    handle = live(Instances, client=MemoryClient({"db:pool": "9"}))
    with handle.override({"db": given}) as settings:
        assert settings.db == given
    with handle.override({"db.pool": 1}) as settings:
        assert (settings.db.host, settings.db.pool) == ("default", 1)


def test_the_default_of_a_model_is_not_what_its_serialiser_makes_of_it() -> None:
    assert live(Instances, client=MemoryClient({"db:pool": "9"})).current.db == Strict(Host="default", pool=9)


class Profile(StardustSettings):
    n: int = 0

    def __init__(self, **values: Any) -> None:
        super().__init__(_env_file=values.pop("_env_file", "profile.env"), **values)  # type: ignore[call-arg]  # of pydantic-settings


def test_the_constructor_of_a_class_counts_in_live_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("profile.env").write_text("N=4\n")
    assert Profile().n == live(Profile, client=MemoryClient({})).current.n == 4


# -- errors ----------------------------------------------------------------------------------------------------------------


def test_an_error_of_an_override_names_the_override() -> None:
    handle = live(Certificate, client=MemoryClient({"n": "4"}))
    with pytest.raises(InvalidSettingsError, match="n from an override: Input should be"), handle.override({"n": "w"}):
        pass


def test_the_reason_of_a_settings_error_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="secrets_dir must reference a directory, not a file"):
        Certificate(_secrets_dir=tmp_path / "file")  # type: ignore[call-arg]  # of pydantic-settings
    with pytest.raises(SettingsError, match="unrecognized arguments: --wrong"):
        Certificate(_cli_parse_args=["--wrong"], _cli_exit_on_error=False)  # type: ignore[call-arg]  # of pydantic-settings


def test_the_hint_for_a_variable_does_not_speak_of_numbered_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tags(StardustSettings):
        tags: list[str] = []  # noqa: RUF012 - pydantic copies the defaults of fields

    monkeypatch.setenv("TAGS__0", "a")
    with pytest.raises(InvalidSettingsError) as caught:
        live(Tags, client=MemoryClient({})).start()
    assert "numbered keys" not in str(caught.value)
    monkeypatch.delenv("TAGS__0")
    with pytest.raises(InvalidSettingsError, match="numbered keys"):
        live(Tags, client=MemoryClient({"tags": "a,b"})).start()


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pets(StardustSettings):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")
    short: int = 0
    address: uuid.UUID | None = None


@pytest.mark.parametrize(
    ("key", "value"), [("pet:kind", "hunter2pass"), ("short", "q7"), ("address", "zhunter2-no-uuid")]
)
def test_a_refusal_never_quotes_the_refused_text(key: str, value: str, lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({})
    handle = live(Pets, client=client)
    handle.start()
    assert not client.publish({key: value})
    for text in (handle.status.rejection, lines.text.replace(f'"{key}"', "")):
        assert value not in text
    assert "`z`" not in handle.status.rejection


def test_a_validator_s_words_lose_a_short_refused_text() -> None:
    class Worded(StardustSettings):
        word: str = ""

        @field_validator("word")
        @classmethod
        def refuse(cls, value: str) -> str:
            if value:
                raise ValueError(f"must not be {value}")
            return value

    client = MemoryClient({})
    handle = live(Worded, client=client)
    handle.start()
    client.publish({"word": "pw"})
    assert "pw" not in handle.status.rejection


def test_settings_alone_keeps_the_limits_for_programs_that_render_errors() -> None:
    class Limited(StardustSettings):
        n: int = Field(0, ge=1)

    with pytest.raises(ValidationError) as caught:
        Limited(n=-1)
    [error] = caught.value.errors()
    assert error["ctx"] == {"ge": 1}
    assert not error["msg"].startswith("n")


def test_a_first_state_with_a_failing_validator_falls_back_to_the_copy_on_disk() -> None:
    client = MemoryClient()
    client.use_disk_copy({"a": "7"})
    client.publish({"a": "8"})

    class Picky(StardustSettings):
        a: int = 0

        @field_validator("a")
        @classmethod
        def check(cls, value: int) -> int:
            if value == 8:
                raise RuntimeError("secret-text")
            return value

    handle = live(Picky, client=client)
    assert handle.current.a == 7
    assert "a validator failed with RuntimeError" in handle.status.rejection
    assert "secret-text" not in handle.status.rejection
    assert live(Picky, client=client).wait_ready(0.1) is False


def test_the_locals_of_a_failed_call_hold_no_argument() -> None:
    class Keyed(StardustSettings):
        api_key: int = 0

    with pytest.raises(ValidationError) as caught:
        Keyed(api_key="planted-secret")  # type: ignore[arg-type]  # what is tested
    trace = caught.value.__traceback__
    trace = trace.tb_next if trace is not None else None  # the frame of this test
    while trace is not None:
        assert "planted-secret" not in repr({name: repr(value) for name, value in trace.tb_frame.f_locals.items()})
        trace = trace.tb_next


def test_a_settings_class_can_be_freed() -> None:
    def use() -> weakref.ref[type]:
        class Short(StardustSettings):
            n: int = 0

        handle = live(Short, client=MemoryClient({"n": "1"}))
        assert handle.current.n == 1
        assert Short().n == 0
        return weakref.ref(Short)

    reference = use()
    gc.collect()
    assert reference() is None


def test_held_static_fields_and_live_ones_are_validated_together() -> None:
    class Workers(StardustSettings):
        model_config = StardustConfigDict(frozen=True)
        workers: Annotated[int, Static] = 1
        limit: int = 1

        @model_validator(mode="after")
        def fits(self) -> Workers:
            if self.limit > self.workers:
                raise ValueError("limit above workers")
            return self

    client = MemoryClient({"workers": "1", "limit": "1"})
    handle = live(Workers, client=client)
    handle.start()
    assert not client.publish({"workers": "5", "limit": "5"})
    assert (handle.current.workers, handle.current.limit) == (1, 1)


def test_a_validator_of_the_input_sees_the_name_that_an_argument_used() -> None:
    class Renamed(StardustSettings):
        name: str = Field("", validation_alias=AliasChoices("NAME", "OLD_NAME"))

        @model_validator(mode="before")
        @classmethod
        def no_old_names(cls, data: dict[str, object]) -> dict[str, object]:
            if "OLD_NAME" in data:
                raise ValueError("deprecated")
            return data

    assert Renamed(NAME="x").name == "x"  # type: ignore[call-arg]  # an alias
    with pytest.raises(ValidationError, match="deprecated"):
        Renamed(OLD_NAME="x")  # type: ignore[call-arg]  # an alias


def test_fields_that_share_a_container_keep_its_other_places() -> None:
    class Shared(StardustSettings):
        payload: object = None
        last: int = Field(0, validation_alias=AliasPath("payload", -1))

    settings = Shared(payload=[4, 5])  # type: ignore[call-arg]  # an alias has a default
    assert (settings.payload, settings.last) == ([4, 5], 5)
