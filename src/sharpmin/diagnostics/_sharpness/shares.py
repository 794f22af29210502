"""The shares of every parameter in the perturbation e and in D = G - g."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sharpmin.core.rho import finite
from sharpmin.optim import L2, Geometry
from sharpmin.optim._numeric.sums import inner

from .ball import Ball
from .objective import LossFn, looking


@dataclass(frozen=True)
class LayerShares:
    """What `layer_shares` found, in the order of `model.named_parameters()`; each list of shares adds up to 1.

    Attributes:
        names: of the parameters that require a gradient.
        entries: how many numbers each has.
        e: ||e_i||^2 / ||e||^2, the share of a parameter in the perturbation.
        d: ||D_i||^2 / ||D||^2, its share in D = G - g; all 0 if D is 0.
    """

    names: tuple[str, ...]
    entries: tuple[int, ...]
    e: tuple[float, ...]
    d: tuple[float, ...]

    def __repr__(self) -> str:
        return f"<LayerShares of {len(self.names)} parameters>"

    def __str__(self) -> str:
        width = max(map(len, ("parameter", *self.names)))
        rows = [
            f"{name:{width}}  {n:9d}  {e:7.1%}  {d:7.1%}"
            for name, n, e, d in zip(self.names, self.entries, self.e, self.d, strict=True)
        ]
        return "\n".join([f"{'parameter':{width}}  {'entries':>9}  {'of e':>7}  {'of D':>7}", *rows])


def layer_shares(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    rho: float,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
) -> LayerShares:
    """Shares of every parameter in e = rho v, v the unit vector of steepest ascent, and in D = grad L(w + e) - grad L(w).

    In the L2 norm the share in e is that of the gradient, so a few layers with large gradients may take all of the radius;
    `Elementwise` and `Layerwise` spread it otherwise. D shows where the loss is curved along e. L is the mean over all samples
    of `data`. Source: Mueller et al., Normalization Layers Are All That Sharpness-Aware Minimization Needs, 2023,
    arXiv:2306.04226 (which layers take the perturbation).

    Read-only and in evaluation mode, as `worst_loss`. Costs two passes with gradient over `data`.

    Args:
        model: as in `worst_loss`.
        loss_fn: as in `worst_loss`.
        data: as in `worst_loss`.
        geometry: as in `worst_loss`.
        rho: the radius, > 0.

    Returns:
        A `LayerShares`; print it for a table, `sharpmin.report.layer_bars` draws it.

    Raises:
        TypeError: as in `worst_loss`; also for a gradient that is 0 or not finite.
        ValueError: as in `worst_loss`; also for a gradient that is 0 or not finite.

    >>> import torch
    >>> model = nn.Linear(1, 1).double()
    >>> with torch.no_grad():
    ...     model.weight.fill_(0.3), model.bias.fill_(0.1)
    (...)
    >>> batch = torch.full((2, 1), 2.0).double(), torch.zeros(2, 1).double()  # L = (2 weight + bias)^2
    >>> print(layer_shares(model, nn.MSELoss(), [batch], rho=0.1))
    parameter    entries     of e     of D
    weight             1    80.0%    80.0%
    bias               1    20.0%    20.0%
    """
    owner = "layer_shares"
    finite(rho, "rho", owner, low=0, strict=True)
    with looking(model, loss_fn, data, owner) as (objective, batches):
        held = objective.held
        _, slope = objective.start(batches)
        v = Ball(geometry, held.anchor, rho).steepest(slope)
        if v is None:
            raise ValueError(f"{owner}: the gradient at the weights is 0, so there is no direction of ascent")
        held.move(v, rho)
        _, perturbed = objective.gradient(batches)
        held.home()
        known = {id(p): name for name, p in model.named_parameters()}
        names = tuple(known[id(p)] for p in held.weights)
        difference = [big - g for big, g in zip(perturbed, slope, strict=True)]
        return LayerShares(names, tuple(p.numel() for p in held.weights), _shares(v), _shares(difference))


def _shares(vectors: Sequence[Tensor]) -> tuple[float, ...]:
    squares = [float(inner([v], [v])) for v in vectors]
    whole = sum(squares)
    return tuple(square / whole if whole else 0.0 for square in squares)
