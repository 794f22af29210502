"""Steps that can be done by hand: f = (w1^2 + 4 w2^2) / 2 from (3, 1), SGD with lr 0.1, rho 0.5."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import family, require
from .._trial import CLOSE, Quadratic, Trial, backward, near, second_pass, show

END = (2.67, 0.44)


@family(
    "golden-step",
    "One step with the numbers of a hand calculation",
    right="w' = (2.67, 0.44)",
    fix="perturb by rho g / ||g||, take the gradient there, come back, and let the base step with it",
    faults=(19,),
)
def golden_step(t: Trial) -> str:
    """g = (3, 4), e = (0.3, 0.4), G = (3.3, 5.6)."""
    f = Quadratic.new()
    t.step(t.make([f.w]), f)
    at = second_pass(f.visited)
    require(near(at, (3.3, 1.4), CLOSE), f"second pass at {show(at)}", "second pass at (3.3, 1.4)")
    require(near(f.w, END, CLOSE), f"w' = {show(f.w)}")
    return f"w' = {show(f.w)}"


@family(
    "float64",
    "float64 weights climb and step in float64",
    right="w' = (2.67, 0.44) within 1e-9",
    fix="keep the norm and rho / norm in the dtype of the weights",
    faults=(19,),
)
def float64(t: Trial) -> str:
    """The golden step to nine digits: a norm in float32 gives seven."""
    f = Quadratic.new()
    t.step(t.make([f.w]), f)
    error = float((f.w.detach() - torch.tensor(END, dtype=torch.float64)).abs().max())
    require(error <= 1e-9, f"w' is off by {error:.1g}", "w' off by at most 1e-9")
    return f"w' = {show(f.w)}"


@family(
    "clipping",
    "Clipping in both passes acts on the descent alone",
    right="w' = (2.94923, 0.913846)",
    fix="normalize the ascent, so that its length does not depend on the length of the gradient",
    faults=(19,),
)
def clipping(t: Trial) -> str:
    """The second gradient (3.3, 5.6) has norm 6.5, and is clipped to 1; the first one, clipped to 0.1, keeps its direction."""
    f = Quadratic.new()
    f.spoil = lambda k: (nn.utils.clip_grad_norm_([f.w], 0.1 if k == 1 else 1.0), None)[1]
    t.step(t.make([f.w]), f)
    require(near(f.w, (2.94923077, 0.91384616), CLOSE), f"w' = {show(f.w)}")
    return f"w' = {show(f.w)}"


@family(
    "step-at-w",
    "The base steps at w, not at w + e (seen by weight decay)",
    right="w' = (2.64, 0.43)",
    fix="restore the weights before the base optimizer steps",
    faults=(19,),
)
def step_at_w(t: Trial) -> str:
    """Weight decay 0.1 adds 0.1 * 0.1 * (3, 1) if it is applied where it should be."""
    f = Quadratic.new()
    t.step(t.make([f.w], options={"weight_decay": 0.1}), f)
    require(near(f.w, (2.64, 0.43), CLOSE), f"w' = {show(f.w)}")
    return f"w' = {show(f.w)}"


@family(
    "maximize",
    "A base with maximize=True: the ascent is still on the loss",
    right="w' = (2.67, 0.44)",
    fix="turn the sign of the ascent where the group has maximize=True",
    faults=(19,),
)
def maximize(t: Trial) -> str:
    """Maximizing -f is minimizing f."""
    f = Quadratic.new()
    f.sign = -1.0
    t.step(t.make([f.w], options={"maximize": True}), f)
    require(near(f.w, END, CLOSE), f"w' = {show(f.w)}")
    return f"w' = {show(f.w)}"


@family(
    "one-norm",
    "All groups and tensors share one norm",
    right="second pass at (3.3, 1.4)",
    fix="sum the squares over all groups before the root is taken",
    faults=(19, 28),
)
def one_norm(t: Trial) -> str:
    """The golden step, one weight in each of two groups."""
    a, b = (nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in (3.0, 1.0))
    visited = []

    def run(_: int) -> Tensor:
        visited.append(torch.stack([a.detach(), b.detach()]))
        loss = (a**2 + 4 * b**2) / 2
        return backward(loss)

    t.step(t.make([{"params": [a]}, {"params": [b]}]), run)
    at = second_pass(visited)
    require(near(at, (3.3, 1.4), CLOSE), f"second pass at {show(at)}")
    require(near(torch.stack([a, b]), END, CLOSE), f"w' = {show([a, b])}", "w' = (2.67, 0.44)")
    return f"second pass at {show(at)}"


@family(
    "accumulation",
    "Two micro-batches in one step: both count in both passes",
    right="x' = 0.38",
    fix="take the ascent direction from the accumulated gradient, and evaluate every micro-batch again at w + e",
    faults=(26,),
)
def accumulation(t: Trial) -> str:
    """f1 = 1.5 (x - 1)^2 and f2 = 0.5 (x + 3)^2, mean, x = 0.5, rho 0.1: the gradient at 0.6 is 1.2."""
    x = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def run(_: int) -> Tensor:
        losses = [0.5 * (x + 3) ** 2 / 2, 1.5 * (x - 1) ** 2 / 2]  # alone, the last one would climb the other way
        for loss in losses:
            backward(loss)
        return (losses[0] + losses[1]).detach()

    t.step(t.make([x], 0.1), run)
    require(near(x, (0.38,), CLOSE), f"x' = {show(x)}")
    return f"x' = {show(x)}"


@family(
    "converges-to-the-cycle",
    "200 steps on x^2/2 end in the two-cycle of SAM",
    right="|x| = 0.00526316, sign flips",
    fix="normalize by the gradient of the present step, and restore exactly",
    faults=(18, 19),
)
def two_cycle(t: Trial) -> str:
    """lr rho / (2 - lr) with lr = rho = 0.1, after 200 steps to within 1e-10; climbing on part of the steps ends elsewhere."""
    x = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def run(_: int) -> Tensor:
        loss = x**2 / 2
        return backward(loss)

    opt, before = t.make([x], 0.1), x.detach().clone()
    for _ in range(200):
        before = x.detach().clone()
        t.step(opt, run)
    require(near(x.abs(), (0.1 * 0.1 / 1.9,), CLOSE), f"|x| = {show(x.abs())}")
    require(bool(x * before < 0), f"x goes from {show(before)} to {show(x)}")
    return f"|x| = {show(x.abs())}"
