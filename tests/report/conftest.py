"""Quick datasets, their figures, and a verdict for every statement, made once; and what to ask a page in it."""

from dataclasses import dataclass

import pytest

from sharpmin.report import datasets, figures
from sharpmin.theory import Verdict, theorems

OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest("pre, svg, .plot, .hidden, thead"))
  .filter((e) => { const r = e.getBoundingClientRect(); return r.width > 0 && (r.right > innerWidth + 1 || r.left < -1); })
  .map((e) => e.tagName + " " + e.className + " " + e.textContent.slice(0, 40))"""

PLOTS = """() => [...document.querySelectorAll(".plot")].map((div) => {
  const box = div.querySelector("svg.main-svg")?.getBoundingClientRect();
  const drawn = div.querySelectorAll("path.js-line, path.point, .point path, .contourlayer path").length;
  return [box?.width ?? 0, box?.height ?? 0, drawn];
})"""

CLIPPED = """() => [...document.querySelectorAll(".plot")].flatMap((div) => {
  const frame = div.getBoundingClientRect();
  return [...div.querySelectorAll("svg text")].filter((t) => t.textContent).filter((t) => {
    const r = t.getBoundingClientRect();
    return r.left < frame.left - 2 || r.right > frame.right + 2 || r.bottom > frame.bottom + 2;
  }).map((t) => t.textContent);
})"""

FITTED = """() => [...document.querySelectorAll(".plot")].every((div) => {
  return Math.abs(div.querySelector("svg.main-svg").getBoundingClientRect().width - div.clientWidth) < 2;
})"""

NARROW, WIDE = ((390, 844), "dark"), ((1280, 900), "light")
"""Sizes and color schemes; a page's width does not depend on its colors, so not their product."""


def looks(tab, figures, marks):
    """Both looks of a page that was opened as `NARROW`: all figures are drawn, each with so many marks, and nothing is cut."""
    for size, scheme in (NARROW, WIDE):
        tab.set_viewport_size({"width": size[0], "height": size[1]})
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_function("scheme => document.documentElement.dataset.drawn === scheme", arg=scheme)
        tab.wait_for_function(FITTED)
        plots = tab.evaluate(PLOTS)
        assert len(plots) == figures
        for width, height, drawn in plots:
            assert 200 < width < size[0]
            assert 200 < height < 600
            assert drawn >= marks
        nothing_overflows(tab)
        yield scheme


def nothing_overflows(tab):
    """Neither the page nor a part of it."""
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(OVERFLOWING) == []
    assert tab.evaluate(CLIPPED) == []


@dataclass(frozen=True)
class Known:
    """A cell of the settings table, as the report expects it."""

    oracle: str
    setting: str
    radius: str
    ids: tuple = ()
    bound: str = ""
    measured: float | None = None
    ratio: float | None = None
    all_the_way: bool | None = None
    proved: bool = True
    note: str = ""


def verdict(id_, **changes):
    t = theorems().get(id_)
    fields = {
        "id": id_, "claim": list(t.claims) if t else ["P1"], "kind": t.kind if t else "upper",
        "measured": 1.25e-7, "bound": 2.5e-7, "ratio": 0.5, "holds": True, "vacuous": False, "n_cells": 3,
        "standard_error": 0.0, "relation": "<=",
        "instance": "trap, theta 0.1", "title": t.title if t else id_, "seconds": 1.0,
    }  # fmt: skip
    return Verdict(**fields | changes)


@pytest.fixture(scope="session")
def data():
    return datasets.compute(quick=True)


@pytest.fixture(scope="session")
def plates(data):
    return {plate.id: plate for plate in figures.draw(data)}


@pytest.fixture(scope="session")
def verdicts():
    return [verdict(id_) for id_ in theorems()]


@pytest.fixture(scope="session")
def cells():
    return [
        Known("deterministic", "strongly-convex", "constant", ("t1",), "beta^2/T^2", 1.5e-9, 0.5, True),
        Known("deterministic", "strongly-convex", "decaying", measured=0.0, all_the_way=True, proved=False),
        Known("m-sam", "nonconvex", "constant", ("t5", "e5"), "<i>floor</i>", 0.7, 1.0, False),
        Known("m-sam", "nonconvex", "clipped", note="no <b>statement</b> is known"),
    ]


@pytest.fixture
def visit(tabs):
    """Open an address, and wait until its figures are drawn."""

    def opened(address, scheme="light", size=(1280, 900)):
        tab = tabs(address, scheme, size)
        tab.wait_for_function("scheme => document.documentElement.dataset.drawn === scheme", arg=scheme)
        return tab

    return opened
