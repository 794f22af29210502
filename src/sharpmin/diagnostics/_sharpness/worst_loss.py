"""How much the loss over all samples rises within rho of the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from sharpmin.optim import L2, Geometry

from .ascent import BallAscent, Sharpness
from .objective import LossFn, looking


def worst_loss(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    rho: float,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
    steps: int = 20,
    restarts: int = 3,
    seed: int = 0,
) -> Sharpness:
    """The largest loss within rho of the weights, max {L(w + e) : ||e|| <= rho}, from below.

    L is the mean over all samples of `data`. Projected ascent: e <- P(e + a v), with v the geometry's unit vector of steepest
    ascent at w + e and P the projection to the ball; a starts at rho, doubles after a gain and halves otherwise, so no step
    loses. The first ascent starts from SAM's point rho v(w), so the result is at least the one-step sharpness; the others
    start at random. `Elementwise(eta)` gives adaptive sharpness, its scale fixed by w. Sources: Foret et al.,
    Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021, arXiv:2010.01412, eq. 1 (the maximum, and
    its first step); Keskar et al., On Large-Batch Training for Deep Learning, 2017, arXiv:1609.04836 (a box); Kwon et al.,
    ASAM, 2021, arXiv:2102.11600 (adaptive).

    Read-only: weights, gradients, buffers, modes and generators are afterwards what they were, bit for bit. The model is in
    evaluation mode meanwhile, so BatchNorm uses its running statistics and dropout is off. Costs at most
    1 + restarts (steps + 1) passes with gradient over `data`, and about seven times the weights in memory.

    Args:
        model: its parameters with `requires_grad` are perturbed, of any shapes; the others are left out.
        loss_fn: `loss_fn(model(inputs), targets)` is the mean loss of a batch, of shape ().
        data: batches (inputs, targets) that can be gone over again in the same order: a list, or a DataLoader that does not
            shuffle. A batch counts with its size, the first dimension of the targets. Tensors go to the model's device.
        rho: the radius, >= 0.
        geometry: the norm.
        steps: steps of each ascent, >= 1.
        restarts: ascents, >= 1.
        seed: of the random starts.

    Returns:
        A `Sharpness`.

    Raises:
        TypeError: if an argument has the wrong kind; for an iterator, complex or sharded weights, a loss that is no mean.
        ValueError: for numbers out of range, a loader that shuffles, no samples, a loss at w that is not finite.

    >>> import torch
    >>> model = nn.Linear(1, 1, bias=False).double()
    >>> _ = nn.init.constant_(model.weight, 0.5)  # L(w) = w^2
    >>> found = worst_loss(model, nn.MSELoss(), [(torch.ones(4, 1).double(), torch.zeros(4, 1).double())], rho=0.1)
    >>> round(found.base_loss, 6), round(found.worst_loss, 6), round(found.sharpness, 6), round(found.radius, 6)
    (0.25, 0.36, 0.11, 0.1)
    """
    ascent = BallAscent.checked("worst_loss", rho, geometry, steps, restarts, seed)
    with looking(model, loss_fn, data, "worst_loss") as (objective, batches):
        return ascent(objective, batches)
