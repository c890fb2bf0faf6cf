"""Callbacks."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from stardust_auto import live
from stardust_auto.config import MemoryClient, StardustSettings
from stardust_auto.process.signals import blocked

if TYPE_CHECKING:
    from collections.abc import Callable


class Shop(StardustSettings):
    a: int = 0
    b: int = 0
    text: str | None = None


@pytest.mark.case("C55")
def test_a_failing_callback_is_told_and_the_others_run(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    seen: list[tuple[str, int, int]] = []

    @handle.on_change(lambda s: s.a)
    def failing(old: int, new: int) -> None:
        raise ValueError(f"secret {new}")

    handle.on_change(lambda s: s.text.upper(), lambda old, new: None)  # type: ignore[union-attr]  # a selector that fails

    @handle.on_change(lambda s: s.a)
    def working(old: int, new: int) -> None:
        seen.append(("working", old, new))

    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert seen == [("working", 1, 2)]
    assert "failing failed with ValueError" in lines.text
    assert "secret 2" not in lines.text


@pytest.mark.case("C55")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_is_no_exception_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))
    seen: list[int] = []

    @handle.on_change(lambda s: s.a)
    def interrupting(old: int, new: int) -> None:
        raise KeyboardInterrupt

    handle.on_change(lambda s: s.a, lambda old, new: seen.append(new))
    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    client.publish({"a": 3})  # the queue goes on
    assert handle.wait_callbacks(5)
    assert KeyboardInterrupt in raised
    assert seen == [2, 3]


@pytest.mark.case("C56")
def test_a_callback_may_do_anything_with_the_handle() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    seen: list[tuple[str, int]] = []

    @handle.on_change(lambda s: s.a)
    def busy(old: int, new: int) -> None:
        seen.append(("current", handle.current.a))
        handle.on_change(lambda s: s.a, lambda old, new: seen.append(("late", new)))
        handle.unsubscribe(busy)
        handle.reload()
        if new == 2:
            client.publish({"a": 3})

    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert seen == [("current", 2), ("late", 3)]


@pytest.mark.case("C57")
def test_async_callbacks_run_on_their_loop(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    seen: list[tuple[int, int, Any]] = []

    async def main() -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        async def changed(old: int, new: int) -> None:
            seen.append((old, new, asyncio.get_running_loop()))
            done.set()

        handle.on_change(lambda s: s.a, changed)
        await asyncio.to_thread(client.publish, {"a": 2})
        await asyncio.wait_for(done.wait(), 5)
        return loop

    handle.start()
    loop = asyncio.run(main())
    assert seen == [(1, 2, loop)]
    client.publish({"a": 3})  # the loop is closed
    assert handle.wait_callbacks(5)
    assert len(seen) == 1
    assert "its event loop is closed" in lines.text
    client.publish({"a": 4})
    assert handle.wait_callbacks(5)
    assert lines.text.count("its event loop is closed") == 1


@pytest.mark.case("C57")
def test_async_callbacks_without_a_loop_run_all_the_same() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    seen: list[int] = []

    @handle.on_change(lambda s: s.a)
    async def changed(old: int, new: int) -> None:
        await asyncio.sleep(0)
        seen.append(new)

    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert seen == [2]


def test_start_async_gives_callbacks_its_loop() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    loops: list[Any] = []
    done = asyncio.Event()

    @handle.on_change(lambda s: s.a)
    async def changed(old: int, new: int) -> None:
        loops.append(asyncio.get_running_loop())
        done.set()

    async def main() -> asyncio.AbstractEventLoop:
        assert (await handle.start_async()).a == 1
        client.publish({"a": 2})
        await asyncio.wait_for(done.wait(), 5)
        return asyncio.get_running_loop()

    assert [asyncio.run(main())] == loops


@pytest.mark.case("C55")
def test_a_failing_async_callback_is_told(lines: pytest.LogCaptureFixture) -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)

    @handle.on_change(lambda s: s.a)
    async def failing(old: int, new: int) -> None:
        raise ValueError("secret")

    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert "failing failed with ValueError" in lines.text


@pytest.mark.case("C58")
def test_a_slow_callback_delays_nothing_and_changes_coalesce() -> None:
    client = MemoryClient({"a": 1, "b": 1})
    handle = live(Shop, client=client)
    entered, leave = threading.Event(), threading.Event()
    seen: list[tuple[str, int, int]] = []

    @handle.on_change(lambda s: s.a)
    def slow(old: int, new: int) -> None:
        seen.append(("slow", old, new))
        entered.set()
        assert leave.wait(5)

    @handle.on_change(lambda s: s.a)
    def second(old: int, new: int) -> None:
        seen.append(("second", old, new))

    handle.start()
    client.publish({"a": 2})
    assert entered.wait(5)
    for number in (3, 4, 5):
        client.publish({"a": number})
        assert handle.current.a == number  # the swap does not wait
    leave.set()
    assert handle.wait_callbacks(5)
    assert seen == [("slow", 1, 2), ("slow", 2, 5), ("second", 1, 5)]


class Listener:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def changed(self, old: int, new: int) -> None:
        self.seen.append((old, new))


@pytest.mark.case("C59")
def test_bound_methods_are_held_weakly() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    handle.start()
    listener = Listener()
    handle.on_change(lambda s: s.a, listener.changed)
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert listener.seen == [(1, 2)]
    del listener
    gc.collect()
    assert handle._loader.callbacks.entries == ()


@pytest.mark.case("C59")
def test_unsubscribing_twice_is_once() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    handle.start()
    seen: list[int] = []
    subscription = handle.on_change(lambda s: s.a, lambda old, new: seen.append(new))
    subscription.unsubscribe()
    subscription.unsubscribe()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert seen == []


@pytest.mark.case("C59")
@pytest.mark.parametrize("callback", [lambda: None, lambda new: None, lambda a, b, c: None])
def test_a_wrong_number_of_arguments_is_refused_at_registration(callback: Any) -> None:
    handle = live(Shop, client=MemoryClient({}))
    with pytest.raises(TypeError, match="must take two arguments"):
        handle.on_change(lambda s: s.a, callback)
    with pytest.raises(TypeError, match="must take two arguments"):
        handle.on_change(lambda s: s.a)(callback)


def test_a_path_selects_too() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    seen: list[tuple[int, int]] = []

    @handle.on_change("a")
    def changed(old: int, new: int) -> None:
        seen.append((old, new))

    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert seen == [(1, 2)]


def test_callbacks_run_in_order_of_registration() -> None:
    client = MemoryClient({"a": 1, "b": 1})
    handle = live(Shop, client=client)
    order: list[str] = []

    def noting(name: str) -> Callable[[int, int], None]:
        return lambda old, new: order.append(name)

    for name in "xyz":
        handle.on_change(lambda s: s.a, noting(name))
    handle.start()
    client.publish({"a": 2})
    assert handle.wait_callbacks(5)
    assert order == ["x", "y", "z"]


def test_a_process_that_a_callback_starts_hears_signals() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    program = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), end='')"
    masks: list[str] = []

    @handle.on_change(lambda s: s.a)
    def starting(old: int, new: int) -> None:
        masks.append(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30).stdout)

    handle.start()
    with blocked():  # as our own thread is that pulls
        client.publish({"a": 2})
    assert handle.wait_callbacks(30)
    assert masks == ["set()"]


def test_async_callbacks_run_one_after_the_other_and_the_newest_change_comes_last() -> None:
    client = MemoryClient({"a": 1})
    events: list[object] = []

    async def scenario() -> None:
        handle = live(Shop, client=client)
        await handle.start_async()

        @handle.on_change(lambda s: s.a)
        async def slow(old: int, new: int) -> None:
            events.append(("begin", old, new))
            await asyncio.sleep(0.2 if new == 50 else 0.01)
            events.append(("end", old, new))

        handle.on_change(lambda s: s.a, lambda old, new: events.append(("sync", old, new)))
        client.publish({"a": 50})
        await asyncio.sleep(0.05)
        client.publish({"a": 3})
        client.publish({"a": 2})
        assert await asyncio.to_thread(handle.wait_callbacks, 5)

    asyncio.run(scenario())
    assert events == [
        ("begin", 1, 50),
        ("end", 1, 50),
        ("begin", 50, 2),  # what came meanwhile is one change
        ("end", 50, 2),
        ("sync", 1, 2),
    ]


def test_waiting_on_the_loop_of_an_async_callback_answers_at_once() -> None:
    client = MemoryClient({"a": 1})

    async def scenario() -> list[object]:
        handle = live(Shop, client=client)
        await handle.start_async()
        seen: list[object] = []

        @handle.on_change(lambda s: s.a)
        async def note(old: int, new: int) -> None:
            await asyncio.sleep(0)
            seen.append(new)

        client.publish({"a": 2})
        started = time.monotonic()
        seen.append(handle.wait_callbacks(5))
        assert time.monotonic() - started < 1
        await asyncio.to_thread(handle.wait_callbacks, 5)
        return seen

    assert asyncio.run(scenario()) == [False, 2]


def test_a_loop_that_ends_during_a_callback_holds_up_no_other() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    handle.start()
    seen: list[int] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    begun = threading.Event()

    async def endless(old: int, new: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    handle.on_change(lambda s: s.a, endless)
    handle.bind_loop(loop)
    handle.on_change(lambda s: s.a, lambda old, new: seen.append(new))
    client.publish({"a": 2})
    assert begun.wait(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    assert handle.wait_callbacks(5)
    assert seen == [2]
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_selector_that_fails_for_a_state_selects_none() -> None:
    class Inner(BaseModel, frozen=True):
        x: int = 0

    class Optional(StardustSettings):
        inner: Inner | None = None

    client = MemoryClient({})
    handle = live(Optional, client=client)
    handle.start()
    seen: list[tuple[object, object]] = []
    handle.on_change(lambda s: s.inner.x, lambda old, new: seen.append((old, new)))  # type: ignore[union-attr]  # what is tested
    client.publish({"inner:x": "4"})
    assert handle.wait_callbacks(5)
    assert seen == [(None, 4)]


def test_a_callback_for_refusals_takes_one_argument_and_can_be_removed() -> None:
    client = MemoryClient({"a": 1})
    handle = live(Shop, client=client)
    handle.start()
    with pytest.raises(TypeError, match="must take one argument"):
        handle.on_rejected(lambda: None)  # type: ignore[arg-type,misc]  # what is tested
    seen: list[object] = []

    @handle.on_rejected
    def note(error: Exception) -> None:
        seen.append(error)

    client.publish({"a": "word"})
    assert handle.wait_callbacks(5)
    handle.unsubscribe(note)
    client.publish({"a": "other word"})
    assert handle.wait_callbacks(5)
    assert len(seen) == 1
