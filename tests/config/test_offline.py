"""Settings in tests of programs: ``stardust_auto.testing.offline`` and the fixture ``stardust_config``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stardust_auto import live
from stardust_auto.config import InvalidSettingsError, MemoryClient, StardustConfigDict, StardustSettings
from stardust_auto.testing import offline

if TYPE_CHECKING:
    from pathlib import Path


class Shop(StardustSettings):
    pool: int = 1
    region: str = ""


class Other(StardustSettings):
    model_config = StardustConfigDict(stardust_app="other", stardust_scope="prod", stardust_server="http://127.0.0.1:9")
    pool: int = 2


config = live(Shop)
other = live(Other)


def test_every_handle_and_every_class_reads_the_same_map() -> None:
    threads = threading.active_count()
    with offline({"pool": 7}) as center:
        assert (config.current.pool, other.current.pool, Shop().pool, Other().pool) == (7, 7, 7, 7)
        assert center.publish({"Pool": 8})
        assert center.update({"region": "eu"})
        assert (config.current.pool, config.current.region, center.values) == (8, "eu", {"Pool": "8", "region": "eu"})
        assert (config.status.state, config.status.version, config.status.scope) == ("VALID", 3, "")
        assert threading.active_count() == threads
    assert config.current.pool == 1


def test_a_handle_that_was_read_before_begins_anew() -> None:
    assert config.current.pool == 1
    with offline({"pool": 7}):
        assert config.current.pool == 7
        with offline({"pool": 70}):
            assert config.current.pool == 70
        assert config.current.pool == 7
    assert config.current.pool == 1


def test_callbacks_have_run_when_publish_returns() -> None:
    seen: list[tuple[int, int, str]] = []
    with offline() as center:
        config.start()

        @config.on_change(lambda s: s.pool)
        def changed(old: int, new: int) -> None:
            seen.append((old, new, threading.current_thread().name))

        center.publish({"pool": "5"})
        assert seen == [(1, 5, threading.current_thread().name)]
    with offline({"pool": "6"}) as center:
        config.start()
        center.publish({"pool": "7"})
    assert len(seen) == 1, "what a test registers ends with it"


def test_callbacks_of_the_program_stay_and_are_not_told_of_the_test_itself() -> None:
    seen: list[tuple[int, int]] = []
    subscription = config.on_change(lambda s: s.pool, lambda old, new: seen.append((old, new)))
    with offline({"pool": "6"}) as center:
        assert config.current.pool == 6
        center.publish({"pool": "7"})
    assert config.current.pool == 1
    with offline({"pool": "8"}):
        assert config.current.pool == 8
    subscription.unsubscribe()
    assert seen == [(6, 7)]


def test_async_callbacks_run_on_the_loop_of_the_test() -> None:
    async def main() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        with offline({"pool": "6"}) as center:
            await config.start_async()

            @config.on_change(lambda s: s.pool)
            async def changed(old: int, new: int) -> None:
                seen.append((old, new))

            center.publish({"pool": "7"})
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == [(6, 7)]


def test_what_the_class_refuses_is_refused() -> None:
    with offline({"pool": "6"}) as center:
        assert config.current.pool == 6
        assert not center.publish({"pool": "wrong"})
        assert (config.current.pool, config.status.rejected_version) == (6, 2)
    with offline({"pool": "wrong"}), pytest.raises(InvalidSettingsError):
        config.start()


def test_a_handle_with_a_client_of_its_own_stays_with_it() -> None:
    own = live(Shop, client=MemoryClient({"pool": "3"}))
    with offline({"pool": "6"}):
        assert own.current.pool == 3
    assert own.current.pool == 3


def test_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "shop_program.py").write_text(
        "from stardust_auto import StardustSettings, live\n"
        "class Settings(StardustSettings):\n"
        "    pool: int = 1\n"
        "config = live(Settings)\n"
    )
    (tmp_path / "test_shop.py").write_text(
        "import sys\n"
        "def test_nothing_is_imported_for_tests_without_it():\n"
        "    rooms = {name.split('.')[1] for name in sys.modules if name.startswith('stardust_auto.')}\n"
        "    assert rooms <= {'environment', 'errors', 'privacy', 'pytest_plugin'}\n"
        "    assert not {'pydantic', 'requests', 'wrapt'} & set(sys.modules)\n"
        "def test_pool(stardust_config):\n"
        "    from shop_program import config\n"
        "    stardust_config.publish({'pool': 9})\n"
        "    assert config.current.pool == 9\n"
        "def test_the_next_one_starts_with_nothing(stardust_config):\n"
        "    from shop_program import config\n"
        "    assert config.current.pool == 1\n"
    )
    others = ["-p", "no:hypothesispytest", "-p", "no:requests_mock"]  # plugins that import what ours does not
    command = [sys.executable, "-m", "pytest", "-q", "-p", "stardust_auto.pytest_plugin", *others]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1].startswith("3 passed"), done.stdout


def test_the_plugin_is_registered_and_brings_no_warning_into_an_activated_process() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="pytest11", name="stardust_auto.pytest_plugin")
    assert found.load().stardust_config
    import stardust_auto

    assert "PYTEST_DONT_REWRITE" in (stardust_auto.__doc__ or "")
