# ruff: noqa: RUF012 - pydantic copies the defaults of fields
"""Snapshots, reloads and validation."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import pickle
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, field_validator, model_validator
from typing_extensions import Self

from stardust_auto import live
from stardust_auto.config import InvalidSettingsError, MemoryClient, StardustConfigDict, StardustSettings, Static
from stardust_auto.config.remote.verdicts import trace_publishes
from stardust_auto.tracing.tracer import Tracer


class Shop(StardustSettings):
    model_config = StardustConfigDict(env_prefix="SHOP_")
    low: int = 1
    high: int = 10
    name: str = "shop"

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


@pytest.mark.case("C42")
def test_a_failing_model_validator_keeps_the_last_good(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"low": "2"})
    handle = live(Shop, client=client)
    errors: list[InvalidSettingsError] = []
    handle.on_rejected(errors.append)
    good = handle.current
    assert not client.publish({"low": "99"})
    assert handle.current is good
    assert handle.status.rejected_version == 2
    assert handle.status.version == 1
    assert handle.wait_callbacks(5)
    assert [str(error.problems[0]) for error in errors] == ["settings: low is above high"]
    refusals = [record for record in lines.records if "refused" in record.message]
    assert len(refusals) == 1
    assert "\n" not in refusals[0].message
    assert client.publish({"low": "3"})
    assert (handle.current.low, handle.status.rejected_version) == (3, None)


def test_the_refusal_line_names_key_source_and_what_is_allowed(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({}, app_id="shop", scope="prod")
    live(Shop, client=client).start()
    client.publish({"Low": "lots", "high": "x"}, version=43)
    (record,) = [record for record in lines.records if record.levelno == logging.ERROR]
    assert record.name.startswith("stardust_auto.config.")
    assert record.message == (
        'settings Shop v43 refused, keeping v1: low from Stardust shop/prod v43 key "Low": Input should be a valid integer, '
        'unable to parse string as an integer; high from Stardust shop/prod v43 key "high": Input should be a valid integer, '
        "unable to parse string as an integer"
    )


class Counting(StardustSettings):
    value: int = 0

    @field_validator("value")
    @classmethod
    def count(cls, value: int) -> int:
        _validated.append(value)
        if value < 0:
            raise ValueError("must not be negative")
        return value


_validated: list[int] = []


@pytest.mark.case("C43")
def test_refused_content_is_judged_once(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"value": "1"})
    handle = live(Counting, client=client)
    handle.start()
    _validated.clear()
    for _ in range(100):
        client.publish({"value": "-1"}, version=2)
    assert _validated == [-1]
    assert len([record for record in lines.records if "refused" in record.message]) == 1
    assert handle.status.rejected_version == 2
    client.publish({"value": "5"})
    assert handle.current.value == 5


@pytest.mark.case("C44")
def test_the_same_content_in_a_new_version_builds_nothing() -> None:
    client = MemoryClient({"value": "1"})
    handle = live(Counting, client=client)
    before = handle.current
    seen: list[object] = []
    handle.on_change(lambda s: s.value, lambda old, new: seen.append(new))
    _validated.clear()
    client.publish({"value": "1"}, version=7)
    assert (_validated, handle.current is before, handle.status.version) == ([], True, 7)
    assert handle.wait_callbacks(5)
    assert seen == []


class Pair(StardustSettings):
    a: int = 0
    b: int = 0


@pytest.mark.case("C45")
def test_readers_never_see_a_torn_pair() -> None:
    client = MemoryClient({"a": 0, "b": 0})
    handle = live(Pair, client=client)
    handle.start()
    stop = threading.Event()
    torn: list[tuple[int, int]] = []

    def reader() -> None:
        while not stop.is_set():
            settings = handle.current
            if settings.a != settings.b:
                torn.append((settings.a, settings.b))

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        client.publish({"a": number, "b": number})
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []
    assert handle.current.a == 1999


@pytest.mark.case("X24", "C46")
def test_a_pin_is_stable_nested_and_of_its_task() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Pair, client=client)
    with handle.pin() as outer:
        client.publish({"a": 2})
        assert handle.current is outer
        with handle.pin() as inner:
            assert inner is outer
        assert handle.current is outer
    assert handle.current.a == 2

    async def task(number: int, started: asyncio.Event, go: asyncio.Event) -> int:
        with handle.pin() as settings:
            started.set()
            await go.wait()
            assert handle.current is settings
            assert await asyncio.to_thread(lambda: handle.current) is settings
            return settings.a

    async def main() -> list[int]:
        go = asyncio.Event()
        tasks = []
        for number in (3, 4):
            started = asyncio.Event()
            client.publish({"a": number})
            tasks.append(asyncio.create_task(task(number, started, go)))
            await started.wait()
        client.publish({"a": 5})
        go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [3, 4]
    assert handle.current.a == 5


@pytest.mark.case("C46")
def test_bind_carries_a_state_into_a_pool() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Pair, client=client)
    with handle.pin():
        bound = handle.bind(lambda: handle.current.a)
        client.publish({"a": 2})
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(bound).result() == 1
        assert pool.submit(lambda: handle.current.a).result() == 2


@pytest.mark.case("C47")
def test_a_shadowed_change_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_NAME", "env")
    client = MemoryClient({"name": "one"})
    handle = live(Shop, client=client)
    seen: list[tuple[str, str]] = []
    handle.on_change(lambda s: s.name, lambda old, new: seen.append((old, new)))
    assert handle.current.name == "env"
    client.publish({"name": "two"})
    assert handle.wait_callbacks(5)
    assert seen == []
    monkeypatch.delenv("SHOP_NAME")
    assert handle.reload()
    assert handle.wait_callbacks(5)
    assert seen == [("env", "two")]


class Random(StardustSettings):
    class Inner(BaseModel, frozen=True):
        id: uuid.UUID = Field(default_factory=uuid.uuid4)
        x: int = 0

    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    inner: Inner = Inner()
    made: Inner = Field(default_factory=Inner)
    x: int = 0


@pytest.mark.case("C48")
def test_a_random_default_stays(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"x": "1", "inner:x": "1"})
    handle = live(Random, client=client)
    before = handle.current
    seen: list[object] = []
    handle.on_change(lambda s: (s.id, s.inner.id, s.made), lambda old, new: seen.append(new))
    client.publish({"x": "2", "inner:x": "2"})
    after = handle.current
    assert (after.id, after.inner.id, after.made, after.x, after.inner.x) == (
        before.id, before.inner.id, before.made, 2, 2,
    )  # fmt: skip
    assert handle.wait_callbacks(5)
    assert seen == []
    assert "memory v2: inner.x, x changed" in lines.text


@pytest.mark.case("C49")
def test_nan_is_no_change() -> None:
    class Nan(StardustSettings):
        rate: float = math.nan
        rates: list[float] = [math.nan]
        other: int = 0

    client = MemoryClient({"rate": "nan"})
    handle = live(Nan, client=client)
    seen: list[object] = []
    handle.on_change(lambda s: s.rate, lambda old, new: seen.append(new))
    handle.on_change(lambda s: s.rates, lambda old, new: seen.append(new))
    handle.start()
    client.publish({"rate": "NaN", "other": "1"})
    assert handle.wait_callbacks(5)
    assert (seen, handle.current.other) == ([], 1)


class Fixed(StardustSettings):
    class Server(BaseModel, frozen=True):
        port: Annotated[int, Static] = 80
        banner: str = ""

    workers: Annotated[int, Static] = 1
    server: Server = Server()
    level: str = "info"


@pytest.mark.case("C50")
def test_a_static_field_waits_for_the_restart(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"workers": "4"})
    handle = live(Fixed, client=client)
    assert handle.current.workers == 4
    client.publish({"workers": "8", "server:port": "81", "server:banner": "hi", "level": "debug"})
    assert handle.current == Fixed(workers=4, level="debug", server=Fixed.Server(port=80, banner="hi"))
    assert handle.status.pending_restart == ("server.port", "workers")
    assert "waits for a restart" in str(handle.explain("workers"))
    client.publish({"workers": "9", "server:port": "81", "level": "warn"})
    assert (handle.current.workers, handle.current.server.port, handle.current.level) == (4, 80, "warn")
    client.publish({"workers": "4", "server:port": "80", "level": "warn"})
    assert handle.status.pending_restart == ()
    assert len([record for record in lines.records if "in effect after a restart" in record.message]) == 1


@pytest.mark.case("C51")
def test_arguments_and_the_command_line_survive_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Arguments(StardustSettings):
        model_config = StardustConfigDict(cli_parse_args=True)
        first: int = 0
        second: int = 0
        third: int = 0

    monkeypatch.setattr("sys.argv", ["program", "--first", "1"])
    client = MemoryClient({"first": "9", "second": "9", "third": "9"})
    handle = live(Arguments, client=client, init={"second": 2})
    assert (handle.current.first, handle.current.second, handle.current.third) == (1, 2, 9)
    monkeypatch.setattr("sys.argv", ["program", "--no-such-option"])
    assert client.publish({"first": "8", "second": "8", "third": "8"})
    assert (handle.current.first, handle.current.second, handle.current.third) == (1, 2, 8)


@pytest.mark.case("C52")
def test_a_changed_list_does_not_reach_the_next_state() -> None:
    class Loose(StardustSettings):
        tags: list[str] = ["default"]
        other: int = 0

    client = MemoryClient({"tags": '["a"]'})
    handle = live(Loose, client=client)
    handle.current.tags.append("mine")
    client.publish({"tags": '["a"]', "other": "1"})
    assert handle.current.tags == ["a"]
    client.publish({})
    handle.current.tags.append("mine")
    client.publish({"other": "1"})
    assert handle.current.tags == ["default"]


@pytest.mark.case("C53")
def test_two_classes_judge_one_map_for_themselves() -> None:
    class Text(StardustSettings):
        value: str = ""

    client = MemoryClient({"value": "1"})
    numbers, texts = live(Counting, client=client), live(Text, client=client)
    numbers.start()
    texts.start()
    assert not client.publish({"value": "word"})
    assert (numbers.current.value, texts.current.value) == (1, "word")
    assert (numbers.status.rejected_version, texts.status.rejected_version) == (2, None)


class Module(StardustSettings):  # at module level, for pickle
    model_config = StardustConfigDict(env_prefix="SHOP_")
    value: str = ""


@pytest.mark.case("C54")
def test_snapshots_are_copied_and_handles_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = live(Module, client=MemoryClient({"value": "remote"}))
    settings = handle.current
    monkeypatch.setenv("SHOP_VALUE", "env")
    for duplicate in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings), copy.copy(settings)):
        assert duplicate == settings
        assert duplicate.value == "remote"
    for attempt in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match=r"pass config\.current instead"):
            attempt(handle)


def test_a_snapshot_is_immutable() -> None:
    settings = live(Module, client=MemoryClient({"value": "remote"})).current
    with pytest.raises(ValueError, match="frozen"):
        settings.value = "changed"  # type: ignore[misc]  # the point


class Tuned(StardustSettings):
    class Db(BaseModel, frozen=True):
        host: str
        pool: int = 5

    db: Db
    sizes: dict[str, int] = {}
    url: str = Field("u", alias="api.url")
    ratio: float = Field(0.5, le=1)


def test_an_override_is_validated_local_and_nested() -> None:
    client = MemoryClient({"db:host": "h", "sizes": '{"a": 1}'})
    handle = live(Tuned, client=client)
    with handle.override({"db.pool": "1", "sizes.b": 2, "url": "x"}) as settings:
        assert handle.current is settings
        assert (settings.db, settings.sizes, settings.url) == (Tuned.Db(host="h", pool=1), {"a": 1, "b": 2}, "x")
        with handle.override({"ratio": 1}):
            assert (handle.current.db.pool, handle.current.ratio) == (1, 1.0)
        assert handle.current.ratio == 0.5
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: handle.current.db.pool).result() == 5
    assert handle.current.db.pool == 5
    with pytest.raises(InvalidSettingsError, match="ratio"), handle.override({"ratio": 2}):
        pass
    with pytest.raises(KeyError, match=r"did you mean 'db\.pool'"), handle.override({"db.pol": 2}):
        pass


def test_an_override_of_the_process_reaches_threads_and_survives_reloads() -> None:
    client = MemoryClient({"db:host": "h"})
    handle = live(Tuned, client=client)
    with handle.override({"db.pool": 1}, scope="process"):
        client.publish({"db:host": "other", "db:pool": "7"})
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: handle.current.db).result() == Tuned.Db(host="other", pool=1)
    assert handle.current.db.pool == 7
    with pytest.raises(InvalidSettingsError), handle.override({"ratio": 2}, scope="process"):
        pass
    assert handle.current.ratio == 0.5


def test_reading_the_own_handle_while_validating_is_told() -> None:
    class Recursive(StardustSettings):
        value: int = 0

        @field_validator("value")
        @classmethod
        def look(cls, value: int) -> int:
            return handle.current.value

    handle: Any = live(Recursive, client=MemoryClient({"value": "1"}))
    with pytest.raises(RuntimeError, match="reads its own live handle"):
        handle.start()


def test_any_exception_of_a_validator_keeps_the_last_good(lines: pytest.LogCaptureFixture) -> None:
    class Dividing(StardustSettings):
        value: int = 1

        @field_validator("value")
        @classmethod
        def divide(cls, value: int) -> int:
            return 1 // value

    client = MemoryClient({"value": "1"})
    handle = live(Dividing, client=client)
    handle.start()
    client.publish({"value": "0"})
    assert handle.current.value == 1
    assert "a validator failed with ZeroDivisionError" in lines.text


def test_each_applied_or_refused_change_is_a_span() -> None:
    tracer = Tracer()
    end = trace_publishes(tracer)
    client = MemoryClient({"low": "1"}, app_id="shop", scope="prod")
    live(Shop, client=client).start()
    client.publish({"low": "2", "high": "20"})
    client.publish({"low": "planted-value"})
    end()
    client.publish({"low": "3"})
    (builder,) = tracer.take()
    assert (builder.name, builder.total, builder.errors) == ("config:publish", 2, 1)
    tags = [sample.tag for sample in builder.samples]
    assert tags == ["Shop shop/prod v2 applied: low, high"]
    (error,) = builder.error_samples
    assert (error.tag, error.error) == ("Shop shop/prod v3 refused: low", "refused: low")
