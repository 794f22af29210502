"""Every public name has a docstring that names its arguments, its errors and, where it comes from a paper, its source."""

import ast
import inspect
import re
import textwrap
from enum import Enum

import griffe
import pytest
from tools.docs.public import symbols

import sharpmin as sm
from sharpmin.theory import theorems

OWN = [symbol for symbol in symbols() if symbol.home == symbol.module]
CALLABLE = [symbol for symbol in OWN if inspect.isclass(symbol.value) or inspect.isfunction(symbol.value)]
TREE = griffe.load("sharpmin", resolve_aliases=True)


def ids(found):
    return [symbol.path for symbol in found]


def written(symbol):
    """The docstring in the source: that of a dataclass without one is not taken for it."""
    entry = TREE[symbol.source.removeprefix("sharpmin.")]
    entry = entry.final_target if entry.is_alias else entry
    texts = [entry.docstring.value] if entry.docstring else []
    if entry.is_class:
        members = [entry.members.get(name) for name in ("__init__", "__post_init__")]
        members += [member for member in entry.members.values() if member.is_attribute]
        texts += [f"{member.name}: {member.docstring.value}" for member in members if member is not None and member.docstring]
    return "\n".join(texts)


def raised(value):
    """The errors that the function, or the constructor of the class, raises itself."""
    functions = [value] if inspect.isfunction(value) else [vars(value).get(name) for name in ("__init__", "__post_init__")]
    names = set()
    for function in functions:
        if not inspect.isfunction(function) or "sharpmin" not in function.__code__.co_filename:
            continue  # generated, or Python's own
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        names |= {
            ast.unparse(node.exc.func)
            for node in own_nodes(definition)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        }
    return names


def own_nodes(node):
    """All nodes in a function but those of the functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield child
            yield from own_nodes(child)


def parameters(value):
    """The names a caller may give."""
    if inspect.isclass(value) and (
        issubclass(value, Enum) or value.__init__ in (object.__init__, Exception.__init__, RuntimeError.__init__)
    ):
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(value).parameters.values() if p.kind not in kinds and not p.name.startswith("_")]


@pytest.mark.parametrize("symbol", OWN, ids=ids(OWN))
def test_it_has_a_docstring(symbol):
    assert len(written(symbol)) > 15


@pytest.mark.parametrize("symbol", CALLABLE, ids=ids(CALLABLE))
def test_its_arguments_are_named(symbol):
    text = written(symbol)
    missing = {name for name in parameters(symbol.value) if not re.search(rf"\b{name}\b", text)}
    assert missing == set()


@pytest.mark.parametrize("symbol", CALLABLE, ids=ids(CALLABLE))
def test_its_errors_are_named(symbol):
    text = written(symbol)
    assert {name for name in raised(symbol.value) if name not in text} == set()


@pytest.mark.parametrize("name", sm.variants())
def test_a_variant_names_its_paper(name):
    variant = sm.variants()[name]
    text = inspect.getdoc(variant.build)
    assert any(paper.arxiv in text for paper in variant.references)


@pytest.mark.parametrize("name", theorems())
def test_a_statement_names_its_source(name):
    assert "**Source.**" in theorems()[name].statement
