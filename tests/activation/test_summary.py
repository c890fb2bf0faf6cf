"""The text of --summary, from totals and rows."""

from __future__ import annotations

import pytest

from stardust_auto.agent.summary import Row, merged, ms, remark, slowest, table, waterfall
from stardust_auto.tracing.builder import OperationTotal, Sample

MS = 1_000_000


def total(name: str, count: int, cost: float, longest: float, errors: int = 0) -> OperationTotal:
    return OperationTotal(name, count, errors, int(cost * MS), int(longest * MS))


def row(
    span: str, parent: str, start: float, duration: float, *, app: str = "shop", name: str = "", error: str = ""
) -> Row:
    return Row(span, parent, app, name or span, int(start * MS), int(duration * MS), error, exact=app == "shop")


def sample(name: str, trace: str, span: str, parent: str, start: float, duration: float) -> Sample:
    return Sample(name, span, parent, trace, 0, 0, duration_ns=int(duration * MS), start_ns=int(start * MS))


def test_table() -> None:
    lines = table(
        [total("/order", 40, 90, 12.5, 2), total("redis:GET", 120, 24, 0.4), total("ex:KeyError", 2, 9, 5)], 100
    )
    assert lines == [
        "operation  count  errors     mean      max",
        "------------------------------------------",
        "/order        40       2  2.25 ms  12.5 ms",
        "redis:GET    120       0  0.20 ms  0.40 ms",
        "exceptions: KeyError 2",
    ]


def test_table_without_operations() -> None:
    assert table([], 100) == ["stardust-auto: no operation was recorded."]


def test_table_keeps_to_the_width_and_to_forty_rows() -> None:
    lines = table([total(f"https://example.com/{'x' * 200}/{n}", 1, 1, 1) for n in range(50)], 80)
    assert {len(line) for line in lines[:-1]} == {80}
    assert lines[-1] == "... and 10 more operations"
    assert lines[2].startswith("https://example.com/xx")
    assert "..." in lines[2]


def test_wide_characters_and_control_characters() -> None:
    lines = table([total("/订单", 1, 1, 1), total("/a\x1b[31m\n", 1, 1, 1)], 80)
    assert lines[2].startswith("/订单      ")
    assert lines[3].startswith("/a?[31m?")


@pytest.mark.parametrize(
    ("nanoseconds", "text"), [(0, "0.00 ms"), (420_000, "0.42 ms"), (12_345_678, "12.3 ms"), (1_234_567_890, "1235 ms")]
)
def test_ms(nanoseconds: int, text: str) -> None:
    assert ms(nanoseconds) == text


def test_waterfall_across_two_applications() -> None:
    rows = [
        row("sql", "stock", 30, 10, app="stock", name="db:SELECT"),
        row("order", "", 0, 100, name="/order"),
        row("call", "order", 20, 60, name="http://stock/item"),
        row("stock", "call", 25, 50, app="stock", name="/item", error="boom"),
        row("redis", "order", 85, 5.5, name="redis:SET"),
    ]
    lines = waterfall(rows, 80, "#")
    assert lines[:2] == ["", "slowest trace: 100.0 ms, 5 spans"]
    assert [line.split("  |")[0] for line in lines[2:]] == [
        "shop   /order               100.0 ms",
        "shop     http://stock/item   60.0 ms",
        "stock      /item               50 ms",
        "stock        db:SELECT         10 ms",
        "shop     redis:SET           5.50 ms",
    ]
    bars = [line.split("|")[1] for line in lines[2:]]
    assert bars[0] == "#" * len(bars[0])
    assert bars[1].index("#") == pytest.approx(len(bars[1]) * 0.2, abs=1)
    assert bars[1].count("#") == pytest.approx(len(bars[1]) * 0.6, abs=1)
    assert lines[4].endswith("| !")
    assert all(len(line) <= 80 for line in lines)


def test_waterfall_survives_cycles_orphans_and_zero_lengths() -> None:
    rows = [row("a", "b", 0, 0), row("b", "a", 0, 0), row("c", "gone", 0, 0), row("d", "d", 0, 0)]
    lines = waterfall(rows, 60, "#")
    assert [line.split()[1] for line in lines[2:]] == ["c", "d"]


def test_waterfall_of_nothing() -> None:
    assert waterfall([], 80, "#") == []


def test_slowest_is_the_trace_with_the_longest_span() -> None:
    history = [
        sample("/a", "t1", "1", "", 0, 10),
        sample("/b", "t2", "2", "", 0, 30),
        sample("db:x", "t2", "3", "2", 5, 2),
        sample("ex:KeyError", "t3", "4", "", 0, 99),
        sample("db:lone", "t4", "5", "", 0, 98),
    ]
    assert [one.id for one in slowest(history)] == ["2", "3"]
    assert [one.id for one in slowest([history[0], history[4]])] == ["5"]
    assert slowest([]) == []


def test_slowest_is_the_slowest_and_not_the_one_with_the_most_spans() -> None:
    history = [
        sample("/a", "t1", "1", "", 0, 20),
        *(sample("db:x", "t1", f"1{n}", "1", n, 1) for n in range(5)),
        sample("/a", "t2", "2", "", 0, 21),
        sample("db:x", "t2", "21", "2", 1, 2),
    ]
    assert [one.id for one in slowest(history)] == ["2", "21"]


def test_a_maximum_that_is_not_the_shown_trace_is_explained() -> None:
    shown = [sample("/a", "t1", "1", "", 0, 10)]
    assert remark(shown, [total("/a", 9, 40, 10), total("ex:KeyError", 1, 99, 99)]) == ""
    assert remark(shown, [total("/a", 9, 40, 17)]) == " (the longest call took 17.0 ms: no whole trace of it was kept)"
    assert waterfall([row("1", "", 0, 10)], 80, "#", " (why)")[1] == "slowest trace: 10.0 ms, 1 span (why)"


def test_a_trace_without_its_beginning_is_shown_only_where_there_is_no_other() -> None:
    whole = [sample("/a", "t1", "1", "", 0, 10), sample("db:x", "t1", "2", "1", 1, 2)]
    headless = [sample("http:x", "t2", "4", "3", 0, 80), sample("db:x", "t2", "5", "3", 1, 2)]
    assert [one.id for one in slowest([*whole, *headless])] == ["1", "2"]
    assert [one.id for one in slowest(headless)] == ["4", "5"]


def test_own_spans_keep_their_precision() -> None:
    own = [row("1", "", 0, 0.25)]
    known = [
        row("1", "", 0, 0, app="x"),
        row("2", "1", 0, 3, app="stock"),
        row("3", "2", 0, 3, app="stock", name="ex:KeyError"),
    ]
    assert [(one.span_id, one.duration, one.exact) for one in merged(own, known)] == [
        ("1", 250_000, True),
        ("2", 3 * MS, False),
    ]
