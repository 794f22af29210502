"""The loss along a line or in a plane through the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import finite, positive_integer
from sharpmin.core.text import block, brief
from sharpmin.optim import L2, Geometry
from sharpmin.optim._numeric.sums import inner

from .ball import Ball
from .objective import LossFn, like_gradient, looking
from .spectrum import hessian_spectrum

ASCENT, TOP = "ascent", "top eigenvector"
Direction = str | Sequence[Tensor]
"""A name, or a tensor for every parameter that requires a gradient."""


@dataclass(frozen=True)
class LossSlice:
    """The result of `loss_slice`.

    Attributes:
        along: the names of the directions, one or two.
        at: the positions, the same along each; 0 is w.
        losses: shape (points,), or (points, points) with the first direction first.
        cosine: of the two directions; None of one.
    """

    along: tuple[str, ...]
    at: tuple[float, ...]
    losses: tuple[Any, ...]
    cosine: float | None = None

    def __repr__(self) -> str:
        ends = brief((self.at[0], self.at[-1]))
        return f"<LossSlice along {' and along '.join(self.along)}: {len(self.at)} points each, from {ends}>"

    def __str__(self) -> str:
        """The loss at each position along one direction; for two, along each of them with the other at 0.

        >>> print(LossSlice(("ascent",), (-0.1, 0.0, 0.1), (0.45, 0.5, 0.6)))
        loss along ascent
          -0.1  0.45
          0     0.5   w
          0.1   0.6
        """
        at_w = min(range(len(self.at)), key=lambda i: abs(self.at[i]))
        rows: list[tuple[object, ...]] = [("cosine", self.cosine, "of the two directions")]
        for i, at in enumerate(self.at):
            losses = [self.losses[i]] if len(self.along) == 1 else [self.losses[i][at_w], self.losses[at_w][i]]
            rows.append((brief(at), "  ".join(f"{loss:<9.4g}" for loss in losses).rstrip(), "w" if i == at_w else ""))
        return block(f"loss along {' and along '.join(self.along)}", rows)


def loss_slice(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    along: Direction | tuple[Direction, Direction] = ASCENT,
    reach: float = 0.1,
    points: int = 21,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
) -> LossSlice:
    """The loss L(w + a u), or L(w + a u + b v), for a and b from -reach to reach.

    L is the mean over all samples of `data`. "ascent" is the geometry's unit vector of steepest ascent at w, so a is rho there;
    "top eigenvector" is that of the largest eigenvalue of the Hessian, of length 1, turned so that the loss rises along it at
    first. Two directions are taken as they are, not made orthogonal; `cosine` is their angle's. Source of such
    pictures: Li et al., Visualizing the Loss Landscape of Neural Nets, 2018, arXiv:1712.09913; along SAM's own directions:
    Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021, arXiv:2010.01412.

    Read-only and in evaluation mode, as `worst_loss`. Costs `points` forward passes over `data`, or their square, and what the
    directions need.

    Args:
        model: as in `worst_loss`.
        loss_fn: as in `worst_loss`.
        data: as in `worst_loss`.
        geometry: as in `worst_loss`.
        along: "ascent", "top eigenvector" (needs scipy), a tensor for each parameter that requires a gradient, or a tuple of
            two of these.
        reach: the largest |a|, > 0.
        points: along each direction, odd, so that w is one, and >= 3.

    Returns:
        A `LossSlice`; `sharpmin.report.slice_figure` draws it.

    Raises:
        TypeError: as in `worst_loss`; also for a direction that is unknown, of other shapes, or all 0.
        ValueError: as in `worst_loss`; also for a direction that is unknown, of other shapes, or all 0.

    >>> model = nn.Linear(1, 1, bias=False).double()
    >>> _ = nn.init.constant_(model.weight, 0.5)  # L(w) = w^2
    >>> data = [(torch.ones(4, 1).double(), torch.zeros(4, 1).double())]
    >>> found = loss_slice(model, nn.MSELoss(), data, reach=0.5, points=3)
    >>> found.at, found.losses
    ((-0.5, 0.0, 0.5), (0.0, 0.25, 1.0))
    """
    owner = "loss_slice"
    finite(reach, "reach", owner, low=0, strict=True)
    if positive_integer(points, "points", owner) < 3 or points % 2 == 0:
        raise ValueError(f"{owner}: points={points}; points must be odd, so that one of them is w, and at least 3")
    asked = _directions(along)
    top = _top(model, loss_fn, data) if TOP in [each for each in asked if isinstance(each, str)] else None
    with looking(model, loss_fn, data, owner) as (objective, batches):
        held = objective.held
        _, slope = objective.start(batches)
        ball = Ball(geometry, held.anchor, 1.0)
        vectors = [_vector(each, slope, ball, top) for each in asked]
        half = points // 2
        at = tuple(reach * i / half for i in range(-half, half + 1))
        losses = []
        for place in itertools.product(at, repeat=len(vectors)):
            held.move([_sum(place, parts) for parts in zip(*vectors, strict=True)])
            losses.append(objective.value(batches))
        held.home()
    names = tuple(each if isinstance(each, str) else "a direction of yours" for each in asked)
    if len(vectors) == 1:
        return LossSlice(names, at, tuple(losses))
    u, v = vectors
    cosine = float(inner(u, v)) / (float(inner(u, u)) * float(inner(v, v))) ** 0.5
    return LossSlice(names, at, tuple(tuple(losses[i * points : (i + 1) * points]) for i in range(points)), cosine)


def _sum(place: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    """The displacement of one parameter: a u + b v."""
    return torch.stack([a * part for a, part in zip(place, parts, strict=True)]).sum(0)


def _directions(along: Any) -> tuple[Direction, ...]:
    both = isinstance(along, tuple) and len(along) == 2 and not any(isinstance(each, Tensor) for each in along)
    asked = along if both else (along,)
    for each in asked:
        if isinstance(each, str) and each not in (ASCENT, TOP):
            raise ValueError(f'loss_slice: along={each!r}; a name must be "{ASCENT}" or "{TOP}"')
        if not isinstance(each, str | Sequence) or not all(isinstance(t, str | Tensor) for t in each):
            raise TypeError(
                f"loss_slice: along={type(each).__name__}; give a name, a list of tensors, or a tuple of two of these"
            )
    return tuple(asked)


def _top(model: nn.Module, loss_fn: LossFn, data: Iterable[Any]) -> Sequence[Tensor]:
    return hessian_spectrum(model, loss_fn, data, which="largest", vectors=True).largest_vectors[0]


def _vector(asked: Direction, slope: Sequence[Tensor], ball: Ball, top: Sequence[Tensor] | None) -> list[Tensor]:
    if asked == ASCENT:
        v = ball.steepest(slope)
        if v is None:
            raise ValueError("loss_slice: the gradient at the weights is 0, so there is no direction of ascent")
        return v
    if isinstance(asked, str):
        found = [t.to(g) for t, g in zip(top or (), slope, strict=True)]
        return [-t for t in found] if float(inner(found, slope)) < 0 else found
    vector = like_gradient(asked, slope, "loss_slice")
    if not float(inner(vector, vector)) > 0:
        raise ValueError("loss_slice: a direction is 0 everywhere, or not finite; the loss does not change along it")
    return vector
