"""The page of a diagnosis: what it says, what its figures are drawn from, and how it looks in a browser."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch

import sharpmin as sm
from sharpmin.diagnostics import Floor, Log, State
from sharpmin.diagnostics._run.log import read
from sharpmin.diagnostics._run.rows import decode
from sharpmin.report import diagnosis_page
from sharpmin.report._diagnosis_figures import cancelled, draw
from sharpmin.report._numbers import entries
from sharpmin.report._watched import MOST_POINTS, Share, changes, curve, watched

from ..watched_runs import RUNS, blocks, known_logs, quadratic
from .conftest import NARROW, OVERFLOWING, looks
from .test_page import HOSTILE, Reader

FIGURES = {"loss", "cancelled", "fall", "gradients", "curvature"}
NOTHING_RESOLVED = FIGURES - {"cancelled"} | {"floor"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Per verdict the log of such a run, and its diagnosis."""
    logs = {name: read(path) for name, path in known_logs(tmp_path_factory).items()}
    return {name: (log, sm.diagnose(log)) for name, log in logs.items()}


@pytest.fixture(scope="module")
def pages(runs):
    return {name: diagnosis_page(found, log, "run.jsonl") for name, (log, found) in runs.items()}


def plates(page):
    return set(re.findall(r'<figure class="plate" id="([\w-]+)"', page))


@pytest.mark.parametrize("name", RUNS)
def test_the_page_says_the_verdict_the_sentences_and_every_number(name, runs, pages):
    _, found = runs[name]
    assert found.state is State(name)
    text = Reader(pages[name]).text
    assert found.headline[0].upper() + found.headline[1:] in text
    for told in [*found.sentences, *found.remarks]:
        words = re.findall(r"[a-z]{5,}", told[1:])
        assert all(word in text for word in words), told
    for entry in entries(found):
        assert entry.meaning.split()[0] in text
    assert text.count("What is not claimed") == 2  # the link and the heading
    assert "generalizes better" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rho holds the loss up", FIGURES),
        ("trap", FIGURES),
        ("rho floor", NOTHING_RESOLVED),
        ("SAM is not what limits the loss", NOTHING_RESOLVED - {"floor"}),
        ("undecided", FIGURES - {"loss"}),  # no loss was recorded
    ],
)
def test_figures_are_shown_for_what_was_recorded_and_resolved(name, expected, pages):
    assert plates(pages[name]) == expected


def test_the_page_fetches_nothing_and_is_small_enough(pages):
    for page in pages.values():
        reader = Reader(page)
        assert not [tag for tag, _ in reader.tags if tag in ("link", "img", "iframe", "object", "embed", "base")]
        assert page.count('id="plotly"') == 1
        assert len(page.encode()) < 2_500_000
        ids = reader.values("id")
        assert len(ids) == len(set(ids))
        assert {h[1:] for h in reader.values("href") if h.startswith("#")} <= set(ids)


def test_many_steps_are_still_one_small_page(runs):
    log, found = runs["rho holds the loss up"]
    long = Log()
    long.run, rows = log.run, list(log.steps)
    long.steps.extend(rows[i % len(rows)] | {"step": i} for i in range(200_000))
    long.blocks.extend(log.blocks)
    assert len(diagnosis_page(found, long).encode()) < 5_000_000


def test_hostile_text_stays_text(runs):
    log, found = runs["rho holds the loss up"]
    page = diagnosis_page(replace(found, sentences=(HOSTILE, HOSTILE), remarks=[HOSTILE]), log, HOSTILE)
    reader = Reader(page)
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert reader.text.count("alert(2)") >= 3


# what the figures are drawn from


def test_curves_are_the_rows(runs):
    log, found = runs["two-cycle"]
    data, rows = watched(found, log), list(log.steps)
    assert data.steps["loss"].y == tuple(row["loss"] for row in rows)
    for got, row in zip(data.steps["cosine"].y, rows, strict=True):
        big = row["gg"] + 2 * row["dg"] + row["dd"]
        assert got == pytest.approx((row["gg"] + row["dg"]) / math.sqrt(row["gg"] * big), abs=1e-12)
    assert data.steps["reach"].y == pytest.approx([1.0] * len(rows))
    for got, row in zip(data.blocks["smoothness"].y, log.blocks, strict=True):
        assert got == pytest.approx(row["norm_d"] / 0.1)
    assert data.span == (600, 999)


def test_running_windows_look_back_over_ten_blocks(runs):
    log, found = runs["rho holds the loss up"]
    data, rows = watched(found, log), list(log.blocks)
    assert [s.x for s in data.shares] == [50 * b - 1 for b in range(5, 21)]
    for share, last in zip(data.shares, range(5, 21), strict=True):
        part = rows[max(0, last - 10) : last]
        part = part[1:] if part[0] is rows[0] and last > 5 else part  # its loss was another, and five are left
        g, d = (torch.stack([decode(row[key]) for row in part]) for key in ("g", "d"))
        off = ~torch.eye(len(part), dtype=torch.bool)
        assert share.value == pytest.approx(-float((g @ d.T)[off].sum() / (g @ g.T)[off].sum()), rel=1e-9)
        assert share.interval[0] < share.value < share.interval[1]


def test_a_change_of_the_learning_rate_is_marked_and_does_not_break_the_curve(tmp_path):
    log = read(quadratic(tmp_path / "run.jsonl", rho=0.3, lr=0.002, steps=1000, drop=525))
    found = sm.diagnose(log)
    data = watched(found, log)
    assert data.changes == ((525, "lr 0.002 → 0.001"),)
    assert data.span == (750, 999)
    assert [s.x for s in data.shares if s.value is None] == []
    assert sum(trace.name == "95 % interval" for trace in cancelled(data).data) == 1


def test_a_schedule_is_not_marked_step_by_step():
    rows = [{"rho": 0.1, "lr": 0.1 / (t + 1)} for t in range(20)]
    assert changes(rows, range(20)) == ()


def test_a_resumed_run_goes_on_and_a_new_one_begins_anew(tmp_path):
    path = tmp_path / "run.jsonl"
    ends = []
    for taken in (0, 500, 480, 0):  # the steps that the optimizer has behind it
        quadratic(path, rho=0.3, lr=0.002, warm=taken, steps=500)
        log = read(path)
        data = watched(sm.diagnose(log), log)
        ends.append((data.steps["loss"].x == tuple(range(taken + 500)), data.blocks["loss"].x, data.span))
    middles = [tuple(50 * b + 24.5 for b in range(count)) for count in (10, 20, 9)]
    again = middles[2] + tuple(x + 480 for x in middles[0])  # a block that is cut short is left out
    assert [end[0] for end in ends] == [True] * 4
    assert [end[1] for end in ends] == [middles[0], middles[1], again, middles[0]]
    assert [end[2][1] for end in ends] == [499, 999, 979, 499]


def test_long_curves_are_means_over_neighbors():
    found = curve(range(3 * MOST_POINTS), [float(i) for i in range(3 * MOST_POINTS)])
    assert (found.each, len(found.x), found.x[:2], found.y[:2]) == (3, MOST_POINTS, (1.0, 4.0), (1.0, 4.0))
    assert not curve([0, 1], [math.nan, math.inf])


def test_the_fall_is_drawn_with_its_bracket_interval_and_threshold(runs):
    log, found = runs["rho holds the loss up"]
    plate = next(p for p in draw(watched(found, log), found.numbers) if p.id == "fall")
    n, traces = (
        found.numbers,
        {t.name: [u for u in plate.panels[0][1].data if u.name == t.name] for t in plate.panels[0][1].data},
    )
    (bar,) = traces["bracket, any curvature"]
    low, high = plate.panels[0][1].layout.xaxis.range
    assert low < n.lower < high < n.upper  # no further outside of the frame than that is wide
    assert (bar.base[0], bar.base[0] + bar.x[0]) == pytest.approx((n.lower, 2 * high - low))
    both, noise, force = traces["predicted fall, 95 %"]
    assert (both.x[0], noise.x[0], force.x[0]) == (n.fall, n.relief, n.drop)
    assert (force.x[0] - force.error_x.arrayminus[0], force.x[0] + force.error_x.array[0]) == pytest.approx(n.drop_interval)
    assert set(traces["0.5 % of the loss"][0].x) == {0.005 * n.loss}


@pytest.mark.parametrize("replacement", [True, False])
def test_bias_against_noise(runs, replacement):
    log, found = runs["rho floor"]
    plate = next(
        p for p in draw(watched(found, log), found.numbers, Floor(3.0, 2.0, 8.0, 6.0, 0.5, replacement)) if p.id == "floor"
    )
    bars = {bar.name: bar for bar in plate.panels[0][1].data}
    assert {name: bar.x[0] for name, bar in bars.items()} == {
        "ρ's bias": 3.0,
        "noise that ρ adds": 2.0,
        "noise that stays": 4.0,
    }
    assert (bars["ρ's bias"].error_x.array, bars["ρ's bias"].error_x.arrayminus) == ((5.0,), (1.0,))
    assert ("upper bounds" in plate.sentence) is not replacement


def test_what_is_not_finite_or_missing_is_left_out(tmp_path):
    path = blocks(tmp_path / "run.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[5] |= {"loss": "nan", "gg": "inf"}
    lines[7] |= {"step": "seven"}
    del lines[9]["lr"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = read(path)
    found = sm.diagnose(log)
    assert len(watched(found, log).steps["loss"].x) == 998
    assert plates(diagnosis_page(found, log)) == FIGURES


@pytest.mark.parametrize(("interval", "clear"), [((0.1, 0.9), True), ((-3.0, 4.0), False), (None, False)])
def test_what_counts_as_clear(interval, clear):
    assert Share(1.0, 0.5, interval).clear is clear


# in a browser


@pytest.fixture(scope="module")
def files(tmp_path_factory, pages):
    folder = tmp_path_factory.mktemp("pages")
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in pages}


@pytest.mark.parametrize("name", ["rho holds the loss up", "rho floor", "two-cycle", "undecided"])
def test_everything_is_drawn_and_nothing_overflows(visit, files, pages, name):
    figures = pages[name].count('class="plot"')
    assert figures >= 5
    assert list(looks(visit(files[name], *NARROW[::-1]), figures, marks=1)) == ["dark", "light"]


def test_a_long_name_and_wide_numbers_do_not_overflow(visit, runs, tmp_path):
    log, found = runs["rho holds the loss up"]
    wide = replace(found.numbers, drop=-1.234e-108, drop_interval=(-1.234e-108, 9.999e-108), upper=9.999e208)
    (tmp_path / "page.html").write_text(
        diagnosis_page(replace(found, numbers=wide), log, "run-" * 40 + ".jsonl"), encoding="utf-8"
    )
    tab = visit((tmp_path / "page.html").as_uri(), size=(390, 844))
    assert tab.evaluate(OVERFLOWING) == []


def test_the_verdict_and_the_numbers_need_no_script(browser, files):
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    tab = context.new_page()
    tab.goto(files["rho holds the loss up"])
    assert re.fullmatch("Rho holds the loss up, a (small|clear|large) effect", tab.locator("h1").inner_text())
    assert tab.locator("#numbers tbody").count() >= 12
    context.close()
