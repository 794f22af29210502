"""Detects bases that step in a backward hook, as LOMO does: they step before SAM can take the gradient at w + e."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

IN_HOOK = (
    ". An optimizer that steps in such a hook (register_post_accumulate_grad_hook), as LOMO does, cannot be used in SAM, which "
    "needs the gradient at w + e before anything steps: use one that steps in step(), such as SGD or AdamW, and remove the hook"
)

Writes = list[tuple[Tensor, int]]
"""Weights with their version counters."""


def hooked(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters with a hook that runs as soon as their gradient is accumulated.

    >>> import torch
    >>> a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    >>> handle = b.register_post_accumulate_grad_hook(lambda p: None)
    >>> [p is b for p in hooked([a, b])]
    [True]
    """
    return [p for p in parameters if getattr(p, "_post_accumulate_grad_hooks", None)]


def writes(parameters: Iterable[Tensor]) -> Writes:
    """The version counter of each hooked weight, to detect later writes; torch does not count writes by `p.data`."""
    return [(p, p._version) for p in hooked(parameters)]


def have_written(before: Writes) -> bool:
    """Whether one of these weights has been written to since `before`."""
    return any(p._version != version for p, version in before)
