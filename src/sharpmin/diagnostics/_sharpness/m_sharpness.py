"""How much the loss rises within rho of the weights, over groups of m samples that each choose their own direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from sharpmin.core.rho import positive_integer
from sharpmin.core.text import block
from sharpmin.optim import L2, Geometry

from .ascent import BallAscent
from .batches import groups
from .objective import LossFn, looking


@dataclass(frozen=True)
class MSharpness:
    """The result of `m_sharpness`.

    Attributes:
        base_loss: L(w), the mean over all samples.
        worst_loss: the mean over samples of their group's worst loss.
        m, groups: samples in a group, and how many groups.
        rho: the radius of the ball.
    """

    base_loss: float
    worst_loss: float
    m: int
    groups: int
    rho: float

    def __str__(self) -> str:
        """The losses and groups.

        >>> print(MSharpness(base_loss=0.5, worst_loss=0.75, m=10, groups=40, rho=0.05))
        m-sharpness
          sharpness   0.25  worst_loss - base_loss
          base_loss   0.5   at w
          worst_loss  0.75  mean of the groups' own worst losses
          rho         0.05
          groups      40    of m = 10 samples
        """
        rows = [
            ("sharpness", self.sharpness, "worst_loss - base_loss"),
            ("base_loss", self.base_loss, "at w"),
            ("worst_loss", self.worst_loss, "mean of the groups' own worst losses"),
            ("rho", self.rho),
            ("groups", self.groups, f"of m = {self.m} samples"),
        ]
        return block("m-sharpness", rows)

    @property
    def sharpness(self) -> float:
        """worst_loss - base_loss, never negative."""
        return self.worst_loss - self.base_loss


def m_sharpness(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    m: int,
    rho: float,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
    steps: int = 1,
    restarts: int = 1,
    seed: int = 0,
) -> MSharpness:
    """The mean over groups S of m samples of max {L_S(w + e) : ||e|| <= rho} - L_S(w), each group with an e of its own.

    Groups are consecutive m samples of `data`, which may cross batches; a shorter last one counts with its size. Tensors of a
    batch with one row for each sample are cut; others, such as a mask shared by all, are not.
    The default, one step, is what SAM itself climbs with micro-batches of m, or 0 where that goes down; more steps and
    restarts bring each maximum closer, as in `worst_loss`, which is the case m = n. Foret et al., Sharpness-Aware Minimization
    for Efficiently Improving Generalization, 2021, arXiv:2010.01412, section 4.1; Andriushchenko & Flammarion, Towards
    Understanding Sharpness-Aware Minimization, 2022, arXiv:2206.06232.

    Read-only and in evaluation mode, as `worst_loss`.

    Args:
        model: as in `worst_loss`.
        loss_fn: as in `worst_loss`.
        data: as in `worst_loss`.
        m: samples in a group, from 1 to their number n.
        rho: as in `worst_loss`.
        geometry: as in `worst_loss`.
        steps: as in `worst_loss`.
        restarts: as in `worst_loss`.
        seed: as in `worst_loss`; every group uses the same seed.

    Returns:
        An `MSharpness`.

    Raises:
        TypeError: as in `worst_loss`; also if m is out of range.
        ValueError: as in `worst_loss`; also if m is out of range.

    >>> import torch
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)  # losses (w - 1)^2 and (w + 1)^2: no slope together, much of it apart
    >>> data = [(torch.ones(2, 1), torch.tensor([[1.0], [-1.0]]))]
    >>> [round(m_sharpness(model, nn.MSELoss(), data, m=m, rho=0.1).sharpness, 4) for m in (1, 2)]
    [0.21, 0.01]
    """
    ascent = BallAscent.checked("m_sharpness", rho, geometry, steps, restarts, seed)
    positive_integer(m, "m", "m_sharpness")
    with looking(model, loss_fn, data, "m_sharpness") as (objective, batches):
        if m > batches.samples:
            raise ValueError(f"m_sharpness: m={m}; data has {batches.samples} samples, and m must be from 1 to their number")
        base, worst, count = 0.0, 0.0, 0
        for group, size in [(batches, m)] if m == batches.samples else groups(batches, m):
            found, share = ascent(objective, group), size / batches.samples
            base, worst, count = base + share * found.base_loss, worst + share * found.worst_loss, count + 1
        return MSharpness(base, worst, m, count, ascent.rho)
