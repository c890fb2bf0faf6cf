"""Names and values that are no text and no number: nothing is raised into the program, and the call counts."""

from __future__ import annotations

from decimal import Decimal

import pytest

from stardust_auto.tracing.tracer import Tracer


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("name", "shown"), [(Unprintable(), "Unprintable"), (None, "None"), (3, "3")], ids=["odd", "none", "number"]
)
def test_a_name_that_is_no_text_raises_nothing(name: object, shown: str) -> None:
    tracer = Tracer()
    with tracer.new_span(name):  # type: ignore[arg-type]  # on purpose
        pass
    assert [(builder.name, builder.total) for builder in tracer.take()] == [(shown, 1)]


@pytest.mark.parametrize(
    ("value", "kept"),
    [("x", 0), ("7", 7), (Decimal("2.5"), 2), (None, 0), (float("nan"), 0), (Unprintable(), 0), (10**400, 10**400)],
    ids=["text", "digits", "decimal", "none", "nan", "object", "huge"],
)
def test_a_value_that_is_no_number_costs_neither_the_call_nor_its_sample(value: object, kept: int) -> None:
    tracer = Tracer()
    with tracer.new_span("job") as span:
        span.value = value  # type: ignore[assignment]  # on purpose
    (builder,) = tracer.take()
    assert (builder.total, builder.value, len(builder.samples)) == (1, kept, 1)
    assert tracer.dropped["fault"] == 0
