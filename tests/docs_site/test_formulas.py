"""Formulas in plain text become MathML: the structure of known ones, and of all that the statements have no letter is lost."""

import doctest
import importlib
import re
import xml.etree.ElementTree as ET
from html import unescape

import pytest
from tools.docs.formula import mathml
from tools.docs.prose import sentence
from tools.docs.tokens import GREEK

from sharpmin.theory import theorems

SIGNS = {
    "∇": "grad",
    "𝔼": "E",
    "∑": "sum",
    "∞": "inf",
    "√": "sqrt",
    **{greek: word for word, greek in GREEK.items() if word != "lambda"},
}


def shape(text):
    """A nested form of the MathML: a tag with its children, or the characters of a leaf; rows and spaces are passed over."""

    def of(node):
        if not len(node):
            return node.text
        children = [of(child) for child in node if child.tag != "mspace"]
        if node.tag in ("mrow", "math"):
            return children[0] if len(children) == 1 else tuple(children)
        return (node.tag, *children)

    return of(ET.fromstring(mathml(text, display=True).replace("&nbsp;", " ")))


KNOWN = {
    "x^2": ("msup", "x", "2"),
    "x_t^2": ("msubsup", "x", "t", "2"),
    "x0": ("msub", "x", "0"),
    "f*": ("msup", "f", "∗"),
    "a b/c d": (("mfrac", ("a", "b"), "c"), "d"),
    "a/(2 mu)": ("mfrac", "a", ("2", "μ")),
    "a + b/c": ("a", "+", ("mfrac", "b", "c")),
    "(a + b)/c": ("mfrac", ("a", "+", "b"), "c"),
    "(a + b) d/c": ("mfrac", (("(", ("a"), "+", "b", ")"), "d"), "c"),
    "f(x)/c": ("mfrac", ("f", ("(", "x", ")")), "c"),
    "kappa^(1/2)": ("msup", "κ", ("mfrac", "1", "2")),
    "x^-1": ("msup", "x", ("−", "1")),
    "sqrt(k)": ("msqrt", "k"),
    "||x||": ("‖", "x", "‖"),
    "<a, b>": ("⟨", "a", ",", "b", "⟩"),
    "t in [0, 1)": ("t", "∈", ("[", "0", ",", "1", ")")),
    "mean_{t<T} u": (("munder", "mean", ("t", "<", "T")), "u"),
    "x -> inf": ("x", "→", "∞"),
}


@pytest.mark.parametrize("text", KNOWN)
def test_a_known_formula(text):
    assert shape(text) == KNOWN[text]


@pytest.mark.parametrize("text", ["(a", "a)", "{a", "a^", "||a"])
def test_an_unfinished_formula_is_refused(text):
    with pytest.raises(ValueError, match=r"no |closes nothing|missing"):
        mathml(text)


def letters(text):
    """Letters and digits in order; of a fraction or a root, whose signs MathML does not write, they stay."""
    for character, word in SIGNS.items():
        text = text.replace(character, word)
    return re.sub(r"[^A-Za-z0-9]", "", text).replace("lambda", "lam")


@pytest.mark.parametrize("name", theorems())
def test_no_letter_of_a_statement_is_lost(name):
    for block in re.split(r"\n\s*\n", theorems()[name].statement):
        text = " ".join(block.split())
        shown = unescape(re.sub(r"<[^>]+>", "", re.sub(r"<msqrt>", "√", sentence(text))))
        assert letters(shown).replace("in", "") == letters(text).replace("in", "")  # "in" may be a sign


@pytest.mark.parametrize("name", ["doctests", "formula", "notebook", "prose", "tokens"])
def test_the_examples_in_its_docstrings(name):
    failed, tried = doctest.testmod(importlib.import_module(f"tools.docs.{name}"))
    assert (failed, tried > 0) == (0, True)
