"""What every variant owes, whoever adds it: no test here names one."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.core.reference import Reference
from sharpmin.optim._settings import Options

VARIANTS = sm.variants()
PACKAGE = sys.modules["sharpmin.optim.variants"]  # as an attribute of sharpmin.optim, that name is the function
FOLDER = Path(PACKAGE.__file__).parent
FILES = sorted(path.stem for path in FOLDER.glob("_*.py") if path.stem not in ("__init__", "_registry"))


def needed(name):
    """0.5 for every parameter without a default, 9 for one that counts."""
    parameters = list(inspect.signature(VARIANTS[name].build).parameters.values())[1:]
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return {p.name: 9 if p.annotation == "int" else 0.5 for p in needed}


def sgd(parameters):
    """With momentum, which some variants need; the first step is that of plain SGD."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def build(name, base):
    return sm.create(name, base, **needed(name))


def problem():
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))

    def closure():
        w.grad = None
        loss = 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)
        loss.backward()
        return loss

    return w, closure


@pytest.mark.parametrize("name", VARIANTS)
def test_it_builds_a_sam_around_the_base_that_was_given(name):
    w, _ = problem()
    base = sgd([w])
    opt = build(name, base)
    assert type(opt) is sm.SAM
    assert opt.base is base


@pytest.mark.parametrize("name", VARIANTS)
def test_its_signature(name):
    first, *rest, last = inspect.signature(VARIANTS[name].build).parameters.values()
    assert first.name == "base"
    assert (last.kind, last.annotation) == (last.VAR_KEYWORD, "Unpack[Options]")  # which type checkers know by name
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in rest)
    assert inspect.signature(VARIANTS[name].build).return_annotation == "SAM"


@pytest.mark.parametrize("name", VARIANTS)
def test_misspelled_keywords_are_refused(name):
    with pytest.raises(TypeError, match="misspelled"):
        sm.create(name, sgd([problem()[0]]), **needed(name), misspelled=1)


@pytest.mark.parametrize("name", VARIANTS)
def test_its_docstring_names_its_source_and_every_argument(name):
    build, references = VARIANTS[name].build, VARIANTS[name].references
    assert any(paper.arxiv and f"arXiv:{paper.arxiv}" in build.__doc__ for paper in references)
    for parameter in inspect.signature(build).parameters:
        assert re.search(rf"^ +{parameter}: \w", build.__doc__, re.MULTILINE), parameter
    assert ">>> " in build.__doc__


@pytest.mark.parametrize("name", VARIANTS)
def test_it_says_in_a_line_when_to_use_it(name):
    when = VARIANTS[name].when
    assert 30 < len(when) < 120
    assert "\n" not in when
    assert not when.endswith(".")


@pytest.mark.parametrize("name", VARIANTS)
def test_its_references_have_bibtex(name):
    assert VARIANTS[name].references
    for paper in VARIANTS[name].references:
        assert isinstance(paper, Reference)
        assert paper.bibtex().startswith(f"@inproceedings{{{paper.key},")


@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_exported(name):
    for module in (sm, PACKAGE):
        assert getattr(module, name) is VARIANTS[name].build
        assert name in module.__all__
    assert VARIANTS[name].build.__name__ == name


@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_by_closure_and_by_block_agree(name):
    ends = []
    for by_closure in (True, False):
        w, closure = problem()
        opt = build(name, sgd([w]))
        if by_closure:
            loss = opt.step(closure).item()
            assert (loss == 6.5) == (opt.ascent.needs_clean or opt.last.climbed == 0)
        else:
            if opt.ascent.needs_clean:
                closure()
            if opt.needs_second_pass:
                with opt.perturbed():
                    closure()
            opt.step()
        ends.append(w.tolist())
        assert opt.last.stepped
    assert ends[0] == ends[1]
    assert ends[0] != [3.0, 1.0]


@pytest.mark.parametrize("name", VARIANTS)
def test_rho_zero_is_the_base(name):
    w, closure = problem()
    opt = sm.create(name, sgd([w]), **{**needed(name), "rho": 0.0})
    assert opt.needs_second_pass is not opt.ascent.needs_clean  # without a first pass the block is the one that is made
    opt.step(closure)
    assert w.tolist() == pytest.approx([2.7, 0.6], abs=1e-15)
    assert opt.last.passes == 1


@pytest.mark.parametrize("name", VARIANTS)
def test_the_other_keywords_of_sam_pass_through(name):
    net = nn.Linear(1, 1)
    base = sgd(net.parameters())
    opt = sm.create(name, base, **needed(name), model=net, rounding="stochastic")
    assert (opt.model, opt.rounding) == (net, "stochastic")
    if getattr(opt.rho, "remembers", ()):
        with pytest.raises(ValueError, match='decides by the one gradient of a step, and scope="microbatch"'):
            sm.create(name, base, **needed(name), scope="microbatch")
    elif opt.ascent.needs_clean:
        assert sm.create(name, base, **needed(name), scope="microbatch").scope == "microbatch"
    else:
        with pytest.raises(ValueError, match='scope="microbatch" perturbs by a gradient of its own'):
            sm.create(name, base, **needed(name), scope="microbatch")


def test_the_options_are_the_keywords_of_sam():
    own = inspect.signature(sm.SAM).parameters
    keywords = {p.name for p in own.values() if p.kind is p.KEYWORD_ONLY}
    assert keywords - {"geometry", "ascent", "descent"} == Options.__annotations__.keys()


def imported(folder):
    """The modules that the package's `__init__.py` imports from."""
    tree = ast.parse((folder / "__init__.py").read_text())
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_its_import_line_and_a_variant(file):
    assert file in imported(FOLDER)
    assert file in {entry.build.__module__.rsplit(".", 1)[1] for entry in VARIANTS.values()}
    assert (FOLDER / f"{file}.py").read_text().count("\n") <= 100


def test_a_file_without_its_line_is_seen(tmp_path):
    """The check above can fail."""
    (tmp_path / "__init__.py").write_text("from ._sam import sam\nimport _other\n")
    assert imported(tmp_path) == {"_sam"}


def test_a_name_is_taken_once():
    from sharpmin.optim.variants._registry import variant

    with pytest.raises(ValueError, match="exists already; choose another"):
        variant(when="")(next(iter(VARIANTS.values())).build)
    assert sm.variants() == VARIANTS


def test_variants_hands_out_a_copy():
    sm.variants().clear()
    assert sm.variants() == VARIANTS


@pytest.mark.parametrize(
    ("name", "words"),
    [("samm", "did you mean sam"), ("zzz", "there are ae_sam, asam, capped_sam,")],
)
def test_unknown_names(name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        sm.create(name, torch.optim.SGD([problem()[0]], lr=0.1))
