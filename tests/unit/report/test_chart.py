"""Charts: scales, ticks, and what happens to odd texts."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from report_data import HOSTILE

from run_experiment.report.chart import Chart, Scale, clean, labelled, plot, ticks, y_range


def test_a_scale_maps_both_ends() -> None:
    scale = Scale(2, 4, 100, 0)
    assert [scale(2), scale(3), scale(4)] == [100, 50, 0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.895, 0.905, [0.896, 0.898, 0.9, 0.902, 0.904]),
        (0, 1234, [0, 250, 500, 750, 1000]),
        (-0.3, 0.3, [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round_numbers_in_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.5, 1.0, 1.5], ["0.5", "1.0", "1.5"]),
        ([0.45, 0.5], ["0.45", "0.50"]),
        ([-0.25, 0.0], ["\N{MINUS SIGN}0.25", "0.00"]),
        ([0, 250], ["0", "250"]),
        ([0, 1e-7], ["0", "1e\N{MINUS SIGN}07"]),
    ],
)
def test_ticks_of_an_axis_have_the_same_decimals(values: list[float], texts: list[str]) -> None:
    assert labelled(values) == list(zip(values, texts, strict=True))


@pytest.mark.parametrize("values", [[0.5], [0.0], [1.0, 1.0], [-3.0, 1e9], [0.0, 1e-12]])
def test_a_range_is_never_empty(values: list[float]) -> None:
    low, high = y_range(values, None)
    assert low < min(values) <= max(values) < high
    assert 2 <= len(ticks(low, high)) <= 8


def test_a_range_of_shares_ends_at_them() -> None:
    low, high = y_range([1.0], (0.0, 1.0))
    assert ticks(low, high)[-1] == 1
    assert high > 1


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_leaves_a_drawing_that_is_xml(text: str) -> None:
    chart: Chart = plot((0, 1), [0, 1], text)
    chart.point(0, 1, "", text)
    chart.below([(0, text)], text)
    tree = ElementTree.fromstring(chart.svg("text{}"))
    (point,) = tree.iter("{http://www.w3.org/2000/svg}circle")
    assert point.get("data-tip") == clean(text)
