"""The documentation site, built once: complete, whole, and nothing in it is fetched from elsewhere."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
from tools.docs.check import Page, faults
from tools.docs.public import symbols
from tools.docs.reference import page_of

from sharpmin.theory import theorems

ROOT = Path(__file__).parents[2]


def page(site, name):
    return (site / name).read_text(encoding="utf-8")


def test_no_link_is_broken_and_nothing_comes_from_elsewhere(site):
    assert faults(site) == []


def test_every_page_of_docs_is_in_it_and_in_the_navigation(site):
    found = sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "docs").rglob("*.ipynb"))
    assert len(found) > 35
    linked = {Path(link).as_posix() for link in Page(page(site, "training.html")).links}
    for source in found:
        name = source.relative_to(ROOT / "docs").with_suffix(".html").as_posix().replace("README", "index")
        assert (site / name).is_file()
        assert name in linked


@pytest.mark.parametrize("module", sorted({symbol.module for symbol in symbols()}))
def test_every_public_name_has_an_entry(site, module):
    ids = Page(page(site, page_of(module).replace(".md", ".html"))).ids
    assert [symbol.path for symbol in symbols() if symbol.module == module and symbol.path not in ids] == []


def test_every_statement_has_its_formulas(site):
    text = page(site, "statements.html")
    entries = re.split(r'<h3 id="', text)[1:]
    assert [entry.split('"')[0] for entry in entries] == list(theorems())
    assert all("<math" in entry for entry in entries if "    " in theorems()[entry.split('"')[0]].statement)
    assert "<pre>" not in "".join(re.findall(r'<div class="statement">.*?</div>', text, flags=re.DOTALL))


def test_every_cell_of_the_notebook_is_on_its_page(site):
    name = "notebooks/from_conjecture_to_refutation"
    text = unescape(re.sub(r"<[^>]+>", "", page(site, f"{name}.html")))
    cells = json.loads((ROOT / "docs" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 3
    assert [source for source in code if source not in text] == []


def test_no_asterisk_of_a_formula_is_taken_for_emphasis(site):
    emphasized = [text for file in site.rglob("*.html") for text in re.findall(r"<em>(.*?)</em>", file.read_text(), re.DOTALL)]
    assert len(emphasized) > 20
    assert [text for text in emphasized if not re.match(r"[\w<]", text)] == []


FAULTY = {
    "a link": ('<a href="b.html">', "the link b.html leads nowhere"),
    "an anchor": ('<a href="#there">', "the anchor of #there does not exist"),
    "a script": ('<script src="https://example.org/a.js"></script>', "would be fetched from elsewhere"),
    "a style": ('<link rel="stylesheet" href="//example.org/a.css">', "would be fetched from elsewhere"),
    "a picture": ('<img src="a.png">', "the file a.png is missing"),
}


@pytest.mark.parametrize(("code", "told"), FAULTY.values(), ids=FAULTY)
def test_the_check_finds(tmp_path, code, told):
    (tmp_path / "index.html").write_text(f"<h1 id='here'>x</h1><a href='#here'></a>{code}")
    (fault,) = faults(tmp_path)
    assert told in fault
