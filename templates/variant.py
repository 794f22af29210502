"""The change to SAM, in one line."""

# Copy to src/sharpmin/optim/variants/_my_sam.py and add the import line to that folder's __init__.py. A variant is one
# composition of a schedule, a geometry, an ascent and a descent. If it needs a new one of these, put that class into the same
# file, as in _gsam.py (a descent), _friendly_sam.py (an ascent) and _spectral_sam.py (a geometry). `when` says in a line when
# to use it and how good the evidence is; its equations in NumPy go to tests/optim/variants_by_hand.py.

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import FORET_2021
from sharpmin.core.rho import Cosine
from sharpmin.optim._settings import Options
from sharpmin.optim.sam import SAM
from sharpmin.optim.variants._registry import variant


@variant(FORET_2021, when="what it is good for; who has seen it, on what")
def my_sam(base: Optimizer, rho: float = 0.05, *, steps: int, **options: Unpack[Options]) -> SAM:
    """e = rho_t g / ||g|| with a cosine decay of rho_t (author, year, title, arXiv id).

    Args:
        base: the optimizer instance that steps.
        rho: the radius at the start.
        steps: the step at which rho_t reaches 0.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> my_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), steps=100).param_groups[0]["rho"]
    Cosine(rho=0.05, steps=100)
    """
    return SAM(base, Cosine(rho, steps), **options)
