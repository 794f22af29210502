"""References: one line, and a BibTeX entry that parses."""

import re

import pytest

from sharpmin.core import reference
from sharpmin.core.canon import CANON
from sharpmin.core.reference import Reference

ALL = [*(value for value in vars(reference).values() if isinstance(value, Reference)), *CANON]
NOT_ON_ARXIV = {"liu2022random", "li2025one", "ji2024single"}


@pytest.mark.parametrize(
    ("authors", "who"),
    [
        (("Doe, Jane",), "Doe"),
        (("Doe, Jane", "Roe, Richard"), "Doe & Roe"),
        (("Doe, Jane", "Roe, Richard", "Poe, Edgar"), "Doe et al."),
    ],
)
@pytest.mark.parametrize(("arxiv", "tail"), [("", ""), ("2001.00001", ", arXiv:2001.00001")])
def test_cite(*, authors, who, arxiv, tail):
    assert Reference("key", authors, "A Title", 2020, "ICML", arxiv).cite() == f"{who}, A Title, ICML 2020{tail}"


def parsed(bibtex):
    """A small BibTeX reader: kind, key and fields, with the outer braces taken off."""
    kind, key, body = re.fullmatch(r"@(\w+)\{([\w:-]+),\n(.*)\n\}", bibtex, re.DOTALL).groups()
    fields = [re.fullmatch(r"  (\w+) = \{(.*)\}", line).groups() for line in body.split(",\n")]
    return kind, key, dict(fields)


@pytest.mark.parametrize("paper", ALL, ids=lambda paper: paper.key)
def test_bibtex(paper):
    kind, key, fields = parsed(paper.bibtex())
    assert (kind, key) == ("inproceedings", paper.key)
    assert fields["author"].split(" and ") == list(paper.authors)
    assert fields["title"] == f"{{{paper.title}}}"
    assert (fields["year"], fields["booktitle"]) == (str(paper.year), paper.venue)
    if paper.key not in NOT_ON_ARXIV:
        assert (fields["eprint"], fields["archiveprefix"]) == (paper.arxiv, "arXiv")


def test_bibtex_without_arxiv():
    fields = parsed(Reference("key", ("Doe, Jane",), "A Title", 2020, "ICML").bibtex())[2]
    assert set(fields) == {"author", "title", "year", "booktitle"}


def test_keys_are_unique_and_complete():
    assert len({paper.key for paper in ALL}) == len(ALL) >= 3
    assert {paper.key for paper in ALL if not re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv)} == NOT_ON_ARXIV
    assert len({paper.title for paper in ALL}) == len({paper.arxiv or paper.key for paper in ALL}) == len(ALL)
    assert all(re.fullmatch(r"[^,]+, [^,]+", author) for paper in ALL for author in paper.authors)
