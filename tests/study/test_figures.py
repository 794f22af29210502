"""The figures of a study: each run is a mark where seeds are few, else means with intervals; accuracies end at 0 and 100 %."""

import pytest

from sharpmin.study import METHODS, SETTINGS, table
from sharpmin.study._figures import KEYS, draw

from .conftest import made_up

LOST = {"sam-large 0.0": {"loss": [0.3, None, 0.2, 0.1, 0.2], "accuracy": [0.1, 0.2, 0.3, 0.2, 0.1]}}


def drawn(plate, panel):
    """Name -> the traces of a method in one panel."""
    traces = {}
    for trace in plate.panels[panel][1].data:
        traces.setdefault(trace.name, []).append(trace)
    return traces


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_every_run_is_a_mark_where_seeds_are_few(seeds):
    rows = made_up(seeds, **LOST)
    trade, accuracy, eigenvalue = draw(SETTINGS["digits"], table(rows))
    for panel, noise in enumerate((0.0, 0.3)):
        for method in METHODS:
            own = [row for cell, row in rows.items() if (cell.method, cell.noise) == (method, noise)]
            name = KEYS[method].name
            pairs = [(row["gap"], 100 * row["accuracy"]) for row in own if row["gap"] is not None]
            (marks,) = drawn(trade, panel)[name]
            assert list(zip(marks.x, marks.y, strict=True)) == pairs
            for plate, values in (
                (accuracy, [100 * row["accuracy"] for row in own]),
                (eigenvalue, [row["eigenvalue"] for row in own]),
            ):
                marks, *means = drawn(plate, panel)[name]
                assert list(marks.x) == values
                assert set(marks.y) == {name}
                assert [list(mean.x) for mean in means] == ([] if seeds == 1 else [[pytest.approx(sum(values) / seeds)]])
                assert "error_x" not in marks.to_plotly_json()


def test_means_and_intervals_where_they_are_not():
    lines = table(made_up(5, **LOST))
    trade, accuracy, _ = draw(SETTINGS["digits"], lines)
    for line in lines:
        (mean,) = drawn(accuracy, line.noise > 0)[KEYS[line.method].name]
        assert list(mean.x) == [100 * line.accuracy.mean]
        assert mean.error_x.array[0] == pytest.approx(100 * line.accuracy.half)
    assert KEYS["sam-large"].name not in drawn(trade, 0)  # its training loss has no mean
    assert KEYS["sam-large"].name in drawn(trade, 1)


def test_no_mark_and_no_bar_of_an_accuracy_leaves_0_to_100_percent():
    ends = {"base 0.3": {"accuracy": [0.0, 0.3, 0.0, 0.0, 0.1]}, "sam 0.3": {"accuracy": [1.0, 0.7, 1.0, 1.0, 0.9]}}
    lines = table(made_up(5, **ends))
    assert any(line.accuracy.high > 1 for line in lines)
    assert any(line.accuracy.low < 0 for line in lines)
    trade, accuracy, _ = draw(SETTINGS["digits"], lines)
    for plate, along in ((trade, "y"), (accuracy, "x")):
        for _, figure in plate.panels:
            axis = figure.layout[f"{along}axis"]
            assert (axis.minallowed, axis.maxallowed) == (0, 100)
            for trace in figure.data:
                bar = trace[f"error_{along}"]
                assert trace.cliponaxis is False
                assert trace[along][0] + bar.array[0] <= 100 + 1e-9
                assert trace[along][0] - bar.arrayminus[0] >= -1e-9


def test_the_sentences_say_what_is_drawn():
    for seeds, said in ((2, "A mark is a run"), (5, "95 % interval")):
        for plate in draw(SETTINGS["digits"], table(made_up(seeds))):
            assert said in plate.sentence
            assert ("interval" in plate.sentence) == (seeds == 5)
