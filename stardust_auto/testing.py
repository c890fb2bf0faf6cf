"""Public test kit: assert on what your own code does, with ids and times that are the same in every run.

    from stardust_auto.testing import capture

    def test_an_order_makes_three_queries() -> None:
        with capture() as captured:
            place_order(7)
        assert captured.calls("db") == 3
        assert captured.calls("redis:SET") == 1
        assert not captured.errors

No server, no thread, no network of ours. :func:`offline` is the same for settings: a configuration center in memory. pytest has
``stardust_capture``, ``stardust_config`` and ``stardust_server`` as fixtures (``pytest_plugin.py``); they need no import.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stardust_auto.environment.settings import AgentSettings
from stardust_auto.process.clock import Clock
from stardust_auto.tracing.builder import TracePolicy
from stardust_auto.tracing.ids import IdGenerator
from stardust_auto.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stardust_auto.config.live.offline import OfflineCenter
    from stardust_auto.server import EmbeddedServer
    from stardust_auto.tracing.builder import OperationTotal, Sample

__all__ = ["Captured", "CountingClock", "CountingIds", "capture", "memory_server", "offline"]

#: 2026-01-01 00:00:00 UTC in nanoseconds: when every captured test begins.
_BEGINNING = 1_767_225_600_000_000_000
_MILLISECOND = 1_000_000
_EXCEPTION = "ex:"


class CountingIds(IdGenerator):
    """Ids that count: trace ``...01``, ``...02``, span ``...01``, ``...02``."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        super().__init__(0)
        self._counts = {64: 0, 128: 0}
        self.bits = self._count

    def _count(self, size: int, /) -> int:
        self._counts[size] += 1
        return self._counts[size]

    def reseed(self) -> None:
        """Go on counting, also in a forked child."""


class CountingClock(Clock):
    """A monotonic clock that is one millisecond further each time it is read, and a wall clock that goes with it."""

    __slots__ = ("_now", "step")

    def __init__(self, step: int = _MILLISECOND) -> None:
        #: Nanoseconds that a reading takes.
        self.step = step
        self._now = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        self._now += self.step
        return self._now

    def wall_ns(self) -> int:
        """Nanoseconds since 1970; reading it takes no time."""
        return _BEGINNING + self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += round(seconds * 1e9)


class Captured:
    """What was recorded while :func:`capture` was in effect; may be asked inside the block and after it."""

    def __init__(self, tracer: Tracer, clock: CountingClock) -> None:
        self.tracer = tracer
        self.clock = clock

    @property
    def spans(self) -> list[Sample]:
        """Every call, in the order of their beginnings, without the additional spans of exceptions."""
        return [sample for sample in self.tracer.history() if not sample.name.startswith(_EXCEPTION)]

    @property
    def names(self) -> list[str]:
        """The names of :attr:`spans`."""
        return [sample.name for sample in self.spans]

    @property
    def errors(self) -> list[Sample]:
        """The calls that failed."""
        return [sample for sample in self.spans if sample.error]

    @property
    def totals(self) -> dict[str, OperationTotal]:
        """Counts by name, those of exceptions (``ex:ValueError``) included."""
        return {one.name: one for one in self.tracer.totals()}

    def calls(self, name: str) -> int:
        """How often the operation ``name`` ran, or any of the kind ``name``: ``"redis"`` counts ``redis:...``."""
        return sum(
            one.total
            for one in self.tracer.totals()
            if one.name == name or one.name.startswith((f"{name}:", f"{name}/"))
        )

    def tree(self) -> str:
        """The names of all calls, one a line, each two blanks further in than what it was called by."""
        spans = self.spans
        known = {sample.id for sample in spans}
        lines: list[str] = []

        def add(parent: str, depth: int) -> None:
            for sample in spans:
                above = sample.parent_id if sample.parent_id in known else ""
                if above == parent:
                    lines.append("  " * depth + sample.name)
                    add(sample.id, depth + 1)

        add("", 0)
        return "\n".join(lines)


@contextmanager
def capture(*, excludes: Sequence[str] = (), **integrations: bool) -> Iterator[Captured]:
    """Record every call of the libraries that are traced, and every span, in memory.

    Works in any process, activated or not; libraries that were imported before are patched for the time being. Not nestable
    across threads: there is one process.

    Args:
        excludes: names that are not recorded, with ``*`` and ``?``.
        integrations: ``sqlite3=False`` leaves that library alone.
    """
    from stardust_auto import agent
    from stardust_auto.agent.agent import Agent
    from stardust_auto.instrumentation import registry

    clock = CountingClock()
    policy = TracePolicy(
        period=86_400, max_samples=1_000_000, max_errors=1_000_000, timeout=3_600_000, excludes=tuple(excludes)
    )
    tracer = Tracer(policy, ids=CountingIds(), clock=clock, keep_totals=True)
    settings = AgentSettings(integrations=integrations)
    before = agent.swap(Agent(settings, tracer=tracer))
    registry.install(agent.get_tracer, settings)
    try:
        yield Captured(tracer, clock)
    finally:
        agent.swap(before)
        if before is not None:
            registry.install(agent.get_tracer, before.settings)
        else:
            registry.registry.uninstall()


@contextmanager
def memory_server(**settings: Any) -> Iterator[EmbeddedServer]:
    """A Stardust server in this process, on a free port of the loopback address, that forgets everything at the end.

    Needs the extra ``local``. ``settings`` are those of :class:`stardust_auto.server.EmbeddedServer`.
    """
    from stardust_auto.server import EmbeddedServer

    with EmbeddedServer(**settings) as server:
        yield server


@contextmanager
def offline(values: Mapping[str, object] | None = None) -> Iterator[OfflineCenter]:
    """Within the block every ``live`` handle and every ``Settings()`` reads this map in memory instead of a center.

    ``publish`` and ``update`` of what it gives are what a publish in the center is; when they return, callbacks have run. Handles that
    were made with a ``client`` of their own stay with it.
    """
    from stardust_auto.config.live.offline import offline as without_center

    with without_center(values) as center:
        yield center
