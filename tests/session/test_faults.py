"""Faults with a real program under the launcher (``fault_programs.py``, which has many more): it is unaffected, and nothing is lost."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from _kit.fault_programs import FAULTS, Outcome, broken, run

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_NAME = {fault.name: fault for fault in FAULTS if fault.quick}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    """All programs at once: most of their time is waiting."""
    with ThreadPoolExecutor(12) as pool:
        slow_first = sorted(BY_NAME.values(), key=lambda fault: "no answer in time" not in fault.text)
        yield {fault.name: pool.submit(run, fault) for fault in slow_first}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_program_under_a_fault(outcomes: dict[str, Future[Outcome]], name: str) -> None:
    fault, outcome = BY_NAME[name], outcomes[name].result()
    assert broken(fault, outcome) == []
    assert all(re.search(fault.text, line) for line in outcome.warnings)
    assert outcome.recovered_after < 60


def test_the_matrix_has_every_kind_of_fault() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 120
