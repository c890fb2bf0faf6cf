"""The official Python SDK's own ten tests, with public names only.

Replaced: ``Mock`` tracers by a real one, ``_login`` and patched ``requests.post`` by a real server, ``_load_configs`` and ``_version`` by
``start()`` and ``version``, ``_configs`` by values of the center, ``_tracer`` and ``_config`` by ``tracer`` and ``config``.
"""

# ruff: noqa: PT009, PT027 - unittest, as the official tests are: `python -m unittest discover tests/` runs them
from __future__ import annotations

import time
import unittest
from types import SimpleNamespace

import requests

from stardust_auto import ConfigClient, Span, StardustClient, StardustTracer
from stardust_auto.server import EmbeddedServer
from stardust_auto.tracer import SpanBuilder


class Platform(unittest.TestCase):
    """A server for each class of tests."""

    server: EmbeddedServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.enterClassContext(EmbeddedServer()) if hasattr(cls, "enterClassContext") else _entered(cls)

    def publish(self, **values: str) -> None:
        """Publish values for the application TestApp."""
        place = f"{self.server.url}/console/api/config/TestApp"
        headers = {"Authorization": f"Bearer {self.server.key}"}
        requests.put(place, json={"scope": "", "items": values}, headers=headers, timeout=10).raise_for_status()
        requests.post(f"{place}/publish", json={}, headers=headers, timeout=10).raise_for_status()


def _entered(cls: type[unittest.TestCase]) -> EmbeddedServer:
    server = EmbeddedServer()
    server.__enter__()
    cls.addClassCleanup(server.__exit__, None, None, None)
    return server


class TestSpan(Platform):
    def setUp(self) -> None:
        self.tracer = StardustTracer(self.server.url, "TestApp")

    def test_span_creation(self) -> None:
        span = Span("test_operation", self.tracer)
        self.assertEqual(span.name, "test_operation")
        self.assertIsNotNone(span.id)
        self.assertEqual(len(span.trace_id), 32)
        self.assertEqual(span.tag, "")
        self.assertEqual(span.error, "")

    def test_span_context_manager(self) -> None:
        with Span("test_op", self.tracer) as span:
            span.tag = "test_tag"
            time.sleep(0.002)
        self.assertGreater(span.end_time, span.start_time)
        (builder,) = self.tracer.tracer.take()
        self.assertEqual((builder.total, builder.samples[0].tag), (1, "test_tag"))

    def test_span_error_handling(self) -> None:
        try:
            with Span("test_op", self.tracer) as span:
                raise ValueError("test error")
        except ValueError:
            pass
        self.assertEqual(span.error, "test error")
        self.assertEqual({builder.name: builder.errors for builder in self.tracer.tracer.take()}["test_op"], 1)


class TestStardustTracer(Platform):
    def test_login(self) -> None:
        tracer = StardustTracer(server=self.server.url, app_id="TestApp", secret="")
        tracer.start()
        deadline = time.monotonic() + 10
        while tracer.session.state != "online" and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(tracer.session.state, "online")
        self.assertEqual(tracer.app_id, "TestApp")
        tracer.stop()

    def test_span_builder(self) -> None:
        builder = SpanBuilder("test_op", max_samples=2, max_errors=2)
        ids = {"id": "a", "parent_id": "", "trace_id": "t", "tag": ""}
        builder.add_span(SimpleNamespace(start_time=1000, end_time=1100, error="", **ids))
        self.assertEqual((builder.total, builder.errors, builder.cost), (1, 0, 100))
        builder.add_span(SimpleNamespace(start_time=2000, end_time=2200, error="error message", **ids))
        self.assertEqual((builder.total, builder.errors, builder.cost), (2, 1, 300))


class TestConfigClient(Platform):
    def test_login(self) -> None:
        client = ConfigClient(server=self.server.url, app_id="TestApp")
        client.start()
        self.assertTrue(client.wait_loaded(10))
        client.stop()

    def test_load_configs(self) -> None:
        self.publish(**{"database.host": "localhost", "database.port": "3306", "debug": "true"})
        client = ConfigClient(server=self.server.url, app_id="TestApp")
        client.start()
        self.assertGreaterEqual(client.version, 1)
        self.assertEqual(client.get("database.host"), "localhost")
        self.assertEqual(client.get_int("database.port"), 3306)
        self.assertEqual(client.get_bool("debug"), True)
        client.stop()

    def test_config_type_conversion(self) -> None:
        self.publish(int_value="123", bool_true="true", bool_false="false", bool_one="1", bool_zero="0")
        client = ConfigClient(server=self.server.url, app_id="TestApp")
        client.start()
        self.assertEqual(client.get_int("int_value"), 123)
        self.assertEqual(client.get_bool("bool_true"), True)
        self.assertEqual(client.get_bool("bool_false"), False)
        self.assertEqual(client.get_bool("bool_one"), True)
        self.assertEqual(client.get_bool("bool_zero"), False)
        client.stop()


class TestStardustClient(unittest.TestCase):
    def test_client_initialization(self) -> None:
        client = StardustClient(
            server="http://localhost:6600",
            app_id="TestApp",
            secret="test_secret",
            enable_trace=True,
            enable_config=True,
        )
        self.assertIsNotNone(client.tracer)
        self.assertIsNotNone(client.config)

    def test_client_disabled_features(self) -> None:
        client = StardustClient(
            server="http://localhost:6600", app_id="TestApp", enable_trace=False, enable_config=False
        )
        self.assertIsNone(client.tracer)
        self.assertIsNone(client.config)
        with self.assertRaises(RuntimeError):
            client.new_span("test")
        with self.assertRaises(RuntimeError):
            client.get_config("test")
