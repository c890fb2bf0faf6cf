"""Every fault of a server, with a real program under the launcher (``fault_programs.py``): it is unaffected, and nothing is lost."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from _kit.fault_programs import FAULTS, Fault, Outcome, run

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    """All programs at once: most of their time is waiting."""
    with ThreadPoolExecutor(12) as pool:
        slow_first = sorted(FAULTS, key=lambda fault: "no answer in time" not in fault.text)
        yield {fault.name: pool.submit(run, fault) for fault in slow_first}


@pytest.mark.case("X19", "X22")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_program_under_a_fault(outcomes: dict[str, Future[Outcome]], name: str) -> None:
    fault: Fault = BY_NAME[name]
    outcome = outcomes[name].result()
    # The program: its exit code, and no query that waited for a server that takes 15 s or more.
    assert outcome.code == 0
    assert outcome.slowest_ms < 1000
    # Bounded: less than this of memory in all, and a handful of connections.
    assert outcome.memory_mb < 120
    assert outcome.calls <= 12
    # One line when it began, and at most two when it was over.
    assert len(outcome.warnings) == fault.lines
    assert all(re.search(fault.text, line) for line in outcome.warnings)
    assert len(outcome.others) <= 2
    assert not any("issued-secret" in line or "token-1" in line for line in (*outcome.warnings, *outcome.others))
    # Recovered, and nothing was lost.
    assert outcome.recovered_after < 60
    assert outcome.arrived == outcome.count
