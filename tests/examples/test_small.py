"""The small examples: each runs by the command in its first lines, and its settings change while it runs."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _kit.examples import Place


def _get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=10) as reply:
        found: dict[str, object] = json.load(reply)
        return found


def _until(url: str, key: str, value: object, seconds: float = 10.0) -> dict[str, object]:
    """Ask until the answer is as wanted; every answer is a real request."""
    deadline = time.monotonic() + seconds
    while True:
        found = _get(url)
        if found[key] == value or time.monotonic() > deadline:
            return found


def test_basic(place: Place) -> None:
    done = place.run(*place.command("basic/basic.py", summary=True))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("settings are now {}") == 1, "the center has none yet"
    assert [line for line in lines if not line.startswith("settings")] == [
        "imported batch 1",
        "imported batch 2",
        "skipped: batch 3 is damaged",
        "imported batch 4",
        "imported batch 5",
    ]
    assert "job:import" in done.stderr
    spans = [span for trace in place.ctl_json("traces") for span in place.ctl_json("trace", trace["trace_id"])["spans"]]
    assert {"job:import", "job:read"} <= {span["name"] for span in spans}
    assert place.ctl("config", "set", "--app", "basic", "batches=2", "greeting=Hello", "--publish").returncode == 0
    lines = place.run(*place.command("basic/basic.py")).stdout.splitlines()
    assert lines.count("settings are now {'batches': '2', 'greeting': 'Hello'}") == 1
    assert [line for line in lines if not line.startswith("settings")] == ["Hello batch 1", "Hello batch 2"]


def test_basic_follows_a_change(place: Place) -> None:
    place.environ["PYTHONUNBUFFERED"] = "1"
    assert place.run(*place.command("basic/basic.py")).returncode == 0  # its server goes on
    assert place.ctl("config", "set", "--app", "basic", "batches=200", "pause=0.05", "--publish").returncode == 0
    with place.running(*place.command("basic/basic.py")) as process:
        assert process.stdout is not None
        assert any(line == "imported batch 2\n" for line in process.stdout)
        assert place.ctl("config", "set", "--app", "basic", "greeting=Hello", "--publish").returncode == 0
        assert any("'greeting': 'Hello'" in line for line in process.stdout)
        assert any(line.startswith("Hello batch") for line in process.stdout)


def test_flask(place: Place) -> None:
    with place.running(*place.command("flask/hello.py", "--port", "0")) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert _get(url) == {"text": "Hello you", "letters": 3}
        assert place.ctl("config", "set", "--app", "hello", "greeting=Bonjour", "--publish").returncode == 0
        assert _until(url, "text", "Bonjour you")["text"] == "Bonjour you"


def test_django(place: Place) -> None:
    command = place.command("django/notes.py", "runserver", "--noreload", "127.0.0.1:0")
    place.environ["PYTHONUNBUFFERED"] = "1"
    with place.running(*command) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "http://" in line)
        url = line[line.index("http://") :].strip() + "notes/"
        for count in (1, 2, 3):
            assert len(_get(url)["notes"]) == count  # type: ignore[arg-type]  # a list of JSON objects
        assert place.ctl("config", "set", "--app", "notes", "page_size=2", "--publish").returncode == 0
        deadline = time.monotonic() + 10
        while len(_get(url)["notes"]) != 2 and time.monotonic() < deadline:  # type: ignore[arg-type]  # as above
            pass
        assert len(_get(url)["notes"]) == 2  # type: ignore[arg-type]  # as above
