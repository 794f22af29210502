"""The figures of a study: each run is a mark where seeds are few, else means with intervals; accuracies end at 0 and 100 %."""

import pytest

from sharpmin.study import METHODS, NOISY, SETTINGS, places, table
from sharpmin.study._figures import TUNED, draw, key
from sharpmin.study._trials import TUNING

from .conftest import made_up

DIGITS = SETTINGS["digits"]


def plates(rows):
    return draw(DIGITS, rows, table(rows))


def drawn(plate, panel):
    """Name -> the traces of a method in one panel."""
    traces = {}
    for trace in plate.panels[panel][1].data:
        traces.setdefault(trace.name, []).append(trace)
    return traces


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_every_run_is_a_mark_where_seeds_are_few(seeds):
    rows = made_up(seeds)
    frontier, gain, _ = plates(rows)
    for line in table(rows):
        panel, name = int(line.noise > 0), key(DIGITS, line.method).name
        (marks,) = drawn(frontier, panel)[name]
        assert len(set(marks.x)) == 1
        assert marks.hovertemplate.startswith(f"{line.passes:.3g} x")
        assert list(marks.y) == [100 * v for v in line.accuracy.values]
        marks, *means = drawn(gain, panel)[name]
        assert list(marks.x) == [100 * v for v in line.gain.values]
        assert [list(mean.x) for mean in means] == ([] if seeds == 1 else [[100 * line.gain.mean]])
        assert "error_x" not in marks.to_plotly_json()


def test_means_and_intervals_where_they_are_not():
    rows = made_up(5)
    frontier, gain, _ = plates(rows)
    for line in table(rows):
        name = key(DIGITS, line.method).name
        (mean,) = drawn(frontier, line.noise > 0)[name]
        assert list(mean.y) == [100 * line.accuracy.mean]
        assert mean.error_y.array[0] == pytest.approx(100 * line.accuracy.half)
        (mean,) = drawn(gain, line.noise > 0)[name]
        assert list(mean.x) == [100 * line.gain.mean]
        assert mean.error_x.array[0] == pytest.approx(100 * line.gain.half)


def test_the_line_joins_those_that_none_beats():
    rows = made_up(5, **{"sam 0.0": {"accuracy": 0.99}, "every-3 0.0": {"accuracy": 0.95}})
    (stairs,) = drawn(plates(rows)[0], 0)[None]
    where = places(rows, table(rows))
    front = {
        line.passes: 100 * line.accuracy.mean for line in table(rows) if not line.noise and where[line.method, 0.0].by is None
    }
    assert dict(zip(stairs.x, stairs.y, strict=True)) == front
    assert list(stairs.x) == sorted(stairs.x)
    assert list(stairs.y) == sorted(stairs.y)


def test_trials_are_drawn_at_the_best_learning_rate_of_each_radius():
    values = [0.5, 0.6, 0.7, 0.1, 0.4, 0.7, 0.2, 0.3, 0.1, 0.1, 0.1, 0.9]  # three learning rates by four radii
    rows = made_up(5, **{"sam 0.4 trials": {"validation": values}})
    marks, *_ = drawn(plates(rows)[2], 1)["SAM"]
    assert list(marks.y) == [pytest.approx(100 * v) for v in (0.5, 0.7, 0.7, 0.9) for _ in TUNING]
    radii = sorted({rho for _, rho in METHODS["sam"].trials(DIGITS)})
    assert list(marks.x) == [rho for rho in radii for _ in TUNING]
    assert {name for name in drawn(plates(rows)[2], 0) if name} == {METHODS[name].title for name in TUNED}


def test_no_mark_and_no_bar_of_an_accuracy_leaves_0_to_100_percent():
    rows = made_up(
        5, **{"base 0.4": {"accuracy": [0.0, 0.3, 0.0, 0.0, 0.1]}, "sam 0.4": {"accuracy": [1.0, 0.7, 1.0, 1.0, 0.9]}}
    )
    lines = {line.method: line for line in table(rows) if line.noise == NOISY}
    assert lines["sam"].accuracy.high > 1
    assert lines["base"].accuracy.low < 0
    frontier, _, rho = plates(rows)
    for plate in (frontier, rho):
        for _, figure in plate.panels:
            assert (figure.layout.yaxis.minallowed, figure.layout.yaxis.maxallowed) == (0, 100)
    for _, figure in frontier.panels:
        for trace in figure.data[1:]:
            assert trace.cliponaxis is False
            assert trace.y[0] + trace.error_y.array[0] <= 100 + 1e-9
            assert trace.y[0] - trace.error_y.arrayminus[0] >= -1e-9


def test_the_sentences_say_what_is_drawn():
    for seeds, words in ((2, "Each mark is one run"), (5, "95 % interval")):
        for plate in plates(made_up(seeds))[:2]:
            assert words in plate.sentence
            assert ("interval" in plate.sentence) == (seeds == 5)


def test_methods_of_equal_passes_stand_side_by_side_around_them():
    lines = [line for line in table(made_up(5)) if not line.noise]
    x = {}
    for line in lines:
        (mean,) = drawn(plates(made_up(5))[0], 0)[key(DIGITS, line.method).name]
        x.setdefault(round(line.passes, 1), []).append((line.passes, mean.x[0]))
    assert max(map(len, x.values())) >= 5
    for own in x.values():
        passes, drawn_at = zip(*own, strict=True)
        assert sum(drawn_at) == pytest.approx(sum(passes))
        assert len(set(drawn_at)) == len(own)
        assert max(abs(a - b) for a, b in own) < 0.13
