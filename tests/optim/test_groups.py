"""Radii per group: one norm over the groups that climb, a step length for each."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm


def pair(**second):
    """Two groups of one weight, 0 each; a has gradient 3, b has gradient 4."""
    a, b = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([{"params": [a]}, {"params": [b], **second}], lr=0.1), rho=0.5)

    def backward():
        (3 * a + 4 * b).sum().backward()

    return opt, a, b, backward


@pytest.mark.parametrize(
    ("second", "e", "norm", "radius"),
    [
        ({}, (0.3, 0.4), 5.0, 0.5),
        ({"rho": 0.5}, (0.3, 0.4), 5.0, 0.5),
        ({"rho": 0}, (0.5, 0.0), 3.0, 0.5),
        ({"rho": 0.0}, (0.5, 0.0), 3.0, 0.5),
        ({"rho": sm.rho.Constant(0.0)}, (0.5, 0.0), 3.0, 0.5),
        ({"rho": sm.rho.Cosine(0.5, steps=1)}, (0.3, 0.4), 5.0, 0.5),
        ({"rho": 1.0}, (0.3, 0.8), 5.0, (0.3**2 + 0.8**2) ** 0.5),
        ({"rho": 1}, (0.3, 0.8), 5.0, (0.3**2 + 0.8**2) ** 0.5),
        ({"rho": sm.rho.Unnormalized(0.1)}, (0.3, 0.4), 5.0, 0.5),
        ({"rho": sm.rho.Capped(1.0, c=0.1)}, (0.3, 0.4), 5.0, 0.5),
    ],
    ids=str,
)
def test_radius_per_group(*, path, second, e, norm, radius):
    opt, a, b, backward = pair(**second)
    backward()
    with opt.perturbed():
        assert (a.item(), b.item()) == pytest.approx(e, abs=1e-12)
        backward()
    assert opt.last.dual_norm == norm
    assert opt.last.radius == pytest.approx(radius, abs=1e-12)
    assert opt.last.gain == pytest.approx(1.0, abs=1e-12)
    opt.step()
    assert (a.item(), b.item()) == pytest.approx((-0.3, -0.4), abs=1e-12)


def test_a_radius_changed_in_the_group_counts_at_once(path):
    opt, a, b, backward = pair()
    opt.param_groups[0]["rho"] = 0.0
    backward()
    with opt.perturbed():
        assert (a.item(), b.item()) == pytest.approx((0.0, 0.5), abs=1e-12)


def test_a_group_at_rest_still_gets_the_second_gradient(path):
    a, b = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([{"params": [a]}, {"params": [b], "rho": 0.0}], lr=0.1), rho=0.5)

    def backward():
        (a * a * b).sum().backward()

    backward()
    with opt.perturbed():
        assert b.item() == 1.0
        backward()
    opt.step()
    assert (a.item(), b.item()) == pytest.approx((1 - 0.1 * 2 * 1.5, 1 - 0.1 * 1.5**2), abs=1e-12)


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.1, 0.05)])
def test_each_group_has_its_own_learning_rate_for_the_schedule(path, rates):
    a, b = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [p], "lr": lr} for p, lr in zip((a, b), rates, strict=True)]
    opt = sm.SAM(torch.optim.SGD(groups, lr=1.0), rho=sm.rho.ProportionalToLR(0.5, lr=0.1))
    (3 * a + 4 * b).sum().backward()
    with opt.perturbed():
        assert (a.item(), b.item()) == pytest.approx((0.3 * rates[0] / 0.1, 0.4 * rates[1] / 0.1), abs=1e-12)


def test_a_tensor_learning_rate_drives_the_schedule(quadratic, path, door):
    f = quadratic()
    lr = torch.tensor(0.05, dtype=torch.float64)
    opt = sm.SAM(torch.optim.SGD([f.w], lr=lr), rho=sm.rho.ProportionalToLR(0.5, lr=0.1))
    door(opt, f)
    assert f.visited[1].tolist() == pytest.approx([3.15, 1.2], abs=1e-12)
    lr.zero_()
    assert opt.needs_second_pass is False


class Reading(sm.rho.Constant):
    """Keeps what it is told."""

    told: ClassVar[list] = []

    def __call__(self, info):
        self.told.append((info.step, info.lr, float(info.dual_norm), info.group.get("name")))
        return super().__call__(info)


def test_what_a_schedule_is_told(door):
    a, b = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [a], "name": "a", "rho": Reading(0.5)}, {"params": [b], "name": "b", "lr": 0.25}]
    opt = sm.SAM(torch.optim.SGD(groups, lr=0.125), rho=0.5)
    for step in range(2):
        Reading.told.clear()
        door(opt, lambda: (3 * a + 4 * b).sum().backward())
        assert (step, 0.125, 5.0, "a") in Reading.told
        assert {(told[0], told[1]) for told in Reading.told} == {(step, 0.125)}


@pytest.mark.parametrize("value", [-0.1, -1, float("nan"), float("inf"), np.float32(-1)])
@pytest.mark.parametrize("second_group", [False, True])
def test_a_schedule_may_not_give_a_bad_radius(path, bits, value, second_group):
    class Bad(sm.rho.Constant):
        def __call__(self, info):
            return value

    opt, a, b, backward = pair(**({"rho": Bad(1.0)} if second_group else {}))
    if not second_group:
        opt.param_groups[0]["rho"] = Bad(1.0)
    was = bits([a, b])
    backward()
    with pytest.raises(ValueError, match=r"Bad\(rho=1.0\) gave the radius .* must be finite and >= 0"), opt.perturbed():
        backward()
    assert bits([a, b]) == was
    assert a.grad.item() == 3.0


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_on_the_host_a_bad_tensor_radius_is_refused_too(value):
    """A schedule may hand through a learning rate that is a tensor."""

    class Bad(sm.rho.Constant):
        def __call__(self, info):
            return torch.tensor(value)

    opt, *_, backward = pair(rho=Bad(1.0))
    backward()
    with pytest.raises(ValueError, match="must be finite and >= 0"):
        opt.perturb()


@pytest.mark.parametrize("given", [{}, {"rho": 0.25}], ids=str)
def test_an_added_group_shows_its_radius_and_place_at_once(given, door):
    opt, *_, backward = pair()
    door(opt, backward)
    opt.add_param_group({"params": [nn.Parameter(torch.ones(1))], **given})
    saved = opt.state_dict()["param_groups"][-1]
    assert (saved["rho"], saved["sharpmin_step"]) == (given.get("rho", 0.5), 1)
