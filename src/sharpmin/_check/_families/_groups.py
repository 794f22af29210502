"""Parameter groups: added later, replaced, and with radii of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import NotOffered, family, require
from .._trial import CLOSE, Trial, backward, near, second_pass, show


def _scalars(*values: float) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in values]


@family(
    "add-param-group",
    "A group that is added later is perturbed and stepped",
    right="the new weight goes 1, 1.4 (second pass), 0.44",
    fix="pass add_param_group on to the base, and keep one list of groups",
    faults=(16,),
)
def add_param_group(t: Trial) -> str:
    """The golden step, with the second weight added after construction."""
    a, b = _scalars(3.0, 1.0)
    visited: list[Tensor] = []

    def run(_: int) -> Tensor:
        visited.append(torch.stack([a.detach(), b.detach()]))
        loss = (a**2 + 4 * b**2) / 2
        return backward(loss)

    opt = t.make([a])
    t.need(opt, "add_param_group")
    opt.add_param_group({"params": [b]})
    t.step(opt, run)
    path = [torch.tensor(1.0), second_pass(visited)[1], b]
    require(near(torch.stack([x.detach().double() for x in path[1:]]), (1.4, 0.44), CLOSE), f"the new weight goes {show(path)}")
    return f"the new weight goes {show(path)}"


@family(
    "replaced-group",
    "An entry of param_groups that is replaced reaches the base",
    right="a step of 0.01",
    fix="share the base's param_groups, the very list, and cache nothing from it",
    faults=(16, 17),
)
def replaced_group(t: Trial) -> str:
    """What frameworks do that swap parameters: a new dict with lr 0.01 for the one with 0.1."""
    (w,) = _scalars(1.0)
    opt = t.make([w])

    def run(_: int) -> Tensor:
        loss = 1.0 * w
        return backward(loss)

    opt.param_groups[0] = {**opt.param_groups[0], "lr": 0.01}
    t.step(opt, run)
    moved = 1.0 - float(w)
    require(abs(moved - 0.01) < 1e-12, f"a step of {moved:.6g}")
    return f"a step of {moved:.6g}"


@family(
    "group-rho",
    "A group with rho = 0 is not perturbed, and not part of the norm",
    right="second pass at (3.5, 1)",
    fix="read rho from every group, and take the norm over the groups whose rho is positive",
    faults=(28,),
)
def group_rho(t: Trial) -> str:
    """w1 climbs alone: its own gradient 3 is the norm, so e = (0.5, 0)."""
    a, b = _scalars(3.0, 1.0)
    opt = t.make([{"params": [a]}, {"params": [b], "rho": 0.0}])
    if "rho" not in opt.param_groups[0]:
        raise NotOffered("has no rho in its groups")
    visited: list[Tensor] = []

    def run(_: int) -> Tensor:
        visited.append(torch.stack([a.detach(), b.detach()]))
        loss = (a**2 + 4 * b**2) / 2
        return backward(loss)

    t.step(opt, run)
    at = second_pass(visited)
    require(near(at, (3.5, 1.0), CLOSE), f"second pass at {show(at)}")
    return f"second pass at {show(at)}"
