"""A program that is traced and has the embedded server inside sees nothing of the server."""

from __future__ import annotations

import contextlib
import json
import urllib.request

import pytest

from stardust_auto.server import EmbeddedServer


@pytest.mark.parametrize("inside", [False, True])
def test_the_embedded_server_does_not_trace_itself(trace, inside):
    with contextlib.ExitStack() as stack:
        with trace.tracer.new_span("outer") if inside else contextlib.nullcontext():
            server = stack.enter_context(EmbeddedServer())  # also not part of the span that it is started in
        request = urllib.request.Request(
            f"{server.url}/console/api/apps", headers={"Authorization": f"Bearer {server.key}"}
        )
        with urllib.request.urlopen(request) as reply:
            assert isinstance(json.load(reply), list)
    assert trace.names == (["outer"] if inside else [])
