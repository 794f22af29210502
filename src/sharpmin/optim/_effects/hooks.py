"""Bases that step in a hook of the backward pass, as LOMO does: there is no gradient left that could be taken at w + e."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

IN_HOOK = (
    ". An optimizer that steps in such a hook (register_post_accumulate_grad_hook), as LOMO does, cannot be used in SAM, which "
    "needs the gradient at w + e before anything steps: use one that steps in step(), such as SGD or AdamW, and remove the hook"
)

Writes = list[tuple[Tensor, int]]
"""Weights, each with how often it has been written to."""


def hooked(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those with a hook that runs as soon as their gradient is there.

    >>> import torch
    >>> a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    >>> handle = b.register_post_accumulate_grad_hook(lambda p: None)
    >>> [p is b for p in hooked([a, b])]
    [True]
    """
    return [p for p in parameters if getattr(p, "_post_accumulate_grad_hooks", None)]


def writes(parameters: Iterable[Tensor]) -> Writes:
    """What tells later whether a hook has written to its weight, as far as torch counts it: not by `p.data`."""
    return [(p, p._version) for p in hooked(parameters)]


def have_written(before: Writes) -> bool:
    """Whether one of these weights has been written to since."""
    return any(p._version != version for p, version in before)
