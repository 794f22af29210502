"""Means, intervals, texts, and the sentences that the intervals decide."""

import json
import math

import pytest
from scipy import stats

from sharpmin.study import METHODS, Estimate, findings, paired, table

from .conftest import made_up


def test_intervals_are_students():
    values = [0.91, 0.93, 0.90, 0.97, 0.92]
    found = Estimate.of(values)
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert Estimate.of([0.5]) == Estimate(0.5, None)
    assert Estimate.of([0.5, 0.5]) == Estimate(0.5, 0.0)
    lost = Estimate.of([0.5, None])
    assert math.isnan(lost.mean)
    assert (lost.half, lost.text(), lost.record()) == (None, "not finite", {"mean": None, "half": None})


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.8437, 0.0641, "0.844 ± 0.064"), (2.2976, 0.0071, "2.2976 ± 0.0071"), (11.26, 0.93, "11.26 ± 0.93"),
        (26.4, 25.1, "26 ± 25"), (6e-7, 1.2e-7, "6.0e-07 ± 1e-07"), (0.5, 0.0, "0.5 ± 0"),
        (-0.02, 0.01, "-0.020 ± 0.010"),
        (0.25, None, "0.25"), (3e-5, None, "3.0e-05"), (0.0, 0.0, "0 ± 0"), (1234.5, 210.0, "1234 ± 210"),
    ],
)  # fmt: skip
def test_texts(mean, half, text):
    assert Estimate(mean, half).text() == text


def test_a_line_a_method_clean_then_noisy_in_any_order_of_rows():
    rows = made_up()
    lines = table(rows)
    assert [(line.method, line.noise) for line in lines] == [(m, noise) for noise in (0.0, 0.3) for m in METHODS]
    assert table(dict(reversed(rows.items()))) == lines
    assert {line.runs for line in lines} == {3}
    assert lines[0].eigenvalue == Estimate.of([2.0, 3.0, 4.0])
    assert list(lines[0].verdicts.items()) == [("undecided", 2), ("rho holds the loss up", 1)]
    assert json.loads(json.dumps(lines[0].record(), allow_nan=False))["verdicts"] == {
        "undecided": 2,
        "rho holds the loss up": 1,
    }


def test_differences_are_of_the_same_seed():
    rows = made_up(**{"base 0.3": {"accuracy": [0.5, 0.7, 0.9]}, "sam 0.3": {"accuracy": [0.6, 0.8, 1.0]}})
    found = paired(rows, "accuracy", "base", "sam", 0.3)
    assert (found.mean, found.half) == pytest.approx((-0.1, 0.0), abs=1e-9)


BOTH = {
    "base 0.3": {"loss": [0.01, 0.02, 0.01], "accuracy": [0.7, 0.71, 0.72]},
    "on-hold 0.3": {"loss": [0.1, 0.2, 0.1], "accuracy": 0.8},
    "sam-large 0.3": {"accuracy": [0.1, 0.2, 0.15]},
    "sam-large 0.0": {"accuracy": [0.1, 0.2, 0.15]},
}


def test_both_sides_are_said_where_they_are_shown():
    found = findings(made_up(**BOTH))
    assert [(f.side, f.shown) for f in found] == [("price", True), ("clipping, clean", False), ("clipping, noisy", False)]
    assert "“SGD, 2x the steps” went furthest: training loss 0.013" in found[0].sentence
    assert "it lost 18.0 ± 2.5 points of test accuracy" in found[0].sentence
    close = made_up(**BOTH, **{f"clipped-large {noise}": {"accuracy": 0.88} for noise in (0.0, 0.3)})
    assert [f.shown for f in findings(close)] == [True, True, True]
    assert "had 15.0% test accuracy, and 88.0% with clipping: +73.0 ± 12.4 points" in findings(close)[1].sentence


def test_a_side_that_the_runs_do_not_show_is_not_claimed():
    equal = {"base 0.3": {"loss": 0.01, "accuracy": [0.80, 0.99, 0.90]}}
    assert (findings(made_up(**equal))[0].side, findings(made_up(**equal))[0].shown) == ("price", False)
    nobody = {f"{name} 0.3": {"loss": 0.5} for name in METHODS}
    found = findings(made_up(**nobody))
    assert not any(f.shown for f in found)
    assert "no method had a clearly lower training loss" in found[0].sentence
    assert not any(f.shown for f in findings(made_up(seeds=1, **{k: {} for k in BOTH})))
    assert findings({cell: row for cell, row in made_up().items() if cell.method == "base"}) == []
