"""What cannot be right is refused at once, and the message says what was given, what is needed, and the fix."""

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm


def weight():
    return nn.Parameter(torch.ones(2))


def sgd(**options):
    return torch.optim.SGD([weight()], lr=0.1, **options)


class Needy(torch.optim.SGD):
    def step(self, closure):
        return super().step(closure)


BASES = {
    "class": (
        lambda: torch.optim.SGD,
        TypeError,
        ["instance", "not parameters and a class", "SAM(torch.optim.SGD(model.parameters()"],
    ),
    "parameters": (lambda: [weight()], TypeError, ["base=list", "instance", "SAM(torch.optim.SGD(model.parameters()"]),
    "module": (lambda: nn.Linear(1, 1), TypeError, ["base=Linear", "instance", "SAM(torch.optim.SGD(model.parameters()"]),
    "none": (lambda: None, TypeError, ["base=NoneType", "instance"]),
    "SAM": (lambda: sm.SAM(sgd()), TypeError, ["itself a SAM", "SAM(opt.base, rho=...)"]),
    "LBFGS": (lambda: torch.optim.LBFGS([weight()]), TypeError, ["LBFGS", "closure", "SGD or Adam"]),
    "own closure": (lambda: Needy([weight()], lr=0.1), TypeError, ["Needy", "closure", "SGD or Adam"]),
    "Adadelta": (lambda: torch.optim.Adadelta([weight()]), ValueError, ["Adadelta", "called rho of its own", "another base"]),
    "differentiable": (lambda: sgd(differentiable=True), ValueError, ["SGD", "differentiable=True", "differentiable=False"]),
}


@pytest.mark.parametrize("name", BASES)
def test_bases(name):
    base, error, words = BASES[name]
    made = base()
    with pytest.raises(error) as caught:
        sm.SAM(made, rho=0.05)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    "make",
    [torch.optim.SGD, torch.optim.Adam, torch.optim.SparseAdam, torch.optim.Rprop, torch.optim.Adagrad, torch.optim.Muon],
)
def test_bases_that_are_fine(make):
    base = make([nn.Parameter(torch.ones(2, 2))], lr=0.1)
    assert sm.SAM(base).base is base


RHOS = [
    (-0.05, ValueError, ["rho=-0.05", ">= 0"]),
    (-1, ValueError, ["rho=-1", ">= 0"]),
    (float("nan"), ValueError, ["rho=nan", "finite"]),
    (float("inf"), ValueError, ["rho=inf", "finite"]),
    (float("-inf"), ValueError, ["rho=-inf", "finite"]),
    (np.float64("nan"), ValueError, ["nan", "finite"]),
    ("0.05", TypeError, ["rho='0.05'", "str", "0.05", "sharpmin.rho.Cosine(0.05, steps=1000)"]),
    (None, TypeError, ["rho=None", "NoneType", "schedule"]),
    (True, TypeError, ["rho=True", "bool", "number"]),
    ([0.05], TypeError, ["list", "number"]),
    (0.05j, TypeError, ["complex", "number"]),
    (torch.tensor(0.05), TypeError, ["Tensor", "number"]),
    (sm.rho.Cosine, TypeError, ["ABCMeta", "schedule such as"]),
    (lambda info: 0.05, TypeError, ["function", "schedule such as"]),
]


def at_construction(rho):
    base = sgd()
    try:
        sm.SAM(base, rho=rho)
    finally:
        assert "rho" not in base.param_groups[0]


def in_a_group(rho):
    sm.SAM(torch.optim.SGD([{"params": [weight()], "rho": rho}], lr=0.1), rho=0.05)


def in_an_added_group(rho):
    opt = sm.SAM(sgd(), rho=0.05)
    try:
        opt.add_param_group({"params": [weight()], "rho": rho})
    finally:
        assert len(opt.param_groups) == 1


def set_in_a_group(rho):
    opt = sm.SAM(sgd(), rho=0.05)
    (p,) = opt.param_groups[0]["params"]
    p.grad = torch.ones(2)
    opt.param_groups[0]["rho"] = rho
    try:
        opt.perturb()
    finally:
        assert p.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("place", [at_construction, in_a_group, in_an_added_group, set_in_a_group])
@pytest.mark.parametrize(("rho", "error", "words"), RHOS, ids=lambda value: repr(value)[:20])
def test_rho(place, rho, error, words):
    with pytest.raises(error) as caught:
        place(rho)
    assert [word for word in words if word not in str(caught.value)] == []


def test_nothing_is_left_in_the_base_when_one_group_is_bad():
    base = torch.optim.SGD([{"params": [weight()]}, {"params": [weight()], "rho": -1.0}], lr=0.1)
    with pytest.raises(ValueError, match="rho"):
        sm.SAM(base, rho=0.05)
    assert [set(group) & {"rho", "sharpmin_step"} for group in base.param_groups] == [set(), {"rho"}]


@pytest.mark.parametrize("extra", [{"params": [weight()], "differentiable": True}])
def test_an_added_group_may_not_be_differentiable(extra):
    opt = sm.SAM(sgd())
    with pytest.raises(ValueError, match="differentiable=True"):
        opt.add_param_group(extra)
    assert len(opt.param_groups) == 1


@pytest.mark.parametrize("keyword", ["Rho", "lr", "momentum", "scale"])
def test_misspelled_keywords_are_refused(keyword):
    with pytest.raises(TypeError, match=keyword):
        sm.SAM(sgd(), **{keyword: 0.05})


@pytest.mark.parametrize("rho", [0.1, sm.rho.Cosine(0.05, steps=10)])
def test_another_rho_on_a_base_that_was_wrapped_before(rho):
    base = sgd()
    sm.SAM(base, rho=0.05)
    with pytest.raises(ValueError, match=r'holds rho=0.05 from an earlier SAM.*del group\["rho"\]'):
        sm.SAM(base, rho=rho)
    assert sm.SAM(base, rho=0.05).param_groups[0]["rho"] == 0.05
    del base.param_groups[0]["rho"]
    assert sm.SAM(base, rho=rho).param_groups[0]["rho"] == rho


def test_a_group_of_a_fresh_base_keeps_its_own_rho():
    base = torch.optim.SGD([{"params": [weight()], "rho": 0.0}, {"params": [weight()]}], lr=0.1)
    assert [group["rho"] for group in sm.SAM(base, rho=0.1).param_groups] == [0.0, 0.1]
