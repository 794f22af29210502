"""docs/canon.md is true: its expressions run and cost what its tables say, and its papers are those that `cite` prints."""

import re
from functools import reduce
from pathlib import Path

import pytest
import torch
from torch import nn

import sharpmin as sm
import sharpmin.diagnostics
from sharpmin.cli._cite import references
from sharpmin.core.canon import CANON

PAGE = (Path(__file__).parents[1] / "docs" / "canon.md").read_text()
CODE = re.compile(r"`(sm\.[^`]*\([^`]*)`")


def rows(page):
    """The cells of every row of the tables of variants, which have five columns."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line.startswith("| ")]
    return [row for row in cells if len(row) == 5 and row[0] != "variant"]


ROWS = rows(PAGE)
HERE = [(row, code) for row in ROWS for code in CODE.findall(row[4])]


def setting():
    """A tiny model with a normalization layer, and the names that the page's expressions use."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    norms = list(model[1].parameters())
    rest = [p for p in model.parameters() if not any(p is q for q in norms)]
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, {"sm": sm, "torch": torch, "base": base, "model": model, "norms": norms, "rest": rest}


def cost(code):
    """Gradients a step, over a run as long as the expression says, or else of 100 steps; and copies of the weights."""
    model, names = setting()
    opt = eval(code, names)
    x = torch.randn(8, 3)
    calls = reported = 0

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    steps = int((re.findall(r"total=(\d+)", code) or [100])[0])
    for _ in range(steps):
        opt.step(closure)
        reported += opt.last.passes
    assert calls == reported
    kept = [opt.descent.needs_clean, opt.descent.stateful, opt.ascent.stateful, opt.scope == "microbatch"]
    return calls / steps, 1 + sum(kept)


@pytest.mark.parametrize(("row", "code"), HERE, ids=[code for _, code in HERE])
def test_a_variant_that_is_here_costs_what_its_row_says(row, code):
    gradients, copies = cost(code)
    low, high = min_max(row[2])
    assert low < gradients < high if low < high else gradients == low
    assert copies == int(row[3])


def min_max(cell):
    """One number, or "1 to 2", where the gradients decide."""
    numbers = [float(part) for part in cell.split(" to ")]
    return numbers[0], numbers[-1]


def test_a_wrong_number_would_be_found():
    """The numbers of one row in another's place: none is compared with itself."""
    looksam = next(code for _, code in HERE if "looksam" in code)
    assert cost(looksam) == (1.1, 3)
    assert {tuple(row[2:4]) for row, _ in HERE} >= {
        ("2", "1"),
        ("2", "2"),
        ("1", "1"),
        ("1.1", "1"),
        ("1.1", "3"),
        ("1.9", "1"),
    }


@pytest.mark.parametrize("code", sorted(set(CODE.findall(PAGE))))
def test_every_expression_can_be_evaluated(code):
    assert eval(code, setting()[1]) is not None


def test_every_name_exists():
    for name in re.findall(r"`sharpmin((?:\.\w+)+)`", PAGE):
        assert callable(reduce(getattr, name[1:].split("."), sharpmin)), name
    for name in re.findall(r"`(sm(?:\.\w+)+)`", PAGE):
        assert callable(eval(name, {"sm": sm})), name


def test_a_variant_is_here_or_the_page_says_no():
    assert {row[4] for row in ROWS if not CODE.search(row[4])} == {
        "no",
        "a schedule of your own, [below](#a-variant-that-is-not-here); statement unified",
        "a loss, [how](language-models.md#functional-sam)",
        "a block, [how](language-models.md#flat-lora-noise-on-the-merged-weights)",
    }
    assert f"{len(ROWS)} variants: {len(HERE)} can be written in a line, {len(ROWS) - len(HERE)} cannot." in PAGE
    assert sum("derived here" in row[0] for row in ROWS) == 4


def test_every_function_is_on_the_page():
    assert {name for name in sm.variants() if f"sm.{name}(" not in PAGE} == set()


def test_every_part_is_on_the_page():
    parts = {
        name for name in sm.__all__ if isinstance(getattr(sm, name), type) and hasattr(getattr(sm, name), "__match_args__")
    }
    named = {type(part).__name__ for _, code in HERE for part in parts_of(code)}
    assert parts - named <= {"Masked", "StepInfo", "StepReport"}
    assert "`sm.Masked(" in PAGE


def parts_of(code):
    opt = eval(code, setting()[1])
    return opt.geometry, opt.ascent, opt.descent


def test_its_papers_are_those_that_cite_prints():
    keys = set(re.findall(r"`([a-z]+20\d\d[a-z]+)`", PAGE))
    papers = {paper.key: paper for paper in references(sorted(keys))}
    assert keys == set(papers) == {paper.key for paper in references([]) if paper.key in keys | {p.key for p in CANON}}
    assert {paper.key for v in sm.variants().values() for paper in v.references} <= keys
    links = set(re.findall(r"arxiv\.org/abs/(\d{4}\.\d{5})\)", PAGE))
    assert {paper.arxiv for paper in papers.values()} - {""} <= links
    assert links - {paper.arxiv for paper in papers.values()} == {"2602.09395"}  # the order of its authors is not known here


def test_links_and_keys_of_a_line_belong_together():
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and re.search(r"20\d\d[a-z]+`", line)]
    assert len(lines) >= 9
    for line in lines:
        (paper,) = references(re.findall(r"`([a-z]+20\d\d[a-z]+)`", line))
        assert f"[{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})" in line
