"""Settings through the SDK's client: one client for everybody who reads the same place, and what a change leaves in the traces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakSet

import pytest
import requests

from stardust_auto import ConfigClient, StardustClient, StardustConfigDict, StardustSettings, live
from stardust_auto.config.remote import verdicts
from stardust_auto.config.remote.clients import CLIENTS
from stardust_auto.server import EmbeddedServer
from stardust_auto.tracing.propagation import extract
from stardust_auto.tracing.span import LiveSpan
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from pathlib import Path

Publish = Callable[..., None]


class Shop(StardustSettings):
    model_config = StardustConfigDict(stardust_app="shop")
    pool: int = 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmbeddedServer]:
    for name in [name for name in os.environ if name.upper().startswith(("STARDUST", "STARSERVER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(verdicts, "_ledgers", WeakSet())  # what other tests have left
    with EmbeddedServer(period=60) as running:
        monkeypatch.setenv("STARDUST_SERVER", running.url)
        monkeypatch.setenv("STARDUST_CACHE_DIR", str(tmp_path))
        yield running
        CLIENTS.stop_all()


@pytest.fixture
def publish(server: EmbeddedServer) -> Publish:
    def run(app: str = "shop", **values: str) -> None:
        place, headers = f"{server.url}/console/api/config/{app}", {"Authorization": f"Bearer {server.key}"}
        requests.put(place, json={"scope": "", "items": values}, headers=headers, timeout=10).raise_for_status()
        requests.post(f"{place}/publish", json={}, headers=headers, timeout=10).raise_for_status()

    return run


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def report(app: str) -> None:
    """A change of ``app`` that some other provider brought."""
    change = verdicts.Verdict("Shop", app, "", 5, "", True, ("pool",), started_ns=time.perf_counter_ns())
    verdicts.Verdicts().report(report, change)


def core(client: StardustClient) -> Tracer:
    assert client.tracer is not None
    return client.tracer.tracer


def provider(client: StardustClient) -> ConfigClient:
    assert client.config is not None
    return client.config


def tags(client: StardustClient) -> list[str]:
    return [
        sample.tag
        for builder in core(client).take()
        if builder.name == verdicts.SPAN
        for sample in (*builder.samples, *builder.error_samples)
    ]


def test_the_sdk_and_a_live_handle_share_one_client(publish: Publish) -> None:
    publish(pool="2")
    handle = live(Shop)
    with StardustClient(app_id="shop") as client:
        assert handle.current.pool == 2
        assert client.config is handle.client
        assert client.get_config_int("pool") == 2
        publish(pool="3")
        until(lambda: handle.current.pool == 3)
        assert client.get_config_int("pool") == 3
    assert handle.client is not None
    assert handle.client.state != "OFF", "the handle still follows"
    publish(pool="4")
    until(lambda: handle.current.pool == 4)
    handle.close()
    assert provider(client).state == "OFF"


def test_who_has_the_secret_and_who_does_not_share_it(server: EmbeddedServer) -> None:
    client = StardustClient(app_id="Shop", secret="planted-secret")
    assert client.config is CLIENTS.of_class(Shop.model_config)


def test_another_scope_is_another_client(server: EmbeddedServer) -> None:
    client = StardustClient(app_id="shop", scope="prod")
    assert client.config is not CLIENTS.of_class(Shop.model_config)
    assert provider(client).requested_scope == "prod"


def test_callbacks_of_a_stopped_sdk_client_are_not_called(publish: Publish) -> None:
    publish(pool="2")
    handle = live(Shop)
    assert handle.current.pool == 2
    told: list[str] = []
    with StardustClient(app_id="shop") as client:
        client.on_config_change(lambda values: told.append(values["pool"]))
        publish(pool="3")
        until(lambda: told == ["3"])
    publish(pool="4")
    until(lambda: handle.current.pool == 4)
    assert provider(client)._dispatcher.drain(5)
    assert told == ["3"]
    handle.close()


def test_the_sdk_traces_changes_of_its_application(publish: Publish) -> None:
    publish(pool="2")
    handle = live(Shop)
    with StardustClient(app_id="shop") as client:
        assert handle.current.pool == 2
        publish(pool="3")
        until(lambda: handle.current.pool == 3)
        assert tags(client) == ["Shop shop v3 applied: pool"]
        publish(pool="planted-value")
        until(lambda: handle.status.rejected_version is not None)
        assert tags(client) == ["Shop shop v4 refused: pool"]
        report("other")
        assert tags(client) == []
    report("shop")
    assert tags(client) == []
    handle.close()


def test_a_map_that_no_class_reads_is_traced_by_its_keys(publish: Publish) -> None:
    publish(pool="2", secret="planted-value-1")
    with StardustClient(app_id="shop") as client:
        assert provider(client).wait_loaded(5)
        assert core(client).request_note == "config: shop v2"
        publish(secret="planted-value-2", new="1")
        until(lambda: client.config_version == 3)
        until(lambda: core(client).request_note == "config: shop v3")
        assert tags(client) == ["keys of shop v3 applied: new, secret"]


def test_the_version_in_use_is_the_one_that_was_accepted(publish: Publish) -> None:
    publish(pool="2")
    handle = live(Shop)
    with StardustClient(app_id="shop") as client:
        assert handle.current.pool == 2
        assert core(client).request_note == "config: shop v2"
        publish(pool="x")
        until(lambda: handle.status.rejected_version == 3)
        assert core(client).request_note == "config: shop v2"
        publish(pool="7")
        until(lambda: core(client).request_note == "config: shop v4")
    assert core(client).request_note == ""
    handle.close()


def test_sampled_requests_name_the_version_and_other_spans_do_not() -> None:
    class Request(LiveSpan):
        __slots__ = ()
        is_request = True

        def describe(self) -> str:
            return "10.0.0.1 GET /a/long/path?with=?"

    tracer = Tracer()
    tracer.request_note = "config: shop v7"
    tracer.max_tag_length = 30
    parent = extract({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}.get)
    request = tracer.begin("/a/long/path", parent, Request)
    with request, tracer.new_span("inside"):
        pass
    found = {builder.name: builder.samples[0].tag for builder in tracer.take()}
    assert found == {"inside": "", "/a/long/path": "10.0.0.1 GET \r\nconfig: shop v7"}


def test_a_client_without_a_server_can_still_be_asked(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STARDUST_SERVER")
    assert provider(StardustClient(app_id="shop")).get("x", "y") == "y"
