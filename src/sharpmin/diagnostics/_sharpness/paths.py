"""The two parts of D = G - g: the change of the model's Jacobian, and the change of the loss gradient at the logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import finite
from sharpmin.core.text import block, brief
from sharpmin.optim import L2, Geometry
from sharpmin.optim._functional import output_gradient
from sharpmin.optim._numeric.kinds import at_least_float32, dense
from sharpmin.optim._numeric.sums import all_finite, inner

from .ball import Ball
from .batches import Batch
from .objective import LossFn, Objective, looking

_OWNER = "path_shares"


@dataclass(frozen=True)
class PathShares:
    """The result of `path_shares`.

    Attributes:
        functional, logit: the shares of the two paths in D; they add up to 1, and either may be negative or above 1 where the
            paths oppose each other. Both are 0 where D is 0.
        functional_norm, logit_norm, norm: the lengths of the two paths and of D.
        cosine: between the two paths; 0 where one of them is 0.
        rho: the radius.
    """

    functional: float
    logit: float
    functional_norm: float
    logit_norm: float
    norm: float
    cosine: float
    rho: float

    def __str__(self) -> str:
        """The shares and norms of the two paths.

        >>> print(PathShares(0.0617, 0.9383, 0.00166, 0.02129, 0.02266, 0.8183, 0.05))
        paths of D = G - g at rho = 0.05
          functional  6.2%     of D; norm 0.00166
          logit       93.8%    of D; norm 0.02129
          norm        0.02266  of D
          cosine      0.8183   between the paths
        """
        rows = [
            ("functional", f"{self.functional:.1%}", f"of D; norm {brief(self.functional_norm)}"),
            ("logit", f"{self.logit:.1%}", f"of D; norm {brief(self.logit_norm)}"),
            ("norm", self.norm, "of D"),
            ("cosine", self.cosine, "between the paths"),
        ]
        return block(f"paths of D = G - g at rho = {brief(self.rho)}", rows)


def path_shares(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    rho: float,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
) -> PathShares:
    """Shares of the functional and of the logit path in D = G - g.

    ```
    z = the logits, of shape (n, ...);  J = dz/dw;  v = dL/dz;  e = rho times the unit vector of steepest ascent
    g = J(w)^T v(w)            G = J(w + e)^T v(w + e)
    functional path:  F = [J(w + e) - J(w)]^T v(w)             share  <F, D> / ||D||^2
    logit path:       Z = J(w + e)^T [v(w + e) - v(w)]         share  <Z, D> / ||D||^2
    ```

    F + Z = D, so the shares add up to 1. With a linear model F = 0, and all of D is the logit path. For small rho, D is the
    Hessian times e: Z its Gauss-Newton part, and F the part with the second derivatives of the logits.
    `sharpmin.FunctionalLoss` descends along g + F. Source: Singh, Mobahi, Agarwala & Dauphin, Avoiding spurious sharpness
    minimization broadens applicability of SAM, 2025, arXiv:2502.02407 (the paths; these shares are defined here).

    Read-only and in evaluation mode, as `worst_loss`. Costs two forward and three backward passes over `data`, and keeps v(w)
    of all of it: as much memory as the logits.

    Args:
        model: returns the logits, or something with `.logits`, as models of Transformers do.
        loss_fn: `loss_fn(logits, targets)` is the mean loss of a batch, of shape (); it may depend on weights through the
            logits only.
        data: as in `worst_loss`.
        geometry: as in `worst_loss`.
        rho: the radius, > 0.

    Returns:
        A `PathShares`.

    Raises:
        TypeError: as in `worst_loss`; also for a gradient that is 0 or not finite, or no logits.
        ValueError: as in `worst_loss`; also for a gradient that is 0 or not finite, or no logits.

    >>> model = nn.Linear(2, 3)
    >>> batch = torch.randn(4, 2), torch.tensor([0, 1, 2, 1])
    >>> shares = path_shares(model, nn.functional.cross_entropy, [batch], rho=0.1)
    >>> round(shares.functional, 4) + 0.0, round(shares.logit, 4)
    (0.0, 1.0)
    """
    finite(rho, "rho", _OWNER, low=0, strict=True)
    with looking(model, loss_fn, data, _OWNER) as (objective, batches):
        kept: list[Tensor] = []
        held = objective.held
        g = _slopes(objective, batches, batches.samples, kept)[0]
        if not all_finite(g):
            raise ValueError(f"{_OWNER}: the loss at the weights is nan or inf, or its gradient is not finite")
        direction = Ball(geometry, held.anchor, rho).steepest(g)
        if direction is None:
            raise ValueError(f"{_OWNER}: the gradient at the weights is 0, so there is no direction of ascent")
        held.move(direction, rho)
        perturbed, mixed = _slopes(objective, batches, batches.samples, kept, again=True)
        held.home()
        functional = [f - c for f, c in zip(mixed, g, strict=True)]
        logit = [p - f for p, f in zip(perturbed, mixed, strict=True)]
        return _shares(functional, logit, [p - c for p, c in zip(perturbed, g, strict=True)], rho)


def _slopes(
    objective: Objective, batches: Iterable[Batch], samples: int, kept: list[Tensor], *, again: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """J^T v at the present weights, in float32 at least; with `again` also J^T of the kept v, else v is kept."""
    weights = objective.held.weights
    sums = [[torch.zeros_like(at_least_float32(p.detach())) for p in weights] for _ in range(1 + again)]
    for number, (batch, outputs) in enumerate(objective.outputs(batches)):
        z = objective.checked(_logits(outputs))
        _, v = output_gradient(objective.loss_fn, z, (batch.targets,), {}, _OWNER)
        if not again:
            kept.append(v)
        for total, slope in zip(sums, [v, kept[number]] if again else [v], strict=True):
            parts = torch.autograd.grad(z, weights, slope.to(z.dtype), retain_graph=True, materialize_grads=True)
            for s, part in zip(total, parts, strict=True):
                s.add_(dense(part), alpha=batch.size / samples)
    return sums[0], sums[-1]


def _logits(outputs: Any) -> Tensor:
    """The tensor of logits in what a model returned."""
    z = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError(
            f"{_OWNER}: the model returned a {type(outputs).__name__}; it must return the logits, a floating-point tensor, "
            "or something with .logits"
        )
    return z


def _shares(functional: Sequence[Tensor], logit: Sequence[Tensor], whole: Sequence[Tensor], rho: float) -> PathShares:
    square, ff, zz = (float(inner(x, x)) for x in (whole, functional, logit))
    part, cross = float(inner(functional, whole)), float(inner(functional, logit))
    share = part / square if square else 0.0
    cosine = cross / (ff * zz) ** 0.5 if ff and zz else 0.0
    return PathShares(share, 1.0 - share if square else 0.0, ff**0.5, zz**0.5, square**0.5, cosine, rho)
