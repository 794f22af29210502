"""Means, intervals, ratios, places, and the sentences that the intervals decide."""

import csv
import io
import itertools
import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from sharpmin.study import METHODS, NOISY, Estimate, findings, paired, places, setting, table, to_csv, to_latex
from sharpmin.study._estimate import ratio
from sharpmin.study._frontier import best_cheap, share_of_gain
from sharpmin.study._table import best_base

from .conftest import made_up

HAVE = [name for name in METHODS if name != "norms"]


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


PAIRS = st.lists(st.tuples(st.floats(-1, 1), st.floats(0.5, 1)), min_size=3, max_size=8)


@given(pairs=PAIRS)
def test_the_ends_of_a_ratios_interval_are_where_students_test_refuses_at_5_percent(pairs):
    over, under = zip(*pairs, strict=True)
    assume(max(under) - min(under) > 0.01 and max(a / b for a, b in pairs) - min(a / b for a, b in pairs) > 0.01)
    share, low, high = ratio(over, under)
    if stats.ttest_1samp(under, 0).pvalue > 0.049:
        return
    assert share == pytest.approx(math.fsum(over) / math.fsum(under))
    assert low <= share + 1e-9
    assert share <= high + 1e-9
    for end in (low, high):
        assert stats.ttest_1samp([a - end * b for a, b in pairs], 0).pvalue == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("under", [[0.1, -0.1, 0.05], [-1.0, -1.1, -0.9], [1.0]])
def test_there_is_no_ratio_to_what_is_not_clearly_positive(under):
    share, low, high = ratio([1.0] * len(under), under)
    assert math.isnan(share)
    assert (low, high) == (-math.inf, math.inf)


def test_a_line_a_method_clean_then_noisy_in_any_order_of_rows():
    rows = made_up()
    lines = table(rows)
    assert [(line.method, line.noise) for line in lines] == [(m, noise) for noise in (0.0, NOISY) for m in HAVE]
    assert table(dict(reversed(rows.items()))) == lines
    assert {line.runs for line in lines} == {3}
    assert lines[0].accuracy == Estimate.of([0.9, 0.902, 0.904])
    assert [round(line.passes, 2) for line in lines[:5]] == [0.5, 1.0, 1.33, 2.0, 2.0]
    assert [line.seconds for line in lines[:5]] == [1, 1, 1, 1, 2]
    json.dumps([line.record() for line in lines], allow_nan=False)


@pytest.mark.parametrize(("best", "edges"), [(0, ("lr", "rho")), (1, ("lr",)), (4, ("rho",)), (5, ()), (11, ("lr", "rho"))])
def test_an_end_of_the_grid_is_told(best, edges):
    lines = {line.method: line for line in table(made_up(best=best)) if not line.noise}
    assert lines["sam"].edge == edges
    assert lines["base"].edge == (("lr",) if best in (0, 11) else ())


def test_differences_are_of_the_same_seed():
    rows = made_up(**{"base 0.4": {"accuracy": [0.5, 0.7, 0.9]}, "sam 0.4": {"accuracy": [0.6, 0.8, 1.0]}})
    found = paired(rows, "base", "sam", NOISY)
    assert (found.mean, found.half) == pytest.approx((-0.1, 0.0), abs=1e-9)


def test_gains_are_over_the_length_of_the_base_that_validation_chose():
    best = {"base-4/3 0.4 trials": {"validation": 0.99}, "base-4/3 0.4": {"accuracy": [0.2, 0.3, 0.4]}}
    rows = made_up(**best)
    assert (best_base(rows, 0.0), best_base(rows, NOISY)) == ("base-1/2", "base-4/3")
    lines = {line.method: line for line in table(rows) if line.noise}
    assert lines["base-4/3"].gain == Estimate(0.0, 0.0)
    assert lines["sam"].gain == paired(rows, "sam", "base-4/3", NOISY)


@pytest.mark.parametrize("lost", [{"loss": [0.1, None, 0.1]}, {"accuracy": [0.9, 0.19, 0.9]}])
def test_a_run_that_learned_next_to_nothing_has_collapsed(lost):
    """A tenth of digits is the most frequent class, so a tenth of what is left ends at 0.19 and a little."""
    lines = {(line.method, line.noise): line for line in table(made_up(**{"sam 0.0": lost}))}
    assert [line.collapsed for line in lines.values()] == [int(key == ("sam", 0.0)) for key in lines]


@given(data=st.lists(st.tuples(st.sampled_from(HAVE), st.floats(0.2, 0.99)), max_size=8))
def test_the_frontier_is_that_of_all_pairs(data):
    both = made_up(2, **{f"{name} 0.0": {"accuracy": value} for name, value in data})
    rows = {cell: row for cell, row in both.items() if not cell.noise}
    lines = table(rows)
    found = places(rows, lines)
    for line in lines:
        better = [o for o in lines if o.passes <= line.passes + 1e-9 and o.accuracy.mean > line.accuracy.mean]
        place = found[line.method, 0.0]
        assert (place.beaten_by is None) == (not better)
        if better:
            assert place.by == paired(rows, place.beaten_by, line.method, 0.0)
            assert place.by.mean == pytest.approx(max(o.accuracy.mean for o in better) - line.accuracy.mean)
            assert place.word == ("clearly dominated" if place.by.low > 0 else "dominated")


def said(question, noise=0.0, seeds=5, **changes):
    (found,) = [f for f in findings(made_up(seeds, **changes)) if (f.question, f.noise) == (question, noise)]
    return found


UP, SAME, DOWN = [0.95, 0.96, 0.95, 0.96, 0.95], [0.90, 0.92, 0.90, 0.91, 0.90], [0.80, 0.81, 0.80, 0.81, 0.80]


@pytest.mark.parametrize(
    ("sam", "clear", "words"), [(UP, True, "a clear gain"), (SAME, False, "not clear"), (DOWN, True, "a clear loss")]
)
def test_whether_sam_helps_is_what_the_interval_says(sam, clear, words):
    found = said("does SAM help", **{"sam 0.0": {"accuracy": sam}})
    gain = paired(made_up(5, **{"sam 0.0": {"accuracy": sam}}), "sam", "base-1/2", 0.0)
    assert found.clear is clear
    assert words in found.sentence
    assert ("It does not pay here, as far as 5 seeds can tell." in found.sentence) == (gain.low <= 0)
    assert f"{100 * gain.mean:+.1f} ± {100 * gain.half:.1f} points" in found.sentence
    assert "over “SGD, 1/2 of the steps”" in found.sentence
    assert "4 times its passes" in found.sentence


def test_worth_is_at_equal_passes():
    found = [f for f in findings(made_up(5)) if f.question == "is it worth the passes" and not f.noise]
    assert ["over “SGD, 2 x the steps”" in f.sentence for f in found] == [True, False]
    assert "“SAM, 1/2 of the steps” has" in found[1].sentence


def test_the_radius_and_the_trials_that_collapsed():
    lost = [0.9] * 9 + [0.1, 0.1, 0.1]  # the largest radii of the largest learning rate
    found = said("which rho", **{"sam 0.0 trials": {"accuracy": lost}})
    radii = sorted({rho for _, rho in METHODS["sam"].trials(setting("digits"))})
    assert f"best rho on validation samples is {radii[0]:g} " in found.sentence
    assert "that is an end of the grid" in found.sentence
    assert "of the trials, " + " and ".join(f"2 with rho {rho:g}" for rho in radii[1:]) + " collapsed" in found.sentence
    assert "no trial of SAM collapsed" in said("which rho").sentence
    whole = said("collapse", **{"sam 0.0 trials": {"accuracy": lost}, "clipped 0.0": {"accuracy": [0.1, 0.9, 0.9, 0.9, 0.9]}})
    assert whole.sentence == "Trials that collapsed: “SAM” 6 of 24; of the runs in the table, 1 did."
    assert said("collapse").sentence == "No trial of a SAM collapsed; of the runs in the table, none did."


def test_what_a_cheap_sam_reaches():
    changes = {
        "sam 0.0": {"accuracy": UP},
        "every-3 0.0 trials": {"validation": 0.99},
        "every-3 0.0": {"accuracy": [0.93, 0.94, 0.93, 0.94, 0.92]},
    }
    found = said("what a cheap SAM reaches", **changes)
    rows = made_up(5, **changes)
    lines = {line.method: line for line in table(rows) if not line.noise}
    assert best_cheap(table(rows), 0.0).method == "every-3"
    share, low, high = share_of_gain(lines["every-3"], lines["sam"])
    assert share == pytest.approx(lines["every-3"].gain.mean / lines["sam"].gain.mean)
    assert f"reaches {share:.0%} ({low:.0%} to {high:.0%}) of SAM's gain" in found.sentence
    assert "“SAM every third step” at 1.33 times the passes" in found.sentence
    assert "no share of it is given" in said("what a cheap SAM reaches").sentence


def test_csv_has_every_line_and_every_number():
    rows = made_up(5)
    lines, read = table(rows), list(csv.DictReader(io.StringIO(to_csv(rows))))
    where = places(rows, lines)
    assert len(read) == len(lines)
    for line, one in zip(lines, read, strict=True):
        assert (one["data"], one["method"], float(one["noise"])) == ("digits", line.method, line.noise)
        for name in ("lr", "rho", "passes", "seconds", "copies"):
            assert float(one[name]) == getattr(line, name)
        assert (float(one["accuracy"]), float(one["accuracy_half"])) == (line.accuracy.mean, line.accuracy.half)
        assert (float(one["gain"]), float(one["gain_half"])) == (line.gain.mean, line.gain.half)
        assert one["place"] == where[line.method, line.noise].word


def test_latex_is_a_tabular_with_a_row_a_line():
    rows = made_up(5)
    text = to_latex(rows)
    body = [row for row in text.splitlines() if " & " in row]
    assert len(body) == 1 + len(table(rows))
    assert {row.count("&") for row in body} == {7}
    assert all(row.endswith(r" \\") for row in body)
    assert r"40\% label noise" in text
    assert r"S$^2$-SAM & 1.00" in text
    assert not any(bare in text.replace(f"\\{bare}", "") for bare in "%#_")
    bold = [row.split(" & ")[0] for row in body if row.startswith(r"\textbf")]
    where = places(rows, table(rows))
    assert len(bold) == sum(place.beaten_by is None for place in where.values())
    assert text.count("{") == text.count("}")


def test_both_kinds_of_labels_have_their_sentences():
    found = findings(made_up(5))
    assert [noise for noise, _ in itertools.groupby(f.noise for f in found)] == [0.0, NOISY]
    assert findings({c: r for c, r in made_up(5).items() if c.method.startswith("base")}) == []
