"""The page of a study: every number of the table is in it, it fetches nothing, and a browser draws it."""

import re

import pytest

from sharpmin.study import SETTINGS, findings, page, places, table
from sharpmin.study._methods import title

from ..study.conftest import made_up
from .conftest import NARROW, looks

DIGITS = SETTINGS["digits"]


@pytest.fixture(scope="module")
def rows():
    return made_up(5, **{"sam 0.4": {"accuracy": [0.95, 0.1, 0.96, 0.95, 0.94]}})


@pytest.fixture(scope="module")
def text(rows):
    return page(DIGITS, rows, "a <note>")


def test_every_number_and_every_method_is_in_it(text, rows):
    lines = table(rows)
    where = places(rows, lines)
    tables = re.findall(r'<table class="study">.*?</table>', text, re.DOTALL)
    assert len(tables) == 2
    for noise, drawn in zip((0.0, 0.4), tables, strict=True):
        own = [line for line in lines if line.noise == noise]
        assert re.findall(r'<th scope="row">(.*?)</th>', drawn) == [title(line.method, DIGITS) for line in own]
        cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in drawn.split("<tr>")[2:]]
        for line, row in zip(own, cells, strict=True):
            place = where[line.method, noise]
            assert row[0] == f"{line.passes:.2f}"
            assert row[1] == f"{line.seconds:.2f}"
            assert row[5].startswith(line.accuracy.text(100))
            assert ("collapsed" in row[5]) == bool(line.collapsed)
            assert row[6] == line.gain.text(100)
            assert row[7] == place.word + (f", by {title(place.beaten_by, DIGITS)}" if place.beaten_by else "")
    assert sum(line.collapsed for line in lines) == 1
    assert text.count('<p class="finding') == len(findings(rows))
    assert text.count('<p class="finding not">') == sum(not found.clear for found in findings(rows))
    assert "a &lt;note&gt;" in text
    assert "<strong>" not in text
    assert "sharpmin study digits --seeds 5" in text


def test_it_is_one_file_that_fetches_nothing(text, rows):
    assert text.count('id="plotly"') == 1
    assert re.findall(r'(?:src|href)="(?!#)', text.split("<body>")[1].split('id="plotly"')[0]) == []
    ids = re.findall(r'\sid="([^"]+)"', text.split('id="plotly"')[0])
    assert len(ids) == len(set(ids))
    assert page(DIGITS, rows, "a <note>") == text


def test_a_browser_draws_it_and_nothing_overflows(visit, text, rows, tmp_path):
    (tmp_path / "study.html").write_text(text, encoding="utf-8")
    tab = visit((tmp_path / "study.html").as_uri(), *NARROW[::-1])
    assert list(looks(tab, figures=6, marks=12)) == ["dark", "light"]


PERCENT = """async () => {
  const labels = [];
  for (const id of ["frontier", "rho"]) for (const div of document.querySelectorAll(`#${id} .plot`)) {
    const read = () => [...div.querySelectorAll(".ytick text")].map((t) => parseFloat(t.textContent));
    const drawn = read();
    await Plotly.relayout(div, { "yaxis.range": [-40, 180] });
    labels.push(drawn, read());
  }
  return labels;
}"""


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_no_label_of_an_accuracy_is_outside_of_0_to_100_percent(visit, tmp_path, seeds):
    """With values at both ends, and intervals that go beyond them; also where a reader zooms out."""
    ends = {"accuracy": [0.0, 0.04, 0.0, 0.1, 0.0]}, {"accuracy": [1.0, 0.96, 1.0, 0.9, 1.0]}
    found = made_up(
        seeds, **{f"{name} {noise}": end for name, end in zip(("base", "sam"), ends, strict=True) for noise in (0.0, 0.4)}
    )
    (tmp_path / "study.html").write_text(page(DIGITS, found), encoding="utf-8")
    labels = visit((tmp_path / "study.html").as_uri()).evaluate(PERCENT)
    assert len(labels) == 8
    for some in labels:
        assert len(some) >= 3
        assert 0 <= min(some) < max(some) <= 100


def test_a_page_of_few_seeds_shows_each_and_no_interval():
    few = made_up(2)
    text = page(DIGITS, few)
    assert "95 % interval over seeds" not in text.split('id="plotly"')[0]
    for line in table(few):
        assert f">{line.accuracy.shown(100)}</td>" in text
    assert "One seed: no interval can be given." in page(DIGITS, made_up(1))
