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
            for seed in range(3):
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
    assert "undecided (2), SAM is not what limits the loss (1)" in text
    assert "a &lt;note&gt;" in text
    assert "<strong>" not in text
    assert "sharpmin study digits --seeds 3" in text


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
