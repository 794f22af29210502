"""The trace of the Hessian by random signs, with an error bar."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sharpmin.core.rho import positive_integer
from sharpmin.core.text import block

from .curvature import Hessian, quadratic_form
from .objective import LossFn, check_seed, looking


@dataclass(frozen=True)
class Trace:
    """The result of `hessian_trace`.

    Attributes:
        value: the estimate, without bias.
        standard_error: its standard error over the probes; 0 for a diagonal Hessian.
        probes: the number of random vectors.
        method: of the Hessian-vector products, "autograd" or "finite differences".
    """

    value: float
    standard_error: float
    probes: int
    method: str

    def __str__(self) -> str:
        """The estimate and how it was made.

        >>> print(Trace(value=2.47028, standard_error=0.23046, probes=32, method="autograd"))
        trace of the Hessian
          value           2.47
          standard_error  0.2305
          probes          32
          method          autograd
        """
        return block("trace of the Hessian", vars(self).items())


def hessian_trace(model: nn.Module, loss_fn: LossFn, data: Iterable[Any], *, probes: int = 32, seed: int = 0) -> Trace:
    """The trace of H, the Hessian of the mean loss over all samples: the mean of z' H z over z with entries of +1 and -1.

    E z' H z = tr H for independent random signs, with variance 2 sum_{i != j} H_ij^2, so a diagonal H needs one probe.
    Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix for Laplacian Smoothing Splines, 1990 (no arXiv).

    Read-only and in evaluation mode, as `worst_loss`. Costs `probes` Hessian-vector products over `data`; needs torch alone.

    Args:
        model: as in `worst_loss`.
        loss_fn: as in `worst_loss`.
        data: as in `worst_loss`.
        probes: at least 2, for the error bar.
        seed: of the signs, which are the same on every device.

    Returns:
        A `Trace`.

    Raises:
        TypeError: as in `worst_loss`; also for fewer than 2 probes, or a product that is not finite.
        ValueError: as in `worst_loss`; also for fewer than 2 probes, or a product that is not finite.

    >>> model = nn.Linear(2, 1, bias=False).double()
    >>> data = [(torch.diag(torch.tensor([1.0, 3.0])).double(), torch.zeros(2, 1).double())]  # L(w) = (w_1^2 + 9 w_2^2) / 2
    >>> found = hessian_trace(model, nn.MSELoss(), data, probes=2)
    >>> round(found.value, 9), found.standard_error
    (10.0, 0.0)
    """
    if positive_integer(probes, "probes", "hessian_trace") < 2:
        raise ValueError(f"hessian_trace: probes={probes}; the error bar needs at least 2")
    generator = torch.Generator("cpu").manual_seed(check_seed(seed, "hessian_trace"))
    with looking(model, loss_fn, data, "hessian_trace") as (objective, batches):
        hessian, weights = Hessian(objective, batches), objective.held.weights
        found = []
        for _ in range(probes):
            bits = [torch.randint(0, 2, p.shape, generator=generator, dtype=torch.float64, device="cpu") for p in weights]
            found.append(quadratic_form(hessian, [(2 * b - 1).to(p.device) for b, p in zip(bits, weights, strict=True)]))
    mean = math.fsum(found) / probes
    spread = math.fsum((q - mean) ** 2 for q in found) / (probes - 1)
    return Trace(mean, math.sqrt(spread / probes), probes, hessian.method)
