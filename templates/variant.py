"""What the variant changes, in one line."""

# Copy to src/sharpmin/optim/variants/_my_sam.py and add the import line to that folder's __init__.py. A variant is one
# composition of a schedule, a geometry, ...; if it needs a class, the concept behind it is missing: say so in an issue.

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import FORET_2021
from sharpmin.core.rho import Cosine
from sharpmin.optim._settings import Options
from sharpmin.optim.sam import SAM
from sharpmin.optim.variants._registry import variant


@variant(FORET_2021)
def my_sam(base: Optimizer, rho: float = 0.05, *, steps: int, **options: Unpack[Options]) -> SAM:
    """e = rho_t g / ||g|| with a cosine decay of rho_t (author, year, title, arXiv id).

    Args:
        base: the optimizer instance that steps.
        rho: the radius at the start.
        steps: where it has fallen to 0.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> my_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), steps=100).param_groups[0]["rho"]
    Cosine(rho=0.05, steps=100)
    """
    return SAM(base, Cosine(rho, steps), **options)
