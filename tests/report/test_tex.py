"""The report for a paper: LaTeX would take it, and it says what the report says."""

import math
import re

import numpy as np
import pytest

from sharpmin.core.latex import escaped, tabular
from sharpmin.report import papers
from sharpmin.report.tex import axis_tex, formula, number
from sharpmin.theory import settings, theorems

from ..latex_by_hand import complaints
from .conftest import verdict


@pytest.fixture(scope="module")
def files(verdicts, plates):
    return papers(verdicts, list(plates.values()), settings())


def test_latex_would_take_every_file(files):
    for name, text in files.items():
        if not name.endswith(".bib"):
            assert complaints(text) == [], name


def test_the_document_shows_every_file(files):
    shown = re.findall(r"\\input\{([^}]*)\}", files["main.tex"])
    assert {*shown, "main.tex", "references.bib"} == files.keys()
    assert complaints(files["main.tex"]) == []
    keys = {paper.key for theorem in theorems().values() for paper in theorem.references}
    assert set(re.findall(r"@\w+\{(\w+),", files["references.bib"])) == keys


def rows(text):
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line[:-3])] for line in text.splitlines() if line.endswith(r" \\")]


def test_statements_are_the_verdicts(files, verdicts):
    head, *body = rows(files["statements.tex"])
    assert head[1] == "statement"
    assert [row[1] for row in body] == [escaped(v.id) for v in verdicts]
    assert all(row[4:8] == [r"$1.25 \times 10^{-7}$", r"$\le$", r"$2.5 \times 10^{-7}$", "$0.5$"] for row in body)
    words = [papers([v], [], [])["statements.tex"] for v in (verdict("t1", holds=False), verdict("t1", vacuous=True))]
    assert [rows(text)[-1][-1] for text in words] == ["refuted", "vacuous"]


def test_settings_are_the_60_cells_and_the_bounds(files):
    table, bounds = files["settings.tex"].split(r"\bigskip")
    body = [row for row in rows(table)[1:] if "multicolumn" not in row[0]]
    answers = [cell.split()[0].removesuffix("$^*$") for row in body for cell in row[1:]]
    assert len(answers) == 60
    words = {True: "yes", False: "no", None: "open"}
    assert sorted(answers) == sorted(words[cell.all_the_way] for cell in settings())
    listed = {row[0]: row[1] for row in rows(bounds)[1:]}
    assert listed["r1"] == formula(theorems()["r1"].rule.formula)
    assert listed.keys() == {escaped(c.ids[0]) for c in settings() if c.ids and c.bound}


def test_curves_keep_their_numbers(plates):
    for plate in plates.values():
        for _, figure in plate.panels:
            plots = re.findall(r"coordinates \{(.*?)\};", axis_tex(figure))
            traces = [trace for trace in figure.data if trace.type == "scatter"]
            assert len(plots) == len(traces)
            for plot, trace in zip(plots, traces, strict=True):
                points = np.array([pair.split(",") for pair in re.findall(r"\(([^)]*)\)", plot)], float).reshape(-1, 2)
                assert len(points) <= 302
                whole = {(float(f"{x:.6g}"), float(f"{y:.6g}")) for x, y in zip(trace.x, trace.y, strict=True)}
                assert {tuple(point) for point in points} <= whole
                if len(trace.x) <= 300 and figure.layout.yaxis.type != "log" and figure.layout.xaxis.type != "log":
                    assert len(points) == sum(map(math.isfinite, trace.y))


def test_a_hostile_text_is_only_text():
    hostile = r"50% of #1 & x_t^2 ~ {$\input{secret}$} <b> \\ | β"
    row = papers([verdict("t1", title=hostile)], [], [])["statements.tex"]
    assert complaints(row) == []
    assert r"\input" not in row
    assert complaints(escaped(hostile)) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "$0.25$"), (-3e-9, r"$-3 \times 10^{-9}$"), (math.inf, r"$\infty$"), (math.nan, r"$\mathrm{nan}$")],
)
def test_numbers(value, text):
    assert number(value) == text


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"a row has 1 cells, 2 are needed: \['a'\]"):
        tabular("ll", ("x", "y"), [["a"]])


@pytest.mark.parametrize(
    "broken",
    [r"\begin{a}", r"\end{a}", "{", "$x", "50 % of", "x_t", "ρ", "\\begin{tabular}{ll}\na & b & c \\\\\n\\end{tabular}"],
)
def test_the_complaints_see_what_is_broken(broken):
    assert complaints(broken)
