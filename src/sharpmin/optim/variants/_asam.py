"""ASAM: a ball scaled by the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import KWON_2021
from sharpmin.core.rho import Rho

from .._geometry import Elementwise
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(KWON_2021, when="layers differ much in scale; well tested, but its best rho depends on whether biases adapt, too")
def asam(
    base: Optimizer,
    rho: Rho = 0.5,
    *,
    eta: float = 0.01,
    adapt: Callable[[Tensor], bool] | None = None,
    **options: Unpack[Options],
) -> SAM:
    """e = rho T^2 g / ||T g||_2 with T = |w| + eta (Kwon et al., ICML 2021, arXiv:2102.11600, eq. 9).

    Args:
        base: the optimizer instance that steps.
        rho: the radius in units of the weights, about ten times that of SAM, or a schedule.
        eta: keeps weights of 0 movable.
        adapt: called with each parameter; T = 1 where it is False. `sharpmin.optim.matrices` leaves biases and norms
            out.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> asam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).geometry
    Elementwise(eta=0.01, adapt=None)
    """
    return SAM(base, rho, geometry=Elementwise(eta, adapt), **options)
