"""AE-SAM: a SAM step if the gradient is large against its running mean, else a step of the base."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import JIANG_2023
from sharpmin.core.rho import Gate, Rho

from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(JIANG_2023, when="two passes cost too much, and the gradient itself should say when; evidence of one laboratory")
def ae_sam(
    base: Optimizer,
    rho: Rho = 0.05,
    *,
    total: int,
    delta: float = 0.9,
    first: float = 1.0,
    last: float = -1.0,
    **options: Unpack[Options],
) -> SAM:
    """SAM where ||g||^2 >= mu_t + c_t sigma_t, else the base's step (Jiang et al., ICLR 2023, arXiv:2304.14647).

    mu_t and sigma_t^2 are running averages of ||g||^2; `sharpmin.rho.Gate` has the equations. A closure runs once
    otherwise. With a block, save the second pass by asking inside, after the first gradient:

    ```
    with opt.clean():
        loss_fn(model(x), y).backward()
    with opt.perturbed():
        if opt.needs_second_pass:
            loss_fn(model(x), y).backward()
    opt.step()
    ```

    Args:
        base: the optimizer instance that steps.
        rho: the radius on steps with a second pass, or a schedule of it.
        total: the steps of the run.
        delta: the share that the averages keep, in [0, 1).
        first: c at the first step, the paper's lambda_2.
        last: c at the last step, the paper's lambda_1.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> ae_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), total=1000).param_groups[0]["rho"]
    Gate(rho=0.05, total=1000, delta=0.9, first=1.0, last=-1.0)
    """
    return SAM(base, Gate(rho, total, delta, first, last), **options)
