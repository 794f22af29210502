"""The page of a study: every number of the table is in it, it fetches nothing, and a browser draws it."""

import re

import pytest

from sharpmin.study import METHODS, SETTINGS, Cell, page, table

from .conftest import CLIPPED, OVERFLOWING, PLOTS


@pytest.fixture(scope="module")
def rows():
    found = {}
    for noise in (0.0, 0.3):
        for at, method in enumerate(METHODS):
            for seed in range(5):
                row = {
                    "loss": 0.002 * 3**at + seed / 1e4,
                    "accuracy": 0.95 - at / 50 + seed / 200,
                    "eigenvalue": 1.0 + at + seed,
                }
                row |= {
                    "gap": row["loss"],
                    "seconds": 2.0,
                    "verdict": "undecided" if seed else "SAM is not what limits the loss",
                }
                found[Cell("digits", method, noise, seed)] = row
    return found


@pytest.fixture(scope="module")
def text(rows):
    return page(SETTINGS["digits"], rows, "a <note>")


def test_every_number_and_every_method_is_in_it(text, rows):
    for line in table(rows):
        for shown in (line.loss.text(), line.accuracy.text(100), line.eigenvalue.text()):
            assert f">{shown}</td>" in text
    for table_text in re.findall(r'<table class="study">.*?</table>', text, re.DOTALL):
        heads = re.findall(r'<th scope="row">(.*?)</th>', table_text)
        assert heads == [m.title.replace("rho", "ρ") for m in METHODS.values()]
    assert text.count('<table class="study">') == 2
    assert "undecided (4), SAM is not what limits the loss (1)" in text
    assert "a &lt;note&gt;" in text
    assert "<strong>" not in text
    assert "sharpmin study digits --seeds 5" in text


def test_it_is_one_file_that_fetches_nothing(text, rows):
    assert text.count("plotly.js v") == 1
    assert re.findall(r'(?:src|href)="(?!#)', text.split("<body>")[1].split("plotly.js v")[0]) == []
    ids = re.findall(r'\sid="([^"]+)"', text.split("plotly.js v")[0])
    assert len(ids) == len(set(ids))
    assert page(SETTINGS["digits"], rows, "a <note>") == text


def test_a_lost_run_and_a_known_optimum_are_shown(rows):
    lost = {cell: row | ({"loss": None, "gap": None} if cell.method == "sam-large" else {}) for cell, row in rows.items()}
    assert "not finite" in page(SETTINGS["digits"], lost)
    known = {Cell("breast-cancer", cell.method, cell.noise, cell.seed): row | {"gap": 0.0} for cell, row in rows.items()}
    text = page(SETTINGS["breast-cancer"], known)
    assert "training loss − optimum" in text
    assert ">0 ± 0</td>" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["wide", "narrow"])
def test_a_browser_draws_it_and_nothing_overflows(visit, text, tmp_path, size, scheme):
    (tmp_path / "study.html").write_text(text, encoding="utf-8")
    tab = visit((tmp_path / "study.html").as_uri(), scheme, size)
    plots = tab.evaluate(PLOTS)
    assert len(plots) == 6
    for width, height, drawn in plots:
        assert 200 < width < size[0]
        assert 200 < height < 600
        assert drawn >= len(METHODS)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(OVERFLOWING) == []
    assert tab.evaluate(CLIPPED) == []


PERCENT = """async () => {
  const labels = [];
  for (const [id, axis] of [["trade", "y"], ["accuracy", "x"]]) for (const div of document.querySelectorAll(`#${id} .plot`)) {
    const read = () => [...div.querySelectorAll(`.${axis}tick text`)].map((t) => parseFloat(t.textContent));
    const drawn = read();
    await Plotly.relayout(div, { [`${axis}axis.range`]: [-40, 180] });
    labels.push(drawn, read());
  }
  return labels;
}"""


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_no_label_of_an_accuracy_is_outside_of_0_to_100_percent(visit, rows, tmp_path, seeds):
    """With values at both ends, and intervals that go beyond them; also where a reader zooms out."""
    ends = {"base": [0.0, 0.04, 0.0, 0.1, 0.0], "sam": [1.0, 0.96, 1.0, 0.9, 1.0]}
    found = {c: row | {"accuracy": ends.get(c.method, [0.5] * 5)[c.seed]} for c, row in rows.items() if c.seed < seeds}
    (tmp_path / "study.html").write_text(page(SETTINGS["digits"], found), encoding="utf-8")
    labels = visit((tmp_path / "study.html").as_uri()).evaluate(PERCENT)
    assert len(labels) == 8
    for some in labels:
        assert len(some) >= 3
        assert 0 <= min(some) < max(some) <= 100


def test_a_page_of_few_seeds_shows_each_and_no_interval(rows):
    few = {cell: row for cell, row in rows.items() if cell.seed < 2}
    text = page(SETTINGS["digits"], few)
    assert "95 %" not in text.split("plotly.js v")[0]
    for line in table(few):
        assert f">{line.accuracy.shown(100)}</td>" in text
    assert ">95.25 (95, 95.5)</td>" in text
    one = page(SETTINGS["digits"], {cell: row for cell, row in rows.items() if cell.seed == 0})
    assert "One seed: no interval can be given." in one
    assert ">95</td>" in one
